/* One layer of a value: its bytes, and where in the value as given each of them came from. */
#ifndef PENSTOCK_TEXT_H
#define PENSTOCK_TEXT_H

#include <stdint.h>

#define PS_WINDOW 2048 /* bytes looked at in one go: no layer is longer, so every buffer is on the stack */

typedef struct {
    const uint8_t *bytes;
    const uint32_t *from; /* NULL: byte i came from base + i */
    uint32_t base, length;
    uint32_t end; /* where the window ends in the value as given */
} ps_text;

static inline uint32_t ps_origin(const ps_text *text, uint32_t at) {
    if (at >= text->length)
        return text->end;
    return text->from ? text->from[at] : text->base + at;
}

/* What kinds of bytes a value has decides which scanners it needs at all. */
enum {
    PS_HAS_LETTER = 1 << 0,
    PS_HAS_DIGIT = 1 << 1,
    PS_HAS_SPACE = 1 << 2,
    PS_HAS_PLAIN = 1 << 3,   /* , @ _ ? and the like: mean nothing to any scanner */
    PS_HAS_DOT = 1 << 4,
    PS_HAS_DASH = 1 << 5,
    PS_HAS_SLASH = 1 << 6,   /* / and backslash */
    PS_HAS_QUOTE = 1 << 7,
    PS_HAS_PAREN = 1 << 8,
    PS_HAS_OPERATOR = 1 << 9, /* = ! ^ ~ * */
    PS_HAS_ANGLE = 1 << 10,
    PS_HAS_SHELL = 1 << 11,  /* | & ; ` $ and newline */
    PS_HAS_ESCAPE = 1 << 12, /* % and what else only decoding understands */
    PS_HAS_PLUS = 1 << 13,
    PS_HAS_HASH = 1 << 14,
    PS_HAS_COLON = 1 << 15,
};

static inline int ps_is_letter(uint8_t c) { return (uint8_t)((c | 0x20) - 'a') < 26; }
static inline int ps_is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }
static inline int ps_in_word(uint8_t c) { return ps_is_letter(c) || ps_is_digit(c) || c == '_'; }
static inline int ps_is_space(uint8_t c) { return c <= ' ' || c == 0x7f; }
static inline uint8_t ps_lower(uint8_t c) { return (uint8_t)(c - 'A') < 26 ? c | 0x20 : c; }

static inline int ps_hex(uint8_t c) {
    if (ps_is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline uint16_t ps_class_of(uint8_t c) {
    if (ps_is_letter(c))
        return PS_HAS_LETTER;
    if (ps_is_digit(c))
        return PS_HAS_DIGIT;
    switch (c) {
    case ' ': case '\t': return PS_HAS_SPACE;
    case '.': return PS_HAS_DOT;
    case '-': return PS_HAS_DASH;
    case '/': return PS_HAS_SLASH;
    case '\\': return PS_HAS_SLASH | PS_HAS_ESCAPE;
    case '\'': case '"': return PS_HAS_QUOTE;
    case '(': case ')': case '[': case ']': case '{': case '}': return PS_HAS_PAREN;
    case '=': case '!': case '^': case '~': case '*': return PS_HAS_OPERATOR;
    case '<': case '>': return PS_HAS_ANGLE | PS_HAS_OPERATOR;
    case '|': case ';': case '`': case '$': return PS_HAS_SHELL;
    case '&': return PS_HAS_SHELL | PS_HAS_ESCAPE;
    case '\n': case '\r': return PS_HAS_SHELL | PS_HAS_SPACE;
    case '%': return PS_HAS_ESCAPE;
    case '+': return PS_HAS_PLUS;
    case '#': return PS_HAS_HASH;
    case ':': return PS_HAS_COLON;
    case ',': case '@': case '_': case '?': return PS_HAS_PLAIN;
    default: return c >= 0x80 || c < ' ' ? PS_HAS_ESCAPE : PS_HAS_PLAIN;
    }
}

/* Does the lower-case word stand at `at`, in whatever case? */
static inline int ps_at(const ps_text *text, uint32_t at, const char *word) {
    for (; *word; word++, at++)
        if (at >= text->length || ps_lower(text->bytes[at]) != (uint8_t)*word)
            return 0;
    return 1;
}

#endif
