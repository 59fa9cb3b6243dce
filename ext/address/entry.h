/* What a list of addresses consists of: an address, a network or a range, as numbers and as it was written.
 *
 * Most entries are spelt in the one canonical way, and a single byte (the code) is enough to write them again from any
 * address that they cover. The others keep their text. */
#ifndef PENSTOCK_ADDRESS_ENTRY_H
#define PENSTOCK_ADDRESS_ENTRY_H

#include "parse.h"

/* A code up to 128 is the length of a prefix, as written after the slash. */
enum { PS_CODE_PLAIN = 129, PS_CODE_ODD = 130, PS_CODE_NONE = 255 };

/* Why a line or an entry is refused; ps_reason_text tells it to people. */
typedef enum {
    PS_TAKEN,
    PS_NOT_ADDRESS,
    PS_BAD_LENGTH,
    PS_HOST_BITS,
    PS_BAD_RANGE,
    PS_LONG_LINE,
    PS_TRAILING,
    PS_NO_COUNT,
    PS_EXCEPTION,
} ps_reason;

static inline const char *ps_reason_text(ps_reason reason) {
    switch (reason) {
    case PS_TAKEN: return "taken";
    case PS_BAD_LENGTH: return "the prefix length must be a number, 0 to 32 for IPv4 and 0 to 128 for IPv6";
    case PS_HOST_BITS: return "the address has bits beyond the prefix length";
    case PS_BAD_RANGE: return "a range must be of one family and not end before it begins";
    case PS_LONG_LINE: return "the line is longer than 512 bytes";
    case PS_TRAILING: return "what follows the address is neither a count nor a comment";
    case PS_NO_COUNT: return "level= was given, and the line has no count";
    case PS_EXCEPTION: return "exceptions (nomatch) are not supported";
    default: return "not an address, a network or a range";
    }
}

typedef struct {
    ps_number first, last;
    uint32_t text; /* where the text of PS_CODE_ODD begins */
    uint8_t code;
    bool six;
} ps_entry;

static inline bool ps_is_blank(char sign) { return sign == ' ' || (sign >= '\t' && sign <= '\r' && sign != '\n'); }

static inline void ps_trim(const char **text, size_t *count) {
    while (*count && ps_is_blank(**text))
        ++*text, --*count;
    while (*count && ps_is_blank((*text)[*count - 1]))
        --*count;
}

/* Whether the text is what ps_write_address writes. */
static inline bool ps_is_canonical(const char *text, size_t count, ps_address address) {
    char own[PS_ADDRESS_TEXT];
    return !address.mapped && ps_write_address(address.number, address.six, own) == count && memcmp(own, text, count) == 0;
}

/* "address", "network/length" or "first-last", blanks around the hyphen allowed. Sets all of `out` but its text. */
static inline ps_reason ps_read_entry(const char *text, size_t count, ps_entry *out) {
    ps_address address;
    const char *mark = (const char *)memchr(text, '/', count), *hyphen = (const char *)memchr(text, '-', count);
    memset(out, 0, sizeof *out);
    if (!mark && !hyphen) {
        if (!ps_read_address(text, count, &address))
            return PS_NOT_ADDRESS;
        out->first = out->last = address.number;
        out->six = address.six;
        out->code = ps_is_canonical(text, count, address) ? PS_CODE_PLAIN : PS_CODE_ODD;
        return PS_TAKEN;
    }
    if (mark) {
        size_t written = (size_t)(mark - text), digits = count - written - 1;
        if (memchr(text, '%', written) || !ps_read_address(text, written, &address))
            return PS_NOT_ADDRESS;
        unsigned length = 0, widest = address.six || address.mapped ? 128 : 32, least = address.mapped ? 96 : 0;
        if (digits == 0 || digits > 3 || (digits > 1 && mark[1] == '0'))
            return PS_BAD_LENGTH;
        for (size_t i = 1; i <= digits; i++) {
            unsigned digit = (unsigned)(unsigned char)mark[i] - '0';
            if (digit > 9)
                return PS_BAD_LENGTH;
            length = length * 10 + digit;
        }
        if (length > widest || length < least)
            return PS_BAD_LENGTH;
        ps_number mask = ps_number_mask(address.six ? length : length - least + 96), number = address.number;
        mask.high = address.six ? mask.high : UINT64_MAX;
        if ((number.high & ~mask.high) || (number.low & ~mask.low))
            return PS_HOST_BITS;
        out->first = number;
        out->last = (ps_number){number.high | ~mask.high, number.low | ~mask.low};
        out->six = address.six;
        out->code = ps_is_canonical(text, written, address) ? (uint8_t)length : PS_CODE_ODD;
        return PS_TAKEN;
    }
    const char *left = text, *right = hyphen + 1;
    size_t left_count = (size_t)(hyphen - text), right_count = count - left_count - 1;
    ps_address last;
    ps_trim(&left, &left_count), ps_trim(&right, &right_count);
    if (memchr(text, '%', count)) /* a hyphen may belong to a zone, and a zone to no range */
        return PS_NOT_ADDRESS;
    if (!ps_read_address(left, left_count, &address) || !ps_read_address(right, right_count, &last))
        return PS_NOT_ADDRESS;
    if (address.six != last.six || ps_number_compare(address.number, last.number) > 0)
        return PS_BAD_RANGE;
    out->first = address.number, out->last = last.number;
    out->six = address.six;
    out->code = PS_CODE_ODD;
    return PS_TAKEN;
}

/* What ps_write_entry may need: two addresses and a hyphen, or an address and a length. */
#define PS_ENTRY_TEXT (2 * PS_ADDRESS_TEXT + 4)

/* The canonical text of an entry: "1.2.3.4", "10.0.0.0/8", "1.2.3.4-1.2.3.9"; a network of one address is the address, and
 * a range that is a network is that network. Returns its length. */
static inline size_t ps_write_entry(const ps_entry *entry, char *out) {
    size_t count = ps_write_address(entry->first, entry->six, out);
    ps_number differ = {entry->first.high ^ entry->last.high, entry->first.low ^ entry->last.low};
    if ((differ.high | differ.low) == 0)
        return count;
    unsigned width = entry->six ? 128 : 32, length = width;
    for (ps_number rest = differ; rest.high | rest.low; length--) /* ends: at most 128 shifts */
        rest.low = rest.low >> 1 | rest.high << 63, rest.high >>= 1;
    ps_number mask = ps_number_mask(entry->six ? length : length + 96);
    bool network = (entry->first.high & (entry->six ? ~mask.high : 0)) == 0 && (entry->first.low & ~mask.low) == 0 &&
                   (entry->last.high | (entry->six ? mask.high : UINT64_MAX)) == UINT64_MAX &&
                   (entry->last.low | mask.low) == UINT64_MAX;
    if (network) {
        out[count++] = '/';
        return count + ps_write_decimal(length, out + count);
    }
    out[count++] = '-';
    return count + ps_write_address(entry->last, entry->six, out + count);
}

#endif
