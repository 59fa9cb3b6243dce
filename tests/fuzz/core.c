/* The fuzzer's target in C: the checks of tests/native/arithmetic.c, with every choice in them made by the input's bytes.
 *
 * Its first byte chooses: the 128-bit arithmetic of wide.h against the compiler's, or one limit of any kind with any
 * numbers that penstock/policy.py would let through, and calls at any times and costs against what the limit promises.
 *
 *   clang -g -O1 -mcx16 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -I../native -I../../ext core.c
 *
 * Without libFuzzer, -DSTANDALONE gives it a main: core <random inputs> <seed> <files...> */
#include "testing.h"

static const uint8_t *input;
static size_t input_left;

/* The next `count` bytes of the input as a number, lowest first; 0 for those that are not there. */
static uint64_t next_bytes(unsigned count) {
    uint64_t number = 0;
    for (unsigned i = 0; i < count && input_left; i++, input++, input_left--)
        number |= (uint64_t)*input << (8 * i);
    return number;
}

static uint64_t chosen(uint64_t *unused) {
    (void)unused;
    return next_bytes(8);
}

/* From as few bytes as can tell the choices apart. */
static uint64_t chosen_below(uint64_t *unused, uint64_t below) {
    (void)unused;
    unsigned count = 0;
    for (uint64_t most = below - 1; most; most >>= 8)
        count++;
    return next_bytes(count) % below;
}

#define draw chosen
#define draw_below chosen_below
#define main arithmetic_main
#include "../native/arithmetic.c"
#undef main

#define LEAST_VERSIONS 12 /* bits of a window's version, below which it may refuse a refund: README, not promised */

static uint64_t choose(uint64_t low, uint64_t high) {
    uint64_t span = high - low + 1;
    switch (pick(4)) {
    case 0: return low + pick(span < 20 ? span : 20);
    case 1: return high - pick(span < 20 ? span : 20);
    case 2: return low + (any() >> pick(64)) % span;
    default: return low + any() % span;
    }
}

/* Up to a year: the checks move by three periods, and past PS_HORIZON they would have to know that time stands still. */
static uint64_t choose_period(void) {
    static const uint64_t usual[] = {1000, 1000000, SECOND, 7 * SECOND, 60 * SECOND, DAY, 30 * DAY, 365 * DAY};
    return pick(2) ? usual[pick(8)] : choose(1000, 365 * DAY);
}

/* A limit that penstock/policy.py would make; false for numbers that it refuses. */
static bool choose_policy(ps_policy *p) {
    uint64_t per = choose_period(), most = UINT64_C(1) << 53;
    switch (pick(6)) {
    case 0: {
        uint64_t rate = choose(1, per < UINT32_MAX ? per : UINT32_MAX);
        wide burst = (wide)730 * DAY * rate / per;
        *p = make_bucket(rate, per, burst < 1 || pick(2) ? rate : choose(1, burst < most ? (uint64_t)burst : most));
        p->resolution = (uint32_t)rate; /* where check_policy looks for it */
        return true;
    }
    case 1: {
        uint32_t resolution = (uint32_t)choose(1, 60);
        uint64_t limit = choose(1, most);
        wide epochs = (wide)PS_HORIZON * resolution / per + 2 * resolution + 8;
        if (ps_bits((uint64_t)epochs) + ps_bits(resolution) + ps_bits(limit) + 4 > PS_STATE_BITS)
            return false;
        *p = make_window(limit, per, resolution);
        return p->version_bits >= LEAST_VERSIONS;
    }
    case 2: {
        uint64_t limit = choose(1, 3000);
        *p = make_log(limit, per);
        return (wide)16 * limit * (PS_HORIZON / per + 1) < (wide)1 << (PS_STATE_BITS - p->count_bits);
    }
    case 3:
    case 4: {
        bool first_hit = pick(2);
        *p = make_fixed(1, per, first_hit, any());
        p->limit = choose(1, most);
        return ps_bits(p->limit) <= p->count_bits;
    }
    default: *p = make_concurrency(choose(1, most)); return true;
    }
}

static void check_input(const uint8_t *data, size_t size) {
    input = data;
    input_left = size;
    if (pick(8) == 0) {
        check_wide(size / 16 + 1);
        return;
    }
    ps_policy p;
    if (choose_policy(&p))
        check_policy(p, size / 2 < 600 ? size / 2 + 4 : 600);
}

#ifdef STANDALONE
int main(int argc, char **argv) {
    static uint8_t data[1 << 16];
    for (int i = 3; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        CHECK(file, "cannot open %s", argv[i]);
        size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        check_input(data, size);
    }
#undef draw
    uint64_t count = argument_number(argc, argv, 1, 1000), state = argument_number(argc, argv, 2, 1) * 2654435761u + 1;
    for (uint64_t n = 0; n < count; n++) {
        size_t size = draw(&state) % 700;
        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)(draw(&state) >> 40);
        check_input(data, size);
    }
    printf("%d known inputs and %llu random ones\n", argc > 3 ? argc - 3 : 0, (unsigned long long)count);
    return 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_input(data, size);
    return 0;
}
#endif
