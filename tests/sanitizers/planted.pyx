# Faults on purpose: .ci/sanitize-python.sh and .ci/tsan-python.sh append this to a copy of ext/_core.pyx, so that each
# sanitizer finds its fault in the very module that is tested. A check that cannot fail proves nothing.
cdef extern from *:
    """
    #include <stdlib.h>
    static int planted_heap(size_t size, size_t place) {
        volatile char *bytes = (volatile char *)calloc(size, 1);
        int byte = bytes ? bytes[place] : 0;
        free((void *)bytes);
        return byte;
    }
    static int planted_sum(int a, int b) { return a + b; }
    static volatile uint64_t planted_counter;
    static void planted_race(uint64_t count) {
        for (uint64_t i = 0; i < count; i++)
            planted_counter = planted_counter + 1;
    }
    """
    int planted_heap(size_t size, size_t place)
    int planted_sum(int a, int b)
    void planted_race(uint64_t count)


def planted(Engine engine, fault, int count=1):
    """fault: "heap", "table" or "overflow"; "race" when two threads are here at once; else none."""
    if fault == "heap":
        return planted_heap(count, count)  # one past the end
    if fault == "table":
        return (<char *>limiter_of(engine).cells)[limiter_of(engine).bytes]  # one past the end of the tables
    if fault == "overflow":
        return planted_sum(2**31 - 1, count)
    if fault == "race":
        planted_race(count)
    return 0
