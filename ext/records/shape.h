/* The shape of a request as a row of numbers in 0 .. 1: lengths, depths, shares and counts of kinds of signs.
 *
 * Texts come as code points of 1, 2 or 4 bytes, may be anything, and are read once: at most PS_SHAPE_SIGNS of each; longer
 * ones count with their whole length. One layer of %XX is read as what it stands for, since that is what the
 * application will see; lengths are those of the text as sent. Nothing is kept, so any thread may call. */
#ifndef PENSTOCK_SHAPE_H
#define PENSTOCK_SHAPE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PS_SHAPE_SIGNS 4096

typedef struct {
    const void *signs;
    size_t length;  /* in signs */
    unsigned width; /* bytes of a sign: 1, 2 or 4 */
} ps_text;

/* The columns of a row; penstock/guard/anomaly.py names them in this order. */
enum {
    PS_SHAPE_PATH_LENGTH,
    PS_SHAPE_PATH_DEPTH,
    PS_SHAPE_PATH_ODD,
    PS_SHAPE_QUERY_LENGTH,
    PS_SHAPE_PARAMETERS,
    PS_SHAPE_LONGEST_VALUE,
    PS_SHAPE_ODD_SIGNS,
    PS_SHAPE_ODD_SHARE,
    PS_SHAPE_DIGIT_SHARE,
    PS_SHAPE_SWITCHES,
    PS_SHAPE_ESCAPES,
    PS_SHAPE_BLANKS,
    PS_SHAPE_METHOD,
    PS_SHAPE_HEADERS,
    PS_SHAPE_AGENT,
    PS_SHAPE_FAILURES,
    PS_SHAPE_COLUMNS
};

enum { PS_SIGN_LETTER, PS_SIGN_DIGIT, PS_SIGN_PLAIN, PS_SIGN_BLANK, PS_SIGN_ODD, PS_SIGN_FOREIGN };

/* What a text is made of; counts of signs as they are after decoding. */
typedef struct {
    uint32_t kinds[6];
    uint32_t read;     /* signs counted in kinds */
    uint32_t switches; /* neighbours of different kinds */
    uint32_t escapes;  /* %XX */
    uint32_t slashes, parameters;
    size_t longest; /* value between = and &, in signs as sent */
} ps_shape;

static inline uint32_t ps_text_sign(const ps_text *text, size_t place) {
    switch (text->width) {
    case 1: return ((const uint8_t *)text->signs)[place];
    case 2: return ((const uint16_t *)text->signs)[place];
    default: return ((const uint32_t *)text->signs)[place];
    }
}

/* Plain are the signs that paths and ordinary values have; odd those that quote, bracket, join or begin something. */
static inline unsigned ps_sign_kind(uint32_t sign) {
    if ((sign | 32) - 'a' < 26)
        return PS_SIGN_LETTER;
    if (sign - '0' < 10)
        return PS_SIGN_DIGIT;
    if (sign >= 127 || sign < 32)
        return sign >= '\t' && sign <= '\r' ? PS_SIGN_ODD : PS_SIGN_FOREIGN;
    switch (sign) {
    case ' ': return PS_SIGN_BLANK;
    case '-': case '_': case '.': case '/': case ',': case ':': case '@': case '=': case '&': case '+': case '?': case '~':
        return PS_SIGN_PLAIN;
    default: return PS_SIGN_ODD;
    }
}

static inline unsigned ps_sign_hex(uint32_t sign) {
    if (sign - '0' < 10)
        return sign - '0';
    return (sign | 32) - 'a' < 6 ? (sign | 32) - 'a' + 10 : 16;
}

/* Whose row it is, as a number other than 0 (FNV-1a, 64 bits): of its length and first 256 signs, since keys that fall together
 * only share what they may teach. */
static inline uint64_t ps_text_hash(ps_text text) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ text.length;
    for (size_t i = 0; i < text.length && i < 256; i++)
        hash = (hash ^ ps_text_sign(&text, i)) * UINT64_C(0x100000001b3);
    return hash ? hash : 1;
}

/* query: + is a blank, and = & part parameters. */
static inline ps_shape ps_shape_of(ps_text text, bool query) {
    ps_shape shape = {{0}, 0, 0, 0, 0, 0, 0};
    size_t end = text.length < PS_SHAPE_SIGNS ? text.length : PS_SHAPE_SIGNS, value = 0;
    unsigned last = 6;
    for (size_t i = 0; i < end; i++) {
        uint32_t sign = ps_text_sign(&text, i);
        if (query && sign == '&') {
            shape.longest = i - value > shape.longest ? i - value : shape.longest;
            value = i + 1;
            shape.parameters++;
        } else if (query && sign == '=') {
            value = i + 1;
        } else if (query && sign == '+') {
            sign = ' ';
        } else if (sign == '/') {
            shape.slashes++;
        } else if (sign == '%' && i + 2 < end) {
            unsigned high = ps_sign_hex(ps_text_sign(&text, i + 1)), low = ps_sign_hex(ps_text_sign(&text, i + 2));
            if (high < 16 && low < 16) {
                sign = high << 4 | low;
                shape.escapes++;
                i += 2;
            }
        }
        unsigned kind = ps_sign_kind(sign);
        shape.kinds[kind]++;
        shape.read++;
        shape.switches += kind != last && last != 6;
        last = kind;
    }
    if (query && text.length) {
        shape.longest = text.length - value > shape.longest ? text.length - value : shape.longest;
        shape.parameters++;
    }
    return shape;
}

/* 0 for 0, 1 for `most` and above, by their logarithms. */
static inline float ps_shape_log(double count, double most) {
    double value = log2(1 + count) / log2(1 + most);
    return value < 1 ? (float)value : 1.0f;
}

static inline float ps_shape_part(uint32_t part, uint32_t whole) { return whole ? (float)part / (float)whole : 0.0f; }

/* method: 0 read, 1 write, 2 other; headers: how many, expected: how many of four that browsers send; failures: share of
 * the client's answers so far that were errors, 0 .. 1. */
typedef struct {
    ps_text path, query, agent;
    unsigned method, headers, expected;
    double failures;
} ps_asked;

static inline void ps_shape_row(const ps_asked *asked, float row[PS_SHAPE_COLUMNS]) {
    ps_shape path = ps_shape_of(asked->path, false), query = ps_shape_of(asked->query, true);
    uint32_t odd = query.kinds[PS_SIGN_ODD], foreign = query.kinds[PS_SIGN_FOREIGN] + path.kinds[PS_SIGN_FOREIGN];
    row[PS_SHAPE_PATH_LENGTH] = ps_shape_log((double)asked->path.length, 2048);
    row[PS_SHAPE_PATH_DEPTH] = ps_shape_log(path.slashes, 32);
    row[PS_SHAPE_PATH_ODD] = ps_shape_log(path.kinds[PS_SIGN_ODD] + path.kinds[PS_SIGN_FOREIGN] + path.kinds[PS_SIGN_BLANK], 32);
    row[PS_SHAPE_QUERY_LENGTH] = ps_shape_log((double)asked->query.length, 4096);
    row[PS_SHAPE_PARAMETERS] = ps_shape_log(query.parameters, 64);
    row[PS_SHAPE_LONGEST_VALUE] = ps_shape_log((double)query.longest, 2048);
    row[PS_SHAPE_ODD_SIGNS] = ps_shape_log(odd, 64);
    row[PS_SHAPE_ODD_SHARE] = ps_shape_part(odd, query.read);
    row[PS_SHAPE_DIGIT_SHARE] = ps_shape_part(query.kinds[PS_SIGN_DIGIT], query.read);
    row[PS_SHAPE_SWITCHES] = ps_shape_part(query.switches, query.read);
    row[PS_SHAPE_ESCAPES] = ps_shape_log(query.escapes + path.escapes + foreign, 128);
    row[PS_SHAPE_BLANKS] = ps_shape_part(query.kinds[PS_SIGN_BLANK], query.read);
    row[PS_SHAPE_METHOD] = (float)(asked->method < 2 ? asked->method : 2) / 2;
    row[PS_SHAPE_HEADERS] = ps_shape_log(asked->headers, 128) / 2 + (float)(asked->expected < 4 ? 4 - asked->expected : 0) / 8;
    row[PS_SHAPE_AGENT] = ps_shape_log((double)asked->agent.length, 1024);
    row[PS_SHAPE_FAILURES] = asked->failures > 0 ? (float)(asked->failures < 1 ? asked->failures : 1) : 0.0f;
}

#endif
