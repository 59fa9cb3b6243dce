/* How rare a row of numbers is among those of late: half-space trees, and a scale on which 0.7 always means the same.
 *
 * The idea of half-space trees is Tan, Ting and Liu's (IJCAI 2011): a tree halves a box around the data, level by level, so
 * that all leaves have one volume and the share of rows in a leaf is their density there. What is ours is the rest. A level
 * halves every node along the same column, so a leaf is found by a multiplication for each column and not by walking. Most
 * trees look at a few columns drawn by lot; beside them there is one for each column alone. Boxes are drawn around a sample
 * of recent rows. A leaf counts in bits, -log2 of its share; what a row measures is the mean over the trees of several
 * columns and that over the trees of one; and what a measure means is read off the measures of late:
 *
 *     score = -log10(share of recent rows that measured as much) / 4       in 0 .. 1
 *
 * so a quarter is one row in ten, a half one in a hundred, 0.7 one in 631, and 1 one in 10,000 or fewer. Among the rarest
 * PS_FOREST_TAIL rows, too few to count, the share falls as an exponential with their mean excess.
 *
 * A row may be counted, for the scale, and may be learned, by the trees; each is bounded in each epoch, which is a window of
 * counted rows or four windows of rows that were shown. The scale has to see what is natural, or the tail that it does not
 * count makes it shrink; the trees need not see much of what is rare, and what they have not learned stays rare.
 *
 *     score                  below 1/4   to 1/2   to 0.7    above
 *     natural                90 %        9 %      0.84 %    0.16 %
 *     counted, all keys      -           1/2      1/16      1/128    of a window's rows
 *     counted, one key       1/8         1/16     1/192     1 row
 *     learned, all keys      -           1/4      1/32      1/256
 *     learned, one key       1/8         1/64     1/256     1 row in PS_FOREST_PAUSE epochs
 *
 * Memory fades by what is learned alone, an eighth with each window of it, so rows that are not learned displace nothing.
 *
 *     sampling --warm rows--> measuring --warm rows--> trained        (score 0 until then)
 *
 * Trained, trees take turns: each time a tree's part of a window is over, one tree adds what its leaves counted to their
 * masses. At the end of a round the scale is drawn anew; and, if half a window was learned, one tree, so that boxes
 * follow the data.
 *
 * Threads: any number may score at once. Every word that scoring reads or writes is relaxed, and leaves are taken modulo
 * their number, so a mixture of old and new words costs accuracy for a moment and nothing else. Two threads that count in one
 * leaf at once may count once: it is a statistic. Masses are plain numbers; only the thread that took `busy` touches them,
 * by an exchange that acquires, and gives it back by a store that releases. Nobody waits for it. Alone and with one seed,
 * the same rows score the same. */
#ifndef PENSTOCK_HALF_SPACE_H
#define PENSTOCK_HALF_SPACE_H

#include "../platform/atomics.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

#define PS_FOREST_TREES_MOST 128
#define PS_FOREST_HEIGHT_MOST 12
#define PS_FOREST_COLUMNS_MOST 64
#define PS_FOREST_ALL_MOST (PS_FOREST_TREES_MOST + PS_FOREST_COLUMNS_MOST)
#define PS_FOREST_WINDOW_LEAST 64
#define PS_FOREST_WINDOW_MOST (1 << 16)
#define PS_FOREST_CUTS (PS_FOREST_HEIGHT_MOST / 2) /* columns that a tree looks at */
#define PS_FOREST_SAMPLE 256
#define PS_FOREST_KEYS 1024 /* cells of keys' shares; keys that fall together share one */
#define PS_FOREST_MEMORY 8  /* windows that are remembered */
#define PS_FOREST_BINS 512  /* of measures, a sixteenth of a bit each: more than the rarest row measures */
#define PS_FOREST_PAUSE 16
#define PS_FOREST_TAIL 20.0
#define PS_FOREST_PRIOR (1.0 / 16384) /* share that every leaf is taken to have had: no row is rarer */
#define PS_FOREST_VALUE_MOST 1e6f
#define PS_FOREST_WIDTH_LEAST 0.1f /* a column that varies by less is taken to vary by so much */

enum { PS_FOREST_SAMPLING, PS_FOREST_MEASURING, PS_FOREST_TRAINED };

typedef struct {
    ps_word box;  /* where the column's box begins, and how many cells a unit has: two floats' bits */
    ps_word what; /* the column, and above 8 bits how many of the tree's levels halve it */
} ps_forest_cut;

typedef struct {
    uint32_t trees, height, columns, window; /* trees: of several columns */
    ps_word stage, random, shown, learned, sampled;
    ps_word progress;   /* 4 for a row that was counted, 1 for one that was not */
    ps_word due;        /* progress at which the next step is; of who is busy, like all below that is not a word */
    ps_word epoch;
    ps_word rare[4]; /* of each kind: epoch, 24 bits | counted in it, 20 | learned in it, 20 */
    ps_word busy;
    uint32_t turn, renewed; /* trees whose turn is next: to be weighed, and to be drawn anew */
    uint64_t renewed_at;    /* rows that had been learned when the last one was */
    double measured; /* rows in `past` */
    double past[PS_FOREST_BINS];
    double totals[PS_FOREST_ALL_MOST];    /* of a tree's masses */
    ps_word keys[PS_FOREST_KEYS];         /* epoch, 24 bits | counted in it, 16 | learned in it, 16 | when last one of the rarest, 8 */
    ps_word now[PS_FOREST_BINS];          /* measures of this round */
    ps_word scale[PS_FOREST_BINS + 1];    /* score at a bin's lower end, a float's bits */
    ps_word sample[PS_FOREST_SAMPLE * PS_FOREST_COLUMNS_MOST]; /* floats' bits */
    ps_forest_cut cuts[PS_FOREST_ALL_MOST][PS_FOREST_CUTS];
    /* Then for each leaf a word of bits, one of counts, and a float of mass; leaves of a tree are together. */
    ps_word words[];
} ps_forest;

/* A column alone is cut into so many cells at most; finer ones would stay empty. */
static inline uint32_t ps_forest_levels(const ps_forest *forest, uint32_t tree) {
    return tree < forest->trees || forest->height < 8 ? forest->height : 8;
}
static inline uint32_t ps_forest_all(const ps_forest *forest) { return forest->trees + forest->columns; }
static inline size_t ps_forest_first(const ps_forest *forest, uint32_t tree) {
    size_t alone = tree > forest->trees ? tree - forest->trees : 0;
    return ((tree - alone) << forest->height) + (alone << ps_forest_levels(forest, forest->trees));
}
static inline size_t ps_forest_leaves(const ps_forest *forest) { return ps_forest_first(forest, ps_forest_all(forest)); }

/* What a row in each leaf measures, in bits; a float's bits. */
static inline ps_word *ps_forest_bits(ps_forest *forest, uint32_t tree) { return forest->words + ps_forest_first(forest, tree); }
static inline ps_word *ps_forest_counts(ps_forest *forest, uint32_t tree) {
    return forest->words + ps_forest_leaves(forest) + ps_forest_first(forest, tree);
}
static inline float *ps_forest_masses(ps_forest *forest, uint32_t tree) {
    return (float *)(void *)(forest->words + 2 * ps_forest_leaves(forest)) + ps_forest_first(forest, tree);
}

static inline size_t ps_forest_bytes(uint32_t trees, uint32_t height, uint32_t columns) {
    size_t leaves = ((size_t)trees << height) + ((size_t)columns << (height < 8 ? height : 8));
    return sizeof(ps_forest) + leaves * (2 * sizeof(ps_word) + sizeof(float));
}

static inline uint64_t ps_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float ps_bits_float(uint64_t bits) {
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, sizeof value);
    return value;
}

/* The next of a sequence (SplitMix64, Steele, Lea and Flood 2014). Two threads may draw the same. */
static inline uint64_t ps_forest_draw(ps_forest *forest) {
    uint64_t x = ps_load_relaxed(&forest->random) + UINT64_C(0x9e3779b97f4a7c15);
    ps_store_relaxed(&forest->random, x);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
static inline float ps_forest_draw_share(ps_forest *forest) { return (float)(ps_forest_draw(forest) >> 40) / 16777216.0f; }

/* Rows of each stage before the last. */
static inline uint32_t ps_forest_warm(const ps_forest *forest) {
    return forest->window < PS_FOREST_SAMPLE ? forest->window : PS_FOREST_SAMPLE;
}

/* `forest` is ps_forest_bytes of zeros; the numbers are within the bounds above, and window at least PS_FOREST_WINDOW_LEAST. */
static inline void ps_forest_open(ps_forest *forest, uint32_t trees, uint32_t height, uint32_t columns, uint32_t window,
                                  uint64_t seed) {
    forest->trees = trees, forest->height = height, forest->columns = columns, forest->window = window;
    ps_store_relaxed(&forest->random, seed);
    ps_store_relaxed(&forest->epoch, 1);
    ps_store_relaxed(&forest->due, (uint64_t)ps_forest_warm(forest) * 4);
}

static inline float ps_forest_value(float value) {
    if (value != value)
        return 0;
    if (value > PS_FOREST_VALUE_MOST)
        return PS_FOREST_VALUE_MOST;
    return value < -PS_FOREST_VALUE_MOST ? -PS_FOREST_VALUE_MOST : value;
}

/* ---- what only the busy thread does ---- */

/* Which leaf of a tree a row of finite floats is in. */
static inline uint32_t ps_forest_leaf(const ps_forest *forest, uint32_t tree, const float *row) {
    uint32_t leaf = 0, levels = ps_forest_levels(forest, tree);
    for (uint32_t left = levels, i = 0; left && i < PS_FOREST_CUTS; i++) {
        uint64_t what = ps_load_relaxed(&forest->cuts[tree][i].what), box = ps_load_relaxed(&forest->cuts[tree][i].box);
        uint32_t halved = (uint32_t)(what >> 8) & 15, cells = (uint32_t)1 << halved;
        float cell = (row[what & (PS_FOREST_COLUMNS_MOST - 1)] - ps_bits_float(box >> 32)) * ps_bits_float(box);
        cell = cell > 0 ? cell : 0; /* what is outside the box counts with its edge */
        cell = cell < (float)(cells - 1) ? cell : (float)(cells - 1);
        leaf = leaf << halved | (uint32_t)cell;
        left -= halved < left ? halved : left;
    }
    return leaf & (((uint32_t)1 << levels) - 1);
}

static inline void ps_forest_sampled(const ps_forest *forest, uint64_t place, float *row) {
    for (uint32_t c = 0; c < forest->columns; c++)
        row[c] = ps_bits_float(ps_load_relaxed(&forest->sample[place * forest->columns + c]));
}

static inline uint32_t ps_forest_sample_rows(const ps_forest *forest) {
    uint64_t rows = ps_load_relaxed(&forest->sampled);
    return rows < PS_FOREST_SAMPLE ? (uint32_t)rows : PS_FOREST_SAMPLE;
}

/* log2 of a positive, normal number, within 0.00002: a polynomial, exact at powers of two, since thousands are taken for
 * each window, and so that every machine has the same bits. */
static inline float ps_forest_log2(float value) {
    uint32_t bits = (uint32_t)ps_float_bits(value);
    float t = ps_bits_float((bits & 0x7fffff) | 0x3f800000) - 1;
    float bend = 0.44183587f + t * (-0.26653628f + t * (0.14701877f + t * -0.04424374f));
    return (float)((int32_t)(bits >> 23) - 127) + t + t * (1 - t) * bend;
}

/* What the masses make of each leaf. */
static inline void ps_forest_tell(ps_forest *forest, uint32_t tree) {
    float found[64];
    uint32_t leaves = (uint32_t)1 << ps_forest_levels(forest, tree);
    const float *masses = ps_forest_masses(forest, tree);
    ps_word *bits = ps_forest_bits(forest, tree);
    float prior = (float)(forest->totals[tree] * PS_FOREST_PRIOR);
    float whole = ps_forest_log2((float)forest->totals[tree] + prior * (float)leaves);
    for (uint32_t first = 0; first < leaves; first += 64) { /* apart from the words, so that a compiler can do several at once */
        uint32_t part = leaves - first < 64 ? leaves - first : 64;
        for (uint32_t i = 0; i < part; i++)
            found[i] = whole - ps_forest_log2(masses[first + i] + prior);
        for (uint32_t i = 0; i < part; i++)
            ps_store_relaxed(&bits[first + i], ps_float_bits(found[i] > 0 ? found[i] : 0));
    }
}

/* Draws a tree anew: a box around part of the sample, cut along a few columns, and the sample in it. */
static inline void ps_forest_grow(ps_forest *forest, uint32_t tree) {
    float row[PS_FOREST_COLUMNS_MOST] = {0}, low[PS_FOREST_COLUMNS_MOST] = {0}, high[PS_FOREST_COLUMNS_MOST] = {0};
    uint32_t columns = forest->columns, have = ps_forest_sample_rows(forest), levels = ps_forest_levels(forest, tree);
    for (uint32_t i = 0; i < PS_FOREST_SAMPLE / 4 && have; i++) {
        ps_forest_sampled(forest, ps_forest_draw(forest) % have, row);
        for (uint32_t c = 0; c < columns; c++) {
            low[c] = i && low[c] < row[c] ? low[c] : row[c];
            high[c] = i && high[c] > row[c] ? high[c] : row[c];
        }
    }
    uint64_t taken = 0;
    for (uint32_t left = levels, i = 0; left; i++) {
        uint32_t column = tree < forest->trees ? (uint32_t)(ps_forest_draw(forest) % columns) : tree - forest->trees;
        for (uint32_t tried = 0; tried < columns && taken >> column & 1; tried++)
            column = (column + 1) % columns; /* another one, as long as there are others */
        taken |= UINT64_C(1) << column;
        uint32_t halved = tree < forest->trees ? left < 2 ? left : 2 : levels;
        float width = high[column] - low[column];
        width = width > PS_FOREST_WIDTH_LEAST ? width : PS_FOREST_WIDTH_LEAST;
        float below = width * ps_forest_draw_share(forest) / 2, above = width * ps_forest_draw_share(forest) / 2;
        float scale = (float)((uint32_t)1 << halved) / (below + width + above);
        ps_store_relaxed(&forest->cuts[tree][i].box, ps_float_bits(low[column] - below) << 32 | ps_float_bits(scale));
        ps_store_relaxed(&forest->cuts[tree][i].what, column | halved << 8);
        left -= halved;
    }
    float *masses = ps_forest_masses(forest, tree);
    ps_word *counts = ps_forest_counts(forest, tree);
    for (uint32_t leaf = 0; leaf < (uint32_t)1 << levels; leaf++) {
        masses[leaf] = 0;
        ps_store_relaxed(&counts[leaf], 0);
    }
    for (uint32_t i = 0; i < have; i++) {
        ps_forest_sampled(forest, i, row);
        masses[ps_forest_leaf(forest, tree, row)] += 1;
    }
    forest->totals[tree] = have ? have : 1;
    ps_forest_tell(forest, tree);
}

/* Part of what was known before that stays when `count` rows come to it. */
static inline double ps_forest_kept(const ps_forest *forest, double count) {
    double kept = 1 - count / ((double)forest->window * PS_FOREST_MEMORY);
    return kept > 0 ? kept : 0;
}

/* Adds what a tree's leaves have counted to their masses. */
static inline void ps_forest_weigh(ps_forest *forest, uint32_t tree) {
    uint32_t leaves = (uint32_t)1 << ps_forest_levels(forest, tree);
    ps_word *counts = ps_forest_counts(forest, tree);
    float *masses = ps_forest_masses(forest, tree);
    double count = 0;
    for (uint32_t leaf = 0; leaf < leaves; leaf++)
        count += (double)ps_load_relaxed(&counts[leaf]);
    float kept = (float)ps_forest_kept(forest, count);
    forest->totals[tree] = forest->totals[tree] * kept + count;
    for (uint32_t leaf = 0; leaf < leaves; leaf++) {
        masses[leaf] = masses[leaf] * kept + (float)ps_load_relaxed(&counts[leaf]);
        ps_store_relaxed(&counts[leaf], 0);
    }
    ps_forest_tell(forest, tree);
}

/* Draws the scale from the measures of late. */
static inline void ps_forest_measure(ps_forest *forest) {
    double count = 0;
    for (int bin = 0; bin < PS_FOREST_BINS; bin++)
        count += (double)ps_load_relaxed(&forest->now[bin]);
    if (count == 0)
        return;
    double kept = ps_forest_kept(forest, count);
    forest->measured = forest->measured * kept + count;
    for (int bin = 0; bin < PS_FOREST_BINS; bin++) {
        forest->past[bin] = forest->past[bin] * kept + (double)ps_load_relaxed(&forest->now[bin]);
        ps_store_relaxed(&forest->now[bin], 0);
    }
    /* From the top: the rows above each bin's lower end, and where the rarest begin. */
    double above[PS_FOREST_BINS + 1], weighed = 0;
    above[PS_FOREST_BINS] = 0;
    int tail = PS_FOREST_BINS;
    for (int bin = PS_FOREST_BINS - 1; bin >= 0; bin--) {
        above[bin] = above[bin + 1] + forest->past[bin];
        if (above[bin] <= PS_FOREST_TAIL)
            tail = bin, weighed += forest->past[bin] * (bin + 0.5);
    }
    double excess = above[tail] > 0 ? weighed / above[tail] - tail : 0;
    excess = excess > 4 ? excess : 4; /* a quarter of a bit: fewer would be made of chance */
    double log_tail = log10((above[tail] > 1 ? above[tail] : PS_FOREST_TAIL / 2) / forest->measured);
    log_tail = log_tail < 0 ? log_tail : 0;
    for (int bin = 0; bin <= PS_FOREST_BINS; bin++) {
        double rarity = bin < tail ? -log10(above[bin] / forest->measured) : (bin - tail) / (excess * 2.302585093) - log_tail;
        float score = (float)(rarity / 4);
        score = score > 0 ? score : 0;
        ps_store_relaxed(&forest->scale[bin], ps_float_bits(score < 1 ? score : 1));
    }
}

static inline void ps_forest_step(ps_forest *forest) {
    uint32_t all = ps_forest_all(forest);
    uint64_t stage = ps_load_relaxed(&forest->stage), part = (uint64_t)forest->window * 4 / all, next = part ? part : 1;
    bool round_over = true;
    if (stage == PS_FOREST_SAMPLING) {
        for (uint32_t tree = 0; tree < all; tree++)
            ps_forest_grow(forest, tree);
        next = (uint64_t)ps_forest_warm(forest) * 4;
    } else if (stage == PS_FOREST_MEASURING) {
        ps_forest_measure(forest);
    } else {
        ps_forest_weigh(forest, forest->turn);
        forest->turn = (forest->turn + 1) % all;
        round_over = forest->turn == 0;
        if (round_over) {
            ps_forest_measure(forest);
            uint64_t learned = ps_load_relaxed(&forest->learned);
            if (learned - forest->renewed_at >= forest->window / 2) { /* not where nearly all is one client's */
                ps_forest_grow(forest, forest->renewed);
                forest->renewed = (forest->renewed + 1) % all;
                forest->renewed_at = learned;
            }
        }
    }
    if (stage < PS_FOREST_TRAINED)
        ps_store_release(&forest->stage, stage + 1);
    if (round_over)
        ps_store_relaxed(&forest->epoch, ps_load_relaxed(&forest->epoch) + 1);
    ps_store_relaxed(&forest->due, ps_load_relaxed(&forest->due) + next);
}

/* ---- what any thread does ---- */

/* Rows of an epoch that are learned at most. */
static inline uint32_t ps_forest_epoch_rows(const ps_forest *forest) {
    return ps_load_relaxed(&forest->stage) == PS_FOREST_TRAINED ? forest->window : ps_forest_warm(forest);
}

/* What becomes of a row of this score, by what the epoch leaves its kind and its key: 0 nothing, 1 counted, 2 learned too.
 * key 0: nobody's. A key's share of an epoch is spent at a price for each kind. */
static inline unsigned ps_forest_admits(ps_forest *forest, uint64_t key, float score) {
    static const struct {
        uint8_t counted_part, learned_part, counted_price, learned_price; /* parts: powers of two of a window */
    } rules[] = {{0, 0, 1, 1}, {1, 2, 2, 8}, {4, 5, 24, 32}, {7, 8, 0, 0}};
    unsigned kind = (score >= 0.25f) + (score >= 0.5f) + (score >= 0.7f), verdict = 2;
    uint64_t epoch = ps_load_relaxed(&forest->epoch) & 0xffffff, rows = ps_forest_epoch_rows(forest), share = rows / 8;
    uint64_t all = ps_load_relaxed(&forest->rare[kind]);
    all = all >> 40 == epoch ? all : epoch << 40;
    uint64_t counted = all >> 20 & 0xfffff, learned = all & 0xfffff;
    if (kind && counted > rows >> rules[kind].counted_part)
        return 0;
    if (kind && learned > rows >> rules[kind].learned_part)
        verdict = 1;
    if (key) {
        key = (key ^ key >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
        ps_word *cell = &forest->keys[key >> 32 & (PS_FOREST_KEYS - 1)];
        uint64_t had = ps_load_relaxed(cell), today = epoch % 255 + 1, last = had & 255, age = (today + 255 - last) % 255;
        uint64_t spent = had >> 40 == epoch ? had >> 24 & 0xffff : 0, taught = had >> 40 == epoch ? had >> 8 & 0xffff : 0;
        if (kind == 3 ? last && age == 0 : spent && spent + rules[kind].counted_price > share)
            return 0;
        if (kind == 3 ? last && age < PS_FOREST_PAUSE : taught && taught + rules[kind].learned_price > share)
            verdict = 1;
        spent += rules[kind].counted_price;
        taught += verdict == 2 ? rules[kind].learned_price : 0;
        last = kind == 3 ? today : last;
        ps_store_relaxed(cell, epoch << 40 | spent << 24 | taught << 8 | last);
    }
    ps_store_relaxed(&forest->rare[kind], all + (UINT64_C(1) << 20) + (verdict == 2));
    return verdict;
}

static inline void ps_forest_remember(ps_forest *forest, const float *row) {
    uint64_t sampled = ps_load_relaxed(&forest->sampled), place = sampled;
    if (sampled >= PS_FOREST_SAMPLE) {
        uint64_t lot = ps_forest_draw(forest) % forest->window; /* so that the sample is about one window old */
        if (lot >= PS_FOREST_SAMPLE)
            return;
        place = lot;
    } else {
        ps_store_relaxed(&forest->sampled, sampled + 1);
    }
    for (uint32_t c = 0; c < forest->columns; c++)
        ps_store_relaxed(&forest->sample[place * forest->columns + c], ps_float_bits(row[c]));
}

/* How rare a row of `columns` finite or other floats is, 0 .. 1; 0 until there is enough to compare with. key: whose it is,
 * 0 for nobody's. learn: whether it may become part of what later rows are compared with. */
static inline float ps_forest_score(ps_forest *forest, const float *given, uint64_t key, bool learn) {
    float row[PS_FOREST_COLUMNS_MOST];
    uint16_t leaves[PS_FOREST_ALL_MOST];
    uint64_t stage = ps_load_acquire(&forest->stage);
    uint32_t columns = forest->columns, all = ps_forest_all(forest), bin = 0;
    float measure = 0, score = 0;
    for (uint32_t c = 0; c < columns; c++)
        row[c] = ps_forest_value(given[c]);
    if (stage > PS_FOREST_SAMPLING) {
        float several = 0, alone = 0;
        for (uint32_t tree = 0; tree < all; tree++) {
            leaves[tree] = (uint16_t)ps_forest_leaf(forest, tree, row);
            float bits = ps_bits_float(ps_load_relaxed(&ps_forest_bits(forest, tree)[leaves[tree]]));
            *(tree < forest->trees ? &several : &alone) += bits;
        }
        measure = (several / (float)forest->trees + alone / (float)columns) * 16;
        measure = measure < PS_FOREST_BINS - 1 ? measure : PS_FOREST_BINS - 1;
        measure = measure > 0 ? measure : 0;
        bin = (uint32_t)measure;
    }
    if (stage == PS_FOREST_TRAINED) {
        float below = ps_bits_float(ps_load_relaxed(&forest->scale[bin]));
        float above = ps_bits_float(ps_load_relaxed(&forest->scale[bin + 1]));
        score = below + (above - below) * (measure - (float)bin);
    }
    if (!learn)
        return score;
    unsigned verdict = ps_forest_admits(forest, key, score);
    if (verdict == 2) {
        ps_forest_remember(forest, row);
        for (uint32_t tree = 0; stage > PS_FOREST_SAMPLING && tree < all; tree++) {
            ps_word *count = &ps_forest_counts(forest, tree)[leaves[tree]];
            ps_store_relaxed(count, ps_load_relaxed(count) + 1);
        }
        ps_store_relaxed(&forest->learned, ps_load_relaxed(&forest->learned) + 1);
    }
    if (verdict && stage > PS_FOREST_SAMPLING)
        ps_store_relaxed(&forest->now[bin], ps_load_relaxed(&forest->now[bin]) + 1);
    ps_store_relaxed(&forest->shown, ps_load_relaxed(&forest->shown) + 1);
    uint64_t weight = verdict ? 4 : 1, progress = ps_add_relaxed(&forest->progress, weight) + weight, free = 0;
    if (progress >= ps_load_relaxed(&forest->due) && ps_exchange_if_equal(&forest->busy, &free, 1)) {
        if (progress >= ps_load_relaxed(&forest->due)) /* nobody has been here since */
            ps_forest_step(forest);
        ps_store_release(&forest->busy, 0);
    }
    return score;
}

#endif
