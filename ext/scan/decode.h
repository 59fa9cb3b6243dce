/* One layer of encoding taken off: percent and its doubles, %uXXXX, \uXXXX, \xXX, HTML entities, overlong UTF-8, full-width
 * letters, plus for space; and base64. Never longer than what it is made from, and each byte knows where it came from. */
#ifndef PENSTOCK_DECODE_H
#define PENSTOCK_DECODE_H

#include "text.h"
#include <stdbool.h>
#include <string.h>

#define PS_LAYERS 5 /* as given, and what is below it */

typedef struct {
    uint8_t bytes[PS_WINDOW];
    uint32_t from[PS_WINDOW];
} ps_layer;

/* Names of characters that matter to a scanner; each longer than what it stands for. */
static const struct {
    const char *name;
    uint8_t stands_for;
} PS_ENTITIES[] = {
    {"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}, {"nbsp", ' '}, {"tab", '\t'}, {"newline", '\n'},
    {"colon", ':'}, {"semi", ';'}, {"comma", ','}, {"period", '.'}, {"sol", '/'}, {"bsol", '\\'}, {"lpar", '('}, {"rpar", ')'},
    {"lbrack", '['}, {"lsqb", '['}, {"rsqb", ']'}, {"lcub", '{'}, {"rcub", '}'}, {"equals", '='}, {"num", '#'}, {"excl", '!'},
    {"grave", '`'}, {"dollar", '$'}, {"percnt", '%'}, {"plus", '+'}, {"ast", '*'}, {"vert", '|'}, {"quest", '?'}, {"commat", '@'},
};

/* A character below 128, also when it is written wide or with a slash of another alphabet; 0 for what means nothing here. */
static inline int ps_narrow(uint32_t code) {
    if (code < 0x80)
        return (int)code;
    if (code >= 0xff01 && code <= 0xff5e)
        return (int)(code - 0xfee0);
    switch (code) {
    case 0xa0: case 0x2000: case 0x2002: case 0x2003: case 0x2009: case 0x202f: case 0x3000: return ' ';
    case 0x2044: case 0x2215: case 0x29f8: return '/';
    case 0x2216: case 0x29f5: return '\\';
    case 0x2024: case 0xfe52: return '.';
    case 0x2018: case 0x2019: case 0x02b9: case 0x02bc: case 0x2032: return '\'';
    case 0xbc: case 0x2039: case 0x3008: case 0xfe64: return '<';
    case 0xbe: case 0x203a: case 0x3009: case 0xfe65: return '>';
    default: return -1;
    }
}

/* Up to `most` hexadecimal digits; how many there were. */
static inline uint32_t ps_hex_number(const ps_text *in, uint32_t at, uint32_t most, uint32_t *number) {
    uint32_t count = 0;
    *number = 0;
    for (; count < most && at + count < in->length; count++) {
        int digit = ps_hex(in->bytes[at + count]);
        if (digit < 0)
            break;
        *number = *number << 4 | (uint32_t)digit;
    }
    return count;
}

/* An entity at '&': how many bytes it takes, 0 if it is none; numbers may have leading zeros and need no semicolon. */
static inline uint32_t ps_entity(const ps_text *in, uint32_t at, uint32_t *code) {
    uint32_t i = at + 1;
    if (i < in->length && in->bytes[i] == '#') {
        i++;
        bool hex = i < in->length && (in->bytes[i] | 0x20) == 'x';
        uint32_t first = i += hex, number = 0;
        for (; i < in->length && i < first + 12; i++) {
            int digit = ps_hex(in->bytes[i]);
            if (digit < 0 || (!hex && digit > 9))
                break;
            number = number > 0x10ffff ? number : number * (hex ? 16 : 10) + (uint32_t)digit;
        }
        if (i == first)
            return 0;
        *code = number;
    } else {
        uint32_t k = 0, names = sizeof PS_ENTITIES / sizeof *PS_ENTITIES;
        if (i >= in->length || !ps_is_letter(in->bytes[i]))
            return 0;
        for (; k < names; k++) {
            uint32_t length = (uint32_t)strlen(PS_ENTITIES[k].name);
            if (ps_at(in, i, PS_ENTITIES[k].name) && i + length < in->length && in->bytes[i + length] == ';') {
                i += length;
                break;
            }
        }
        if (k == names)
            return 0;
        *code = PS_ENTITIES[k].stands_for;
    }
    return i + (i < in->length && in->bytes[i] == ';') - at;
}

/* Several bytes that mean one character below 128: overlong UTF-8 of any length, or a wide form. 0 if they do not. */
static inline uint32_t ps_multibyte(const ps_text *in, uint32_t at, int *narrow) {
    uint8_t lead = in->bytes[at];
    uint32_t length = lead >= 0xfc ? 6 : lead >= 0xf8 ? 5 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
    if (length == 0 || at + length > in->length)
        return 0;
    uint32_t code = lead & (0x7fu >> length);
    for (uint32_t i = 1; i < length; i++) {
        if ((in->bytes[at + i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (in->bytes[at + i] & 0x3fu);
    }
    *narrow = ps_narrow(code);
    return *narrow < 0 ? 0 : length;
}

static inline void ps_layer_put(ps_layer *out, uint32_t *length, const ps_text *in, uint32_t at, uint32_t code) {
    if (code >= 0x80 && code <= 0xff) { /* a byte of something longer, or Latin-1: the next layer sees */
        out->bytes[*length] = (uint8_t)code;
    } else {
        int narrow = ps_narrow(code);
        out->bytes[*length] = narrow < 0 ? 0xbf : (uint8_t)narrow;
    }
    out->from[(*length)++] = ps_origin(in, at);
}

/* Takes one layer off. False, with nothing said about `out`, when there was none. */
static inline bool ps_decode(const ps_text *in, ps_layer *out, ps_text *text, bool plus_is_space) {
    uint32_t length = 0, code = 0;
    bool changed = false;
    for (uint32_t i = 0; i < in->length;) {
        uint8_t c = in->bytes[i];
        uint32_t used = 0;
        int narrow = 0;
        if (c == '%' && i + 2 < in->length) {
            if ((in->bytes[i + 1] | 0x20) == 'u')
                used = ps_hex_number(in, i + 2, 4, &code) == 4 ? 6 : 0;
            else
                used = ps_hex_number(in, i + 1, 2, &code) == 2 ? 3 : 0;
        } else if (c == '\\' && i + 3 < in->length) {
            if (in->bytes[i + 1] == 'u')
                used = ps_hex_number(in, i + 2, 4, &code) == 4 ? 6 : 0;
            else if (in->bytes[i + 1] == 'x')
                used = ps_hex_number(in, i + 2, 2, &code) == 2 ? 4 : 0;
            if (!used && in->bytes[i + 1] == 'u' && in->bytes[i + 2] == '{') {
                used = ps_hex_number(in, i + 3, 6, &code);
                used = used && i + 3 + used < in->length && in->bytes[i + 3 + used] == '}' ? used + 4 : 0;
            }
        } else if (c == '&') {
            used = ps_entity(in, i, &code);
        } else if (c == '+' && plus_is_space) {
            used = 1;
            code = ' ';
        } else if (c >= 0xc0) {
            used = ps_multibyte(in, i, &narrow);
            code = (uint32_t)narrow;
        }
        if (used) {
            changed = true;
        } else {
            used = 1;
            code = c;
        }
        ps_layer_put(out, &length, in, i, code);
        i += used;
    }
    *text = (ps_text){out->bytes, out->from, 0, length, in->end};
    return changed;
}

static inline int ps_base64_digit(uint8_t c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' || c == '-' || c == ' ' ? 62 : c == '/' || c == '_' ? 63 : -1; /* a space: a plus that was decoded */
}

#define PS_BASE64_LEAST 16 /* shorter ones are words more often than they are encoded */

/* The whole layer as base64 of either alphabet. False unless what comes out is text with something in it to scan. */
static inline bool ps_decode_base64(const ps_text *in, ps_layer *out, ps_text *text) {
    uint32_t end = in->length, length = 0, bits = 0, held = 0;
    uint16_t has = 0;
    while (end && (in->bytes[end - 1] == '=' || ps_is_space(in->bytes[end - 1])))
        end--;
    if (end < PS_BASE64_LEAST || end % 4 == 1)
        return false;
    for (uint32_t i = 0; i < end; i++) {
        int digit = ps_base64_digit(in->bytes[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            uint8_t c = (uint8_t)(bits >> (held -= 8));
            if (c >= 0x80 || (c < ' ' && c != '\n' && c != '\r' && c != '\t'))
                return false;
            has |= ps_class_of(c);
            out->bytes[length] = c;
            out->from[length++] = ps_origin(in, i);
        }
    }
    *text = (ps_text){out->bytes, out->from, 0, length, in->end};
    return has & ~(PS_HAS_LETTER | PS_HAS_DIGIT);
}

#endif
