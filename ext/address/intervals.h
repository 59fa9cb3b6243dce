/* An immutable set of entries, searched by address: who is in it, and by which entry, the narrowest that covers the address.
 *
 * Entries may overlap as they like. They are cut into segments that do not: each begins where the answer changes and goes
 * on to the next, so a lookup is one search for the last beginning that is not after the address. A segment needs its
 * beginning and one byte, since what a canonical entry says follows from the address and the length of its prefix;
 * neighbours with one code become one segment. An index by the leading bits leaves few beginnings to search.
 *
 *     10.0.0.0/8, 10.1.0.0/16   ->   0.0.0.0: none | 10.0.0.0: /8 | 10.1.0.0: /16 | 10.2.0.0: /8 | 11.0.0.0: none */
#ifndef PENSTOCK_ADDRESS_INTERVALS_H
#define PENSTOCK_ADDRESS_INTERVALS_H

#include "entry.h"
#include <stdlib.h>

/* With so many entries a set takes at most 200 MB while it is built, and its segments' numbers fit 32 bits. */
#define PS_ENTRIES_MOST ((size_t)1 << 22)
#define PS_INDEX_BITS 16

/* A segment of PS_CODE_ODD, and where its entry's text is. */
typedef struct {
    uint32_t segment, text;
} ps_odd;

/* One family's segments. index[b]: how many begin before the addresses that begin with b. Never empty: the first segment
 * begins at the lowest address. */
typedef struct {
    uint32_t *index;
    uint8_t *codes;
    ps_odd *odd; /* by segment */
    uint32_t count, odd_count;
    unsigned bits; /* of the index */
} ps_segments;

typedef struct {
    ps_segments four, six;
    uint32_t *four_begins;
    ps_number *six_begins;
    const char *texts; /* each two bytes of length, lowest first, and as many of text */
    uint32_t entries;  /* different ones */
    size_t bytes;      /* all that the set takes */
} ps_intervals;

/* ---- lookup ---- */

static inline uint32_t ps_find_four(const ps_intervals *set, uint32_t address) {
    const uint32_t *index = set->four.index + (address >> (32 - set->four.bits));
    const uint32_t *at = set->four_begins + index[0];
    uint32_t left = index[1] - index[0];
    if (left == 0)
        return index[0] - 1;
    while (left > 1) { /* ends: halves */
        uint32_t half = left >> 1;
        at += at[half] <= address ? half : 0;
        left -= half;
    }
    return (uint32_t)(at - set->four_begins) - (*at > address);
}

static inline uint32_t ps_find_six(const ps_intervals *set, ps_number address) {
    const uint32_t *index = set->six.index + (address.high >> (64 - set->six.bits));
    const ps_number *at = set->six_begins + index[0];
    uint32_t left = index[1] - index[0];
    if (left == 0)
        return index[0] - 1;
    while (left > 1) { /* ends: halves */
        uint32_t half = left >> 1;
        const ps_number *middle = at + half;
        bool reached = (middle->high < address.high) | ((middle->high == address.high) & (middle->low <= address.low));
        at += reached ? half : 0;
        left -= half;
    }
    return (uint32_t)(at - set->six_begins) - (ps_number_compare(*at, address) > 0);
}

/* The code of the segment that an address lies in, PS_CODE_NONE outside the set. segment: which one it is. */
static inline uint8_t ps_intervals_find(const ps_intervals *set, const ps_address *address, uint32_t *segment) {
    if (address->six)
        return set->six.codes[*segment = ps_find_six(set, address->number)];
    return set->four.codes[*segment = ps_find_four(set, (uint32_t)address->number.low)];
}

/* The entry as it was written, for an address found in `segment` with a code other than PS_CODE_NONE. Its text is in the set,
 * or in `own`, of PS_ENTRY_TEXT bytes. */
static inline const char *ps_intervals_text(
    const ps_intervals *set, const ps_address *address, uint32_t segment, uint8_t code, char *own, size_t *count
) {
    if (code == PS_CODE_ODD) {
        const ps_segments *segments = address->six ? &set->six : &set->four;
        const ps_odd *at = segments->odd;
        for (uint32_t left = segments->odd_count; left > 1;) { /* ends: halves */
            uint32_t half = left >> 1;
            at += at[half].segment <= segment ? half : 0;
            left -= half;
        }
        const unsigned char *text = (const unsigned char *)set->texts + at->text;
        *count = text[0] | (size_t)text[1] << 8;
        return (const char *)text + 2;
    }
    ps_number number = address->number;
    if (code != PS_CODE_PLAIN) {
        ps_number mask = ps_number_mask(address->six ? code : code + 96u);
        number.high &= mask.high, number.low &= mask.low;
    }
    *count = ps_write_address(number, address->six, own);
    if (code != PS_CODE_PLAIN) {
        own[(*count)++] = '/';
        *count += ps_write_decimal(code, own + *count);
    }
    return own;
}

/* ---- building ---- */

static inline int ps_entry_order(const void *left, const void *right) {
    const ps_entry *a = (const ps_entry *)left, *b = (const ps_entry *)right;
    int order = a->six - b->six;
    if (order == 0)
        order = ps_number_compare(a->first, b->first);
    if (order == 0)
        order = ps_number_compare(a->last, b->last);
    if (order == 0)
        order = (a->code > b->code) - (a->code < b->code);
    return order ? order : (a->text > b->text) - (a->text < b->text);
}

/* Whether a is narrower than b; of two as wide, the one that begins first. */
static inline bool ps_narrower(const ps_entry *a, const ps_entry *b) {
    ps_number x = {a->last.high - a->first.high - (a->last.low < a->first.low), a->last.low - a->first.low};
    ps_number y = {b->last.high - b->first.high - (b->last.low < b->first.low), b->last.low - b->first.low};
    int order = ps_number_compare(x, y);
    return order < 0 || (order == 0 && a < b);
}

/* A heap of entries, the narrowest first: those that cover where the sweep is, and some that it has passed. */
static inline void ps_heap_push(const ps_entry **heap, size_t *count, const ps_entry *entry) {
    size_t at = (*count)++;
    for (; at && ps_narrower(entry, heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = entry;
}

static inline void ps_heap_pop(const ps_entry **heap, size_t *count) {
    const ps_entry *entry = heap[--*count];
    size_t at = 0, child;
    for (; (child = 2 * at + 1) < *count; at = child) {
        child += child + 1 < *count && ps_narrower(heap[child + 1], heap[child]);
        if (!ps_narrower(heap[child], entry))
            break;
        heap[at] = heap[child];
    }
    heap[at] = entry;
}

/* Cuts sorted entries of one family into segments. With begins of neither family it only counts them. */
static inline void ps_sweep(
    const ps_entry *entries, size_t count, const ps_entry **heap, ps_segments *out, uint32_t *four, ps_number *six
) {
    ps_number at = {0, 0};
    size_t next = 0, open = 0;
    const ps_entry *before = NULL;
    bool store = four || six, over = false;
    out->count = out->odd_count = 0;
    while (!over) { /* ends: each turn but the first takes entries up, or passes the end of one that is then given up */
        while (next < count && ps_number_compare(entries[next].first, at) == 0)
            ps_heap_push(heap, &open, &entries[next++]);
        while (open && ps_number_compare(heap[0]->last, at) < 0)
            ps_heap_pop(heap, &open);
        const ps_entry *now = open ? heap[0] : NULL;
        uint8_t code = now ? now->code : PS_CODE_NONE, was = before ? before->code : PS_CODE_NONE;
        if (out->count == 0 || code != was || (code == PS_CODE_ODD && now != before)) {
            if (store) {
                if (four)
                    four[out->count] = (uint32_t)at.low;
                else
                    six[out->count] = at;
                out->codes[out->count] = code;
                if (code == PS_CODE_ODD)
                    out->odd[out->odd_count] = (ps_odd){out->count, now->text};
            }
            out->odd_count += code == PS_CODE_ODD;
            out->count++;
        }
        before = now;
        over = next == count;
        if (now) {
            ps_number end = {now->last.high + (now->last.low == UINT64_MAX), now->last.low + 1};
            bool none_after = now->six ? (end.high | end.low) == 0 : end.low >> 32 != 0;
            if (next < count && (none_after || ps_number_compare(entries[next].first, end) < 0))
                end = entries[next].first;
            else
                over = none_after;
            at = end;
        } else if (next < count)
            at = entries[next].first;
    }
}

/* The index over a family's segments, by the beginnings of that family. */
static inline void ps_index(ps_segments *segments, const uint32_t *four, const ps_number *six) {
    uint32_t buckets = (uint32_t)1 << segments->bits, at = 0;
    for (uint32_t bucket = 0; bucket < buckets; bucket++) {
        segments->index[bucket] = at;
        while (at < segments->count &&
               (four ? four[at] >> (32 - segments->bits) : six[at].high >> (64 - segments->bits)) == bucket)
            at++;
    }
    segments->index[buckets] = at;
}

/* About four segments to a place of the index, and no more places than PS_INDEX_BITS have. */
static inline unsigned ps_index_bits(uint32_t count) {
    unsigned bits = 1;
    while (bits < PS_INDEX_BITS && (uint32_t)4 << bits < count)
        bits++;
    return bits;
}

/* Takes a part of a block that is still to be had (base NULL: only measures), aligned to 16. */
static inline void *ps_part(char *base, size_t *used, size_t bytes) {
    char *part = base ? base + *used : NULL;
    *used += (bytes + 15) & ~(size_t)15;
    return part;
}

static inline size_t ps_intervals_lay_out(ps_intervals *set, char *base, size_t texts) {
    size_t used = 0;
    (void)ps_part(base, &used, sizeof *set);
    set->four_begins = (uint32_t *)ps_part(base, &used, set->four.count * sizeof(uint32_t));
    set->six_begins = (ps_number *)ps_part(base, &used, set->six.count * sizeof(ps_number));
    ps_segments *families[2] = {&set->four, &set->six};
    for (int i = 0; i < 2; i++) {
        ps_segments *one = families[i];
        one->index = (uint32_t *)ps_part(base, &used, (((size_t)1 << one->bits) + 1) * sizeof(uint32_t));
        one->codes = (uint8_t *)ps_part(base, &used, one->count);
        one->odd = (ps_odd *)ps_part(base, &used, one->odd_count * sizeof(ps_odd));
    }
    set->texts = (const char *)ps_part(base, &used, texts);
    return set->bytes = used;
}

/* The set of `count` entries, which are sorted and rid of doubles in place; `texts` is what their odd ones point into.
 * NULL when there is not the memory. To be given to free(). */
static inline ps_intervals *ps_intervals_build(ps_entry *entries, size_t count, const char *texts, size_t texts_bytes) {
    ps_intervals plan;
    ps_entry nothing;
    memset(&plan, 0, sizeof plan);
    size_t kept = 0, fours = 0;
    if (count == 0) /* there may be no entries to point at */
        entries = &nothing;
    else
        qsort(entries, count, sizeof *entries, ps_entry_order);
    for (size_t i = 0; i < count; i++) {
        const ps_entry *last = kept ? &entries[kept - 1] : NULL;
        if (last && last->six == entries[i].six && ps_number_compare(last->first, entries[i].first) == 0 &&
            ps_number_compare(last->last, entries[i].last) == 0)
            continue;
        fours += !entries[i].six;
        entries[kept++] = entries[i];
    }
    const ps_entry **heap = (const ps_entry **)malloc((kept + 1) * sizeof *heap);
    if (!heap)
        return NULL;
    ps_sweep(entries, fours, heap, &plan.four, NULL, NULL);
    ps_sweep(entries + fours, kept - fours, heap, &plan.six, NULL, NULL);
    plan.entries = (uint32_t)kept;
    plan.four.bits = ps_index_bits(plan.four.count);
    plan.six.bits = ps_index_bits(plan.six.count);
    char *block = (char *)calloc(1, ps_intervals_lay_out(&plan, NULL, texts_bytes));
    if (block) {
        ps_intervals_lay_out(&plan, block, texts_bytes);
        ps_sweep(entries, fours, heap, &plan.four, plan.four_begins, NULL);
        ps_sweep(entries + fours, kept - fours, heap, &plan.six, NULL, plan.six_begins);
        ps_index(&plan.four, plan.four_begins, NULL);
        ps_index(&plan.six, NULL, plan.six_begins);
        if (texts_bytes)
            memcpy((char *)plan.texts, texts, texts_bytes);
        memcpy(block, &plan, sizeof plan);
    }
    free(heap);
    return (ps_intervals *)block;
}

#endif
