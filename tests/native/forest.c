/* The forest of records/half_space.h and the rows of records/shape.h: hostile rows and texts, what a forest must be after any
 * history, the same scores for the same seed, and threads that score at once.
 *
 * Arguments: threads, rows of each, seed. */
#include "testing.h"
#include "records/half_space.h"
#include "records/shape.h"

static ps_forest *open_forest(uint32_t trees, uint32_t height, uint32_t columns, uint32_t window, uint64_t seed) {
    ps_forest *forest = (ps_forest *)calloc(1, ps_forest_bytes(trees, height, columns));
    CHECK(forest, "no memory for %u trees of height %u", trees, height);
    ps_forest_open(forest, trees, height, columns, window, seed);
    return forest;
}

/* Mostly a few habits, now and then anything that a float can be. */
static void draw_row(uint64_t *random, float *row, uint32_t columns) {
    static const float strange[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -0.0f, 1e6f};
    uint64_t habit = draw_below(random, 4);
    for (uint32_t c = 0; c < columns; c++) {
        row[c] = (float)habit / 4 + (float)draw_below(random, 1000) / 10000;
        if (draw_below(random, 500) == 0)
            row[c] = strange[draw_below(random, 8)];
        if (draw_below(random, 500) == 0)
            row[c] = ps_bits_float(draw(random));
    }
}

/* Nobody else may be at work. */
static void check_forest(ps_forest *forest) {
    for (uint32_t tree = 0; tree < ps_forest_all(forest) && ps_load_relaxed(&forest->stage); tree++) {
        uint32_t levels = ps_forest_levels(forest, tree), halved = 0;
        for (uint32_t i = 0; i < PS_FOREST_CUTS; i++) {
            uint64_t what = ps_load_relaxed(&forest->cuts[tree][i].what);
            CHECK((what & 255) < forest->columns, "tree %u cuts column %llu", tree, (unsigned long long)(what & 255));
            halved += (uint32_t)(what >> 8);
        }
        CHECK(halved == levels, "tree %u halves %u times and not %u", tree, halved, levels);
        double sum = 0;
        for (uint32_t leaf = 0; leaf < (uint32_t)1 << levels; leaf++) {
            float mass = ps_forest_masses(forest, tree)[leaf], bits = ps_bits_float(ps_load_relaxed(&ps_forest_bits(forest, tree)[leaf]));
            CHECK(mass >= 0 && bits >= 0 && bits < 15, "leaf %u of tree %u has %g rows and %g bits", leaf, tree, mass, bits);
            sum += mass;
        }
        CHECK(fabs(sum - forest->totals[tree]) <= 0.001 * sum + 0.01, "tree %u has %g rows in its leaves and %g in all", tree, sum,
              forest->totals[tree]);
        CHECK(sum <= (double)forest->window * PS_FOREST_MEMORY * 1.2 + PS_FOREST_SAMPLE, "tree %u remembers %g rows", tree, sum);
    }
    float last = 0;
    for (int bin = 0; bin <= PS_FOREST_BINS; bin++) {
        float score = ps_bits_float(ps_load_relaxed(&forest->scale[bin]));
        CHECK(score >= last && score <= 1, "the scale goes from %g to %g at bin %d", last, score, bin);
        last = score;
    }
}

static void check_alone(uint32_t trees, uint32_t height, uint32_t columns, uint32_t window, uint64_t rows, uint64_t seed) {
    ps_forest *one = open_forest(trees, height, columns, window, seed), *same = open_forest(trees, height, columns, window, seed);
    uint64_t random = seed * 2 + 1;
    for (uint64_t i = 0; i < rows; i++) {
        float row[PS_FOREST_COLUMNS_MOST];
        draw_row(&random, row, columns);
        uint64_t key = draw_below(&random, 40);
        bool learn = draw_below(&random, 10) > 0;
        float score = ps_forest_score(one, row, key, learn);
        CHECK(score >= 0 && score <= 1, "a row scores %g", score);
        CHECK(score == ps_forest_score(same, row, key, learn), "the same row scores otherwise");
        if (i % 997 == 0)
            check_forest(one);
    }
    check_forest(one);
    CHECK(ps_load_relaxed(&one->learned) <= ps_load_relaxed(&one->shown), "more was learned than shown");
    CHECK(rows < 8 * window + 2048 || ps_load_relaxed(&one->stage) == PS_FOREST_TRAINED, "%llu rows do not train it", (unsigned long long)rows);
    free(one), free(same);
}

static void check_log2(uint64_t seed) {
    uint64_t random = seed * 2 + 1;
    for (int i = 0; i < 100000; i++) {
        float value = ldexpf(1 + (float)draw_below(&random, 1 << 23) / (1 << 23), (int)draw_below(&random, 200) - 100);
        CHECK(fabs(ps_forest_log2(value) - log2(value)) < 0.00003 + 1e-6 * fabs(log2(value)), "log2 of %g is %g", value,
              ps_forest_log2(value));
    }
    CHECK(ps_forest_log2(1) == 0 && ps_forest_log2(8192) == 13 && ps_forest_log2(0.25f) == -2, "powers of two are not exact");
}

/* One key may not have more than its share of an epoch, whatever its rows score. */
static void check_shares(uint64_t seed) {
    ps_forest *forest = open_forest(4, 6, 2, 256, seed);
    uint64_t random = seed * 2 + 1;
    for (int i = 0; i < 20000; i++) {
        float row[2] = {(float)draw_below(&random, 100) / 100, (float)draw_below(&random, 100) / 100};
        ps_forest_score(forest, row, 7, true);
    }
    uint64_t epochs = ps_load_relaxed(&forest->epoch), learned = ps_load_relaxed(&forest->learned);
    CHECK(epochs > 10, "20000 rows of one key are %llu epochs", (unsigned long long)epochs);
    CHECK(learned <= epochs * 33, "one key taught %llu rows in %llu epochs", (unsigned long long)learned, (unsigned long long)epochs);
    free(forest);
}

/* Texts end where their memory ends, so that a sanitizer sees a step too far. */
static void check_texts(uint64_t rounds, uint64_t seed) {
    uint64_t random = seed * 2 + 1;
    static const char *const common = "%%%%////&&==++''\"<>;| aA09fF%0%2%u";
    for (uint64_t i = 0; i < rounds; i++) {
        ps_text texts[3];
        for (int t = 0; t < 3; t++) {
            size_t length = draw_below(&random, 8) ? draw_below(&random, 40) : draw_below(&random, 9000);
            unsigned width = 1u << draw_below(&random, 3);
            char *signs = (char *)malloc(length ? length * width : 1);
            for (size_t s = 0; s < length; s++) {
                uint32_t sign = draw_below(&random, 3) ? (uint32_t)common[draw_below(&random, strlen(common))] : (uint32_t)draw(&random);
                memcpy(signs + s * width, &sign, width);
            }
            texts[t] = (ps_text){signs, length, width};
        }
        ps_asked asked = {texts[0], texts[1], texts[2], (unsigned)draw(&random), (unsigned)draw(&random), (unsigned)draw(&random),
                          (double)ps_bits_float(draw(&random))};
        float row[PS_SHAPE_COLUMNS];
        ps_shape_row(&asked, row);
        for (int c = 0; c < PS_SHAPE_COLUMNS; c++)
            CHECK(row[c] >= 0 && row[c] <= 1, "column %d is %g", c, row[c]);
        for (int t = 0; t < 3; t++) {
            CHECK(ps_text_hash(texts[t]) != 0, "a key of nobody");
            free((void *)(uintptr_t)texts[t].signs);
        }
    }
}

typedef struct {
    ps_forest *forest;
    uint64_t rows;
    ps_word trained;
} crowd;

static void score_many(worker *w) {
    crowd *c = (crowd *)w->shared;
    uint64_t random = w->random | 1;
    for (uint64_t i = 0; i < c->rows; i++) {
        float row[PS_FOREST_COLUMNS_MOST];
        draw_row(&random, row, c->forest->columns);
        float score = ps_forest_score(c->forest, row, draw_below(&random, 100), true);
        CHECK(score >= 0 && score <= 1, "a row scores %g", score);
        if (score > 0)
            ps_add_relaxed(&c->trained, 1);
    }
}

int main(int argc, char **argv) {
    uint64_t threads = argument_number(argc, argv, 1, 4), rows = argument_number(argc, argv, 2, 20000), seed = argument_number(argc, argv, 3, 1);
    check_alone(32, 10, 16, 1024, rows, seed);
    check_alone(1, 1, 1, 64, rows / 4, seed);
    check_alone(3, 12, 64, 100, rows / 8, seed);
    check_alone(128, 5, 2, 65536, rows / 8, seed);
    check_log2(seed);
    check_shares(seed);
    check_texts(rows / 20, seed);
    crowd c = {open_forest(8, 6, 4, 64, seed), rows, 0};
    run_workers((unsigned)threads, seed, NULL, &c, score_many);
    CHECK(ps_load_relaxed(&c.trained) > 0, "no thread saw a score");
    CHECK(ps_load_relaxed(&c.forest->busy) == 0, "somebody is still busy");
    check_forest(c.forest);
    printf("%llu of %llu rows learned by %llu threads\n", (unsigned long long)ps_load_relaxed(&c.forest->learned),
           (unsigned long long)(threads * rows), (unsigned long long)threads);
    free(c.forest);
    return 0;
}
