/* Put before every C file of the modules that .ci/benchmarks.sh builds (-include): the processor's counter is one that
 * counted.c keeps, so that a run reads the same times, and takes the same branches, whenever it is repeated. */
#include <stdint.h>

extern uint64_t counted_ns;

#define COUNTED_STEP 100 /* ns from one reading to the next, of whichever clock */
#define __builtin_ia32_rdtsc() (counted_ns += COUNTED_STEP)
