/* What a score costs without Python: ns for a row that is only looked at, one that is learned, and for the row itself.
 *
 *     cc -O3 -mcx16 -Iext benchmarks/native/score.c -o score -lm && ./score */
#define _GNU_SOURCE
#include "records/half_space.h"
#include "records/shape.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROWS 4096
#define LAPS 50

static float rows[ROWS][PS_SHAPE_COLUMNS];

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double least(ps_forest *forest, bool learn, float *sum) {
    double found = 1;
    for (int lap = 0; lap < LAPS; lap++) {
        double begin = seconds();
        for (int i = 0; i < ROWS; i++)
            *sum += ps_forest_score(forest, rows[i], (uint64_t)(i % 997 + 1), learn);
        double each = (seconds() - begin) / ROWS;
        found = each < found ? each : found;
    }
    return found * 1e9;
}

int main(void) {
    ps_forest *forest = calloc(1, ps_forest_bytes(32, 10, PS_SHAPE_COLUMNS));
    if (!forest)
        return 1;
    ps_forest_open(forest, 32, 10, PS_SHAPE_COLUMNS, 1024, 1);
    srand(1);
    for (int i = 0; i < ROWS; i++)
        for (int c = 0; c < PS_SHAPE_COLUMNS; c++)
            rows[i][c] = (float)(rand() % 1000) * (float)(rand() % 1000) / 1e6f;
    float sum = 0, row[PS_SHAPE_COLUMNS];
    double learned = least(forest, true, &sum), looked = least(forest, false, &sum), shaped = 1;
    static const char path[] = "/shop/items/red-shoes.html", query[] = "page=2&sort=price&q=hello+world%20and%20more";
    static const char agent[] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    ps_asked asked = {{path, sizeof path - 1, 1}, {query, sizeof query - 1, 1}, {agent, sizeof agent - 1, 1}, 0, 8, 4, 0};
    for (int lap = 0; lap < LAPS; lap++) {
        double begin = seconds();
        for (unsigned i = 0; i < ROWS; i++) {
            asked.headers = i & 31;
            ps_shape_row(&asked, row);
            sum += row[PS_SHAPE_HEADERS];
        }
        double each = (seconds() - begin) / ROWS;
        shaped = each < shaped ? each : shaped;
    }
    printf("%.0f %.0f %.0f\n", looked, learned, shaped * 1e9);
    free(forest);
    return sum < 0;
}
