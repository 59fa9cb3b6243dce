/* Columns of keys -> fingerprints, without an object per row: fixed-width arrays as NumPy has them, and the Arrow
 * C data interface. Each row is hashed exactly as the Python object with the same value would be. */
#ifndef PENSTOCK_COLUMNS_H
#define PENSTOCK_COLUMNS_H

#include "../table/fingerprint.h"
#include <stdbool.h>

/* Integers of `width` bytes, signed or not, one every `stride` bytes. Unsigned ones above int64 are hashed as the
 * 9-byte integers that Python's would be. */
static inline void ps_column_ints(const ps_secret *secret, const char *rows, int64_t count, int64_t stride, unsigned width,
                                  bool is_signed, uint64_t *out) {
    for (int64_t i = 0; i < count; i++) {
        const char *row = rows + i * stride;
        uint64_t bits = 0;
        int64_t value;
        switch (width) {
        case 1: bits = (uint8_t)*row; value = is_signed ? (int8_t)bits : (int64_t)bits; break;
        case 2: { uint16_t v; memcpy(&v, row, 2); bits = v; value = is_signed ? (int16_t)v : (int64_t)v; break; }
        case 4: { uint32_t v; memcpy(&v, row, 4); bits = v; value = is_signed ? (int32_t)v : (int64_t)v; break; }
        default: memcpy(&bits, row, 8); value = (int64_t)bits; break;
        }
        if (!is_signed && value < 0) {
            uint8_t wide[9];
            for (int b = 0; b < 8; b++)
                wide[b] = (uint8_t)(bits >> 8 * b);
            wide[8] = 0;
            out[i] = ps_fingerprint(secret, PS_KEY_INT, wide, 9);
        } else {
            out[i] = ps_fingerprint_int(secret, value);
        }
    }
}

/* Byte strings of a fixed width, padded with NULs that do not count (NumPy's S). */
static inline void ps_column_bytes(const ps_secret *secret, const char *rows, int64_t count, int64_t stride, int64_t width, uint64_t *out) {
    for (int64_t i = 0; i < count; i++) {
        const char *row = rows + i * stride;
        int64_t length = width;
        while (length && row[length - 1] == 0)
            length--;
        out[i] = ps_fingerprint(secret, PS_KEY_BYTES, row, (size_t)length);
    }
}

/* One code point as UTF-8 (surrogates as "surrogatepass" writes them) into `out`; its length. */
static inline unsigned ps_utf8(uint32_t code, uint8_t *out) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6), out[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12), out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | (code >> 18 & 7)), out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f)), out[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

/* Strings of `width` UCS-4 code points in native order, padded with NULs that do not count (NumPy's U). */
static inline void ps_column_ucs4(const ps_secret *secret, const char *rows, int64_t count, int64_t stride, int64_t width, uint64_t *out) {
    for (int64_t i = 0; i < count; i++) {
        const char *row = rows + i * stride;
        int64_t length = width;
        uint32_t code = 0;
        while (length && (memcpy(&code, row + 4 * (length - 1), 4), code == 0))
            length--;
        ps_sip s;
        ps_sip_begin(&s, secret);
        for (int64_t at = 0; at < length; at++) {
            uint8_t utf8[4];
            memcpy(&code, row + 4 * at, 4);
            unsigned size = ps_utf8(code, utf8);
            for (unsigned b = 0; b < size; b++)
                ps_sip_byte(&s, utf8[b]);
        }
        ps_sip_byte(&s, PS_KEY_STR);
        out[i] = ps_sip_finish(&s);
    }
}

/* The Arrow C data interface (arrow.apache.org/docs/format/CDataInterface.html), as far as keys need it. */
struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};
struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};

/* The first null row, or -1. */
static inline int64_t ps_arrow_null(const struct ArrowArray *array) {
    const uint8_t *valid = array->n_buffers > 0 ? (const uint8_t *)array->buffers[0] : 0;
    if (!valid || array->null_count == 0)
        return -1;
    for (int64_t i = 0; i < array->length; i++)
        if (!(valid[(i + array->offset) >> 3] >> ((i + array->offset) & 7) & 1))
            return i;
    return -1;
}

/* Rows of a string view or binary view column: 16 bytes each, {length, 12 bytes} or {length, prefix, buffer, offset}. */
static inline void ps_column_views(const ps_secret *secret, uint8_t type, const struct ArrowArray *array, uint64_t *out) {
    const char *views = (const char *)array->buffers[1];
    for (int64_t i = 0; i < array->length; i++) {
        const char *view = views + 16 * (i + array->offset);
        int32_t fields[4];
        memcpy(fields, view, 16);
        const char *bytes = fields[0] <= 12 ? view + 4 : (const char *)array->buffers[2 + fields[2]] + fields[3];
        out[i] = ps_fingerprint(secret, type, bytes, (size_t)fields[0]);
    }
}

/* Fingerprints of all rows; false when the format is not one of integers, utf8 or binary (large and view too). */
static inline bool ps_column_arrow(const ps_secret *secret, const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t *out) {
    const char *format = schema->format;
    if (schema->dictionary || format[0] == 0)
        return false;
    if (strcmp(format, "vu") == 0 || strcmp(format, "vz") == 0) {
        ps_column_views(secret, format[1] == 'u' ? PS_KEY_STR : PS_KEY_BYTES, array, out);
        return true;
    }
    if (format[1] != 0)
        return false;
    const char *signed_ints = "csil", *unsigned_ints = "CSIL";
    const char *data = array->n_buffers > 1 ? (const char *)array->buffers[1] : 0;
    for (unsigned log2 = 0; log2 < 4; log2++)
        if (format[0] == signed_ints[log2] || format[0] == unsigned_ints[log2]) {
            unsigned width = 1u << log2;
            ps_column_ints(secret, data + array->offset * width, array->length, width, width, format[0] == signed_ints[log2], out);
            return true;
        }
    bool text = format[0] == 'u' || format[0] == 'U', large = format[0] == 'U' || format[0] == 'Z';
    if (!text && format[0] != 'z' && format[0] != 'Z')
        return false;
    const char *bytes = array->n_buffers > 2 ? (const char *)array->buffers[2] : 0;
    for (int64_t i = 0; i < array->length; i++) {
        int64_t at = i + array->offset, begin, end;
        if (large) {
            begin = ((const int64_t *)(const void *)data)[at], end = ((const int64_t *)(const void *)data)[at + 1];
        } else {
            begin = ((const int32_t *)(const void *)data)[at], end = ((const int32_t *)(const void *)data)[at + 1];
        }
        out[i] = ps_fingerprint(secret, text ? PS_KEY_STR : PS_KEY_BYTES, bytes ? bytes + begin : "", (size_t)(end - begin));
    }
    return true;
}

#endif
