/* A set of words with a number each, found by their hash in whatever case.
 *
 * Only the hash is kept, 48 bits of it. Somebody can make a word with the hash of another one; then it is taken for that one,
 * which makes a harmless value suspicious and an attack no less so. */
#ifndef PENSTOCK_WORDS_H
#define PENSTOCK_WORDS_H

#include <stdint.h>
#include <string.h>

#define PS_WORDS 2048 /* slots; a search ends at an empty one, and ps_words_add leaves more than half empty */

typedef struct {
    uint64_t slots[PS_WORDS]; /* hash << 16 | number; 0 = empty */
    int count;
} ps_words;

#define PS_HASH_START 0x9ae16a3b2f90404full

static inline uint64_t ps_hash_step(uint64_t hash, uint8_t c) { return (hash ^ (c | 0x20)) * 0x9fb21c651e98df25ull; }

static inline uint64_t ps_hash_end(uint64_t hash) { return (hash ^ hash >> 32) << 16; }

static inline uint64_t ps_hash_of(const uint8_t *bytes, uint32_t length) {
    uint64_t hash = PS_HASH_START;
    for (uint32_t i = 0; i < length; i++)
        hash = ps_hash_step(hash, bytes[i]);
    return ps_hash_end(hash);
}

/* The word's number, 0 if it is none of them. */
static inline int ps_words_get(const ps_words *words, uint64_t hash) {
    for (uint32_t i = hash >> 40;; i++) {
        uint64_t slot = words->slots[i % PS_WORDS];
        if (slot == 0)
            return 0;
        if ((slot ^ hash) >> 16 == 0)
            return (int)(slot & 0xffff);
    }
}

/* Adds every word of a list separated by spaces; a word that is there keeps the number it has. */
static inline void ps_words_add(ps_words *words, const char *list, int number) {
    while (*list) {
        uint32_t length = (uint32_t)strcspn(list, " ");
        uint64_t hash = ps_hash_of((const uint8_t *)list, length);
        if (length && !ps_words_get(words, hash) && words->count < PS_WORDS / 2) {
            uint32_t i = hash >> 40;
            while (words->slots[i % PS_WORDS])
                i++;
            words->slots[i % PS_WORDS] = hash | (uint64_t)number;
            words->count++;
        }
        list += length + (list[length] == ' ');
    }
}

#endif
