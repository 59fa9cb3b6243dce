/* Address text <-> a number and a family, by one strict reading: what this refuses is no address.
 *
 * IPv4 is four decimal numbers of at most three digits without leading zeros; octal, hexadecimal, short forms and a lone
 * number are refused, since readers differ about them. IPv6 is as in RFC 4291, 2.2; a zone ("%eth0") says on which link
 * and not who, and is stripped, if it is of printable ASCII; ::ffff:a.b.c.d is the IPv4 address that it carries. Brackets and ports are not read here. */
#ifndef PENSTOCK_ADDRESS_PARSE_H
#define PENSTOCK_ADDRESS_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Longer text is no address: 45 characters, and a zone. */
#define PS_ADDRESS_MOST 128
/* What ps_write_address may need: 39 characters of IPv6. */
#define PS_ADDRESS_TEXT 40

typedef struct {
    uint64_t high, low;
} ps_number;

typedef struct {
    ps_number number; /* of IPv4: high is 0, low below 2^32 */
    bool six;
    bool mapped; /* IPv4, written as ::ffff:a.b.c.d */
} ps_address;

static inline int ps_number_compare(ps_number a, ps_number b) {
    return a.high != b.high ? (a.high < b.high ? -1 : 1) : (a.low > b.low) - (a.low < b.low);
}

/* The bits of a prefix of `length` (0-128). */
static inline ps_number ps_number_mask(unsigned length) {
    return (ps_number){
        length == 0 ? 0 : length >= 64 ? UINT64_MAX : UINT64_MAX << (64 - length),
        length <= 64 ? 0 : length >= 128 ? UINT64_MAX : UINT64_MAX << (128 - length),
    };
}

/* The whole text as dotted IPv4. */
static inline bool ps_read_four(const char *text, size_t count, uint32_t *out) {
    if (count < 7 || count > 15)
        return false;
    uint32_t value = 0, part = 0;
    unsigned digits = 0, dots = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit <= 9) {
            if (digits == 3 || (digits && part == 0))
                return false;
            part = part * 10 + digit;
            digits++;
        } else {
            if (text[i] != '.' || digits == 0 || part > 255 || ++dots == 4)
                return false;
            value = value << 8 | part;
            part = digits = 0;
        }
    }
    if (dots != 3 || digits == 0 || part > 255)
        return false;
    *out = value << 8 | part;
    return true;
}

/* 0-15, or more for what is no hexadecimal digit. */
static inline unsigned ps_hex_digit(char sign) {
    unsigned digit = (unsigned)(unsigned char)sign - '0', letter = ((unsigned)(unsigned char)sign | 0x20) - 'a';
    return digit <= 9 ? digit : letter <= 5 ? letter + 10 : 16;
}

/* The whole text as IPv6 without a zone. */
static inline bool ps_read_six(const char *text, size_t count, ps_number *out) {
    uint16_t groups[8] = {0};
    int filled = 0, gap = -1; /* groups read; before which of them "::" stands */
    size_t at = 0;
    if (count < 2 || count > 45)
        return false;
    if (text[0] == ':') {
        if (text[1] != ':')
            return false;
        gap = 0, at = 2;
    }
    while (at < count) { /* ends: each turn reads at least one character */
        if (filled == 8)
            return false;
        size_t from = at;
        uint32_t value = 0;
        for (unsigned digit; at < count && at - from < 5 && (digit = ps_hex_digit(text[at])) < 16; at++)
            value = value << 4 | digit;
        if (at < count && text[at] == '.') {
            uint32_t four;
            if (filled > 6 || !ps_read_four(text + from, count - from, &four))
                return false;
            groups[filled++] = (uint16_t)(four >> 16);
            groups[filled++] = (uint16_t)four;
            break;
        }
        if (at == from || at - from > 4)
            return false;
        groups[filled++] = (uint16_t)value;
        if (at == count)
            break;
        if (text[at++] != ':' || at == count)
            return false;
        if (text[at] == ':') {
            if (gap >= 0)
                return false;
            gap = filled;
            at++;
        }
    }
    if (gap < 0 ? filled != 8 : filled > 7)
        return false;
    if (gap >= 0) {
        int moved = filled - gap;
        memmove(groups + 8 - moved, groups + gap, (size_t)moved * sizeof groups[0]);
        memset(groups + gap, 0, (size_t)(8 - filled) * sizeof groups[0]);
    }
    out->high = (uint64_t)groups[0] << 48 | (uint64_t)groups[1] << 32 | (uint64_t)groups[2] << 16 | groups[3];
    out->low = (uint64_t)groups[4] << 48 | (uint64_t)groups[5] << 32 | (uint64_t)groups[6] << 16 | groups[7];
    return true;
}

/* The whole text as an address of either family, with or without a zone. */
static inline bool ps_read_address(const char *text, size_t count, ps_address *out) {
    uint32_t four;
    if (ps_read_four(text, count, &four)) {
        *out = (ps_address){{0, four}, false, false};
        return true;
    }
    if (count > PS_ADDRESS_MOST)
        return false;
    const char *zone = (const char *)memchr(text, '%', count);
    if (zone) {
        size_t named = count - (size_t)(zone - text) - 1;
        if (named == 0)
            return false;
        for (const char *sign = zone + 1; sign < zone + 1 + named; sign++)
            if (*sign <= ' ' || *sign >= 0x7f || *sign == '%' || *sign == '/') /* a byte above 127 is one or the other */
                return false;
        count = (size_t)(zone - text);
    }
    ps_number number;
    if (!ps_read_six(text, count, &number))
        return false;
    bool mapped = number.high == 0 && number.low >> 32 == 0xffff;
    if (mapped)
        number.low &= UINT32_MAX;
    *out = (ps_address){number, !mapped, mapped};
    return true;
}

static inline size_t ps_write_decimal(unsigned value, char *out) {
    size_t count = 0;
    if (value >= 100)
        out[count++] = (char)('0' + value / 100);
    if (value >= 10)
        out[count++] = (char)('0' + value / 10 % 10);
    out[count++] = (char)('0' + value % 10);
    return count;
}

/* The one text of an address (RFC 5952, groups in hexadecimal throughout); returns its length, at most PS_ADDRESS_TEXT - 1. */
static inline size_t ps_write_address(ps_number number, bool six, char *out) {
    size_t count = 0;
    if (!six) {
        for (int shift = 24; shift >= 0; shift -= 8) {
            count += ps_write_decimal((unsigned)(number.low >> shift & 255), out + count);
            if (shift)
                out[count++] = '.';
        }
        return count;
    }
    unsigned groups[8];
    int best = -1, most = 1; /* a single group of zeros is written as it is */
    for (int i = 0, run = 0; i < 8; i++) {
        groups[i] = (unsigned)((i < 4 ? number.high : number.low) >> (48 - i % 4 * 16) & 0xffff);
        run = groups[i] ? 0 : run + 1;
        if (run > most)
            most = run, best = i - run + 1;
    }
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            out[count++] = ':', out[count++] = ':';
            i += most - 1;
            continue;
        }
        if (count && out[count - 1] != ':')
            out[count++] = ':';
        for (int shift = 12, begun = 0; shift >= 0; shift -= 4) {
            unsigned digit = groups[i] >> shift & 15;
            begun |= digit != 0 || shift == 0;
            if (begun)
                out[count++] = "0123456789abcdef"[digit];
        }
    }
    return count;
}

#endif
