/* 128-bit products and quotients, division by a constant of run time, and bits. */
#ifndef PENSTOCK_WIDE_H
#define PENSTOCK_WIDE_H

#include <stdint.h>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static inline uint64_t ps_mul_high(uint64_t a, uint64_t b) { return __umulh(a, b); }
static inline uint64_t ps_mul_shift(uint64_t a, uint64_t b, unsigned shift) {
    return (__umulh(a, b) << (64 - shift)) | ((a * b) >> shift);
}
/* ceil((a << shift) / b); the caller knows that it fits. Bit by bit: there is no 128-bit divide on Arm64. */
static inline uint64_t ps_shift_divide_up(uint64_t a, unsigned shift, uint64_t b) {
    uint64_t high = shift ? a >> (64 - shift) : 0, low = a << shift, quotient = 0, rest = high % b;
    for (int bit = 63; bit >= 0; bit--) {
        uint64_t carry = rest >> 63;
        rest = (rest << 1) | ((low >> bit) & 1);
        quotient <<= 1;
        if (carry || rest >= b) {
            rest -= b;
            quotient |= 1;
        }
    }
    return quotient + (rest != 0);
}
#else
__extension__ typedef unsigned __int128 ps_uint128; /* the compiler's, not ISO C's */
static inline uint64_t ps_mul_high(uint64_t a, uint64_t b) { return (uint64_t)(((ps_uint128)a * b) >> 64); }
static inline uint64_t ps_mul_shift(uint64_t a, uint64_t b, unsigned shift) {
    return (uint64_t)(((ps_uint128)a * b) >> shift);
}
/* ceil((a << shift) / b); the caller knows that it fits. */
static inline uint64_t ps_shift_divide_up(uint64_t a, unsigned shift, uint64_t b) {
    return (uint64_t)((((ps_uint128)a << shift) + (b - 1)) / b);
}
#endif

/* x / divisor for x < 2^63 by one multiplication: with inverse = floor((2^64 - 1) / divisor) the
 * estimate is the quotient or one less, because x * (2^64 / divisor - inverse) < 2^64. */
static inline uint64_t ps_divide(uint64_t x, uint64_t divisor, uint64_t inverse) {
    uint64_t quotient = ps_mul_high(x, inverse);
    while (x - quotient * divisor >= divisor)
        quotient++;
    return quotient;
}

/* The place of the lowest bit that is set; n is not 0. */
static inline unsigned ps_lowest_bit(uint32_t n) {
#if defined(_MSC_VER) && !defined(__clang__)
    unsigned long place;
    _BitScanForward(&place, n);
    return (unsigned)place;
#else
    return (unsigned)__builtin_ctz(n);
#endif
}

/* Bits needed to write n; 0 for 0. */
static inline unsigned ps_bits(uint64_t n) {
    unsigned bits = 0;
    for (; n; n >>= 1)
        bits++;
    return bits;
}

#endif
