/* Prints the policies that testing.h makes, a line each, for test_native.py to compare with penstock/policy.py. */
#include "testing.h"

static void print(const char *limit, ps_policy p) {
    printf("%s|%u %llu %llu %u %llu %llu %llu %llu %u %u %u %u %llu %llu %u %u %u %llu %llu %u\n", limit, p.algorithm, (unsigned long long)p.limit,
           (unsigned long long)p.per_ns, p.resolution, (unsigned long long)p.ticks_per_ns, (unsigned long long)p.token_ticks,
           (unsigned long long)p.span_ticks, (unsigned long long)p.tag, p.tag_shift, p.count_bits, p.age_bits, p.version_bits,
           (unsigned long long)p.per_inverse, (unsigned long long)p.grid_ns, p.first_hit, p.ring, p.kind,
           (unsigned long long)p.rate, (unsigned long long)p.interval_ns, p.kappa);
}

#define SECOND UINT64_C(1000000000)
#define WALL UINT64_C(1763780000123456789)

int main(void) {
    print("TokenBucket(7, per=60, burst=50)", make_bucket(7, 60 * SECOND, 50));
    print("TokenBucket(1, per=86400)", make_bucket(1, 86400 * SECOND, 1));
    print("TokenBucket(10_000_000, per=1, burst=100_000)", make_bucket(10000000, SECOND, 100000));
    print("TokenBucket(999_983, per=7)", make_bucket(999983, 7 * SECOND, 999983));
    print("SlidingWindow(100, per=60, resolution=6)", make_window(100, 60 * SECOND, 6));
    print("SlidingWindow(5, per=0.001, resolution=3)", make_window(5, SECOND / 1000, 3));
    print("SlidingWindow(1_000_000, per=3600, resolution=60)", make_window(1000000, 3600 * SECOND, 60));
    print("SlidingLog(20, per=30)", make_log(20, 30 * SECOND));
    print("FixedWindow(100, per=60)", make_fixed(100, 60 * SECOND, false, WALL));
    print("FixedWindow(100, per=60, align='first')", make_fixed(100, 60 * SECOND, true, WALL));
    print("Concurrency(12)", make_concurrency(12));
    return 0;
}
