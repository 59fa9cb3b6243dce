/* Key bytes and a secret -> a 64-bit fingerprint, never one of the two reserved values.
 *
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012; the reduced-round
 * form that CPython, Rust and Ruby use for their tables), so that who chooses keys cannot choose slots.
 *
 * What is hashed is the payload followed by one byte for its type, so "1", b"1" and 1 are three keys. A tuple
 * is the concatenation of its items as {payload, type, length in 8 bytes}, closed by a type of its own: read
 * from its end it can be parsed in one way only, so ("a", "bc") and ("ab", "c") are two keys. */
#ifndef PENSTOCK_FINGERPRINT_H
#define PENSTOCK_FINGERPRINT_H

#include "../platform/memory.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t k0, k1;
} ps_secret;

enum { PS_KEY_STR = 's', PS_KEY_BYTES = 'b', PS_KEY_INT = 'i', PS_KEY_TUPLE = 't' };

/* Key words of the table that mean no key; a hash that lands on them is moved up by two. */
#define PS_FINGERPRINT_RESERVED 2

typedef struct {
    uint64_t v0, v1, v2, v3;
    uint64_t tail;   /* bytes not yet compressed, lowest first */
    uint64_t length; /* bytes so far */
} ps_sip;

#define PS_ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define PS_SIP_ROUND(s)                                                                                                \
    do {                                                                                                               \
        (s)->v0 += (s)->v1, (s)->v2 += (s)->v3;                                                                        \
        (s)->v1 = PS_ROTATE((s)->v1, 13), (s)->v3 = PS_ROTATE((s)->v3, 16);                                            \
        (s)->v1 ^= (s)->v0, (s)->v3 ^= (s)->v2;                                                                        \
        (s)->v0 = PS_ROTATE((s)->v0, 32);                                                                              \
        (s)->v2 += (s)->v1, (s)->v0 += (s)->v3;                                                                        \
        (s)->v1 = PS_ROTATE((s)->v1, 17), (s)->v3 = PS_ROTATE((s)->v3, 21);                                            \
        (s)->v1 ^= (s)->v2, (s)->v3 ^= (s)->v0;                                                                        \
        (s)->v2 = PS_ROTATE((s)->v2, 32);                                                                              \
    } while (0)

/* Eight bytes, lowest first, whatever the machine. */
static inline uint64_t ps_load_le(const uint8_t *bytes) {
#if defined(_MSC_VER) || (defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
    uint64_t value;
    memcpy(&value, bytes, 8);
    return value;
#else
    return (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16 | (uint64_t)bytes[3] << 24 |
           (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40 | (uint64_t)bytes[6] << 48 | (uint64_t)bytes[7] << 56;
#endif
}

/* The `count` (0-7) bytes at `bytes`, lowest first, in at most two loads. */
static inline uint64_t ps_load_few(const uint8_t *bytes, size_t count) {
    if (count >= 4) {
        uint32_t low, high;
        memcpy(&low, bytes, 4);
        memcpy(&high, bytes + count - 4, 4);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        low = __builtin_bswap32(low), high = __builtin_bswap32(high);
#endif
        return low | (uint64_t)high << ((count - 4) * 8);
    }
    if (count == 0)
        return 0;
    return (uint64_t)bytes[0] | (uint64_t)bytes[count >> 1] << (count >> 1) * 8 |
           (uint64_t)bytes[count - 1] << (count - 1) * 8;
}

static inline void ps_sip_begin(ps_sip *s, const ps_secret *secret) {
    s->v0 = secret->k0 ^ UINT64_C(0x736f6d6570736575);
    s->v1 = secret->k1 ^ UINT64_C(0x646f72616e646f6d);
    s->v2 = secret->k0 ^ UINT64_C(0x6c7967656e657261);
    s->v3 = secret->k1 ^ UINT64_C(0x7465646279746573);
    s->tail = 0;
    s->length = 0;
}

static inline void ps_sip_block(ps_sip *s, uint64_t block) {
    s->v3 ^= block;
    PS_SIP_ROUND(s);
    s->v0 ^= block;
}

static inline void ps_sip_byte(ps_sip *s, uint8_t byte) {
    s->tail |= (uint64_t)byte << (s->length & 7) * 8;
    if ((++s->length & 7) == 0) {
        ps_sip_block(s, s->tail);
        s->tail = 0;
    }
}

static inline void ps_sip_bytes(ps_sip *s, const void *data, size_t count) {
    const uint8_t *bytes = (const uint8_t *)data;
    while (count && (s->length & 7))
        ps_sip_byte(s, *bytes++), count--;
    for (; count >= 8; bytes += 8, count -= 8, s->length += 8)
        ps_sip_block(s, ps_load_le(bytes));
    if (count) {
        s->tail = ps_load_few(bytes, count);
        s->length += count;
    }
}

static inline uint64_t ps_sip_finish(ps_sip *s) {
    ps_sip_block(s, s->length << 56 | s->tail);
    s->v2 ^= 0xff;
    PS_SIP_ROUND(s);
    PS_SIP_ROUND(s);
    PS_SIP_ROUND(s);
    uint64_t hash = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    return hash < PS_FINGERPRINT_RESERVED ? hash + PS_FINGERPRINT_RESERVED : hash;
}

/* The fingerprint of one payload of the given type: begin, bytes, byte and finish in one pass. */
static inline uint64_t ps_fingerprint(const ps_secret *secret, uint8_t type, const void *data, size_t count) {
    const uint8_t *bytes = (const uint8_t *)data;
    size_t rest = count & 7;
    ps_sip s;
    ps_sip_begin(&s, secret);
    for (const uint8_t *end = bytes + (count - rest); bytes != end; bytes += 8)
        ps_sip_block(&s, ps_load_le(bytes));
    s.tail = ps_load_few(bytes, rest) | (uint64_t)type << rest * 8;
    s.length = (uint64_t)count + 1;
    if (rest == 7) {
        ps_sip_block(&s, s.tail);
        s.tail = 0;
    }
    return ps_sip_finish(&s);
}

/* An item of a tuple: payload, type, length. */
static inline void ps_sip_item(ps_sip *s, uint8_t type, const void *data, size_t count) {
    ps_sip_bytes(s, data, count);
    ps_sip_byte(s, type);
    for (int shift = 0; shift < 64; shift += 8)
        ps_sip_byte(s, (uint8_t)((uint64_t)count >> shift));
}

/* An int that fits in 64 bits, as its 8 bytes of two's complement, lowest first. */
static inline uint64_t ps_fingerprint_int(const ps_secret *secret, int64_t value) {
    ps_sip s;
    ps_sip_begin(&s, secret);
    ps_sip_block(&s, (uint64_t)value);
    s.tail = PS_KEY_INT;
    s.length = 9;
    return ps_sip_finish(&s);
}

#endif
