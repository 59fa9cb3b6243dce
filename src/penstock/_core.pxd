# For `cimport penstock`: an engine's decision without the interpreter.
from libc.stdint cimport uint64_t


cdef extern from *:
    """
    typedef void penstock_limiter;
    """
    ctypedef struct penstock_limiter:
        pass

ctypedef struct penstock_batch:  # keys of one partition that are on their way to Redis
    void *entries
    uint64_t count


cdef class Engine:
    cdef penstock_limiter *handle
    cdef uint64_t birth_ns
    cdef uint64_t default_tier
    cdef object clock
    cdef object origin
    cdef dict tiers
    cdef dict names
    cdef Py_ssize_t names_most
    cdef bint plain, plain_made
    cdef penstock_batch[16] batches
    cdef readonly Py_ssize_t capacity

    # The fingerprint of the str whose UTF-8 is these bytes, of a bytes object, and of an int.
    cdef uint64_t fingerprint_str(self, const char *utf8, size_t count) noexcept nogil
    cdef uint64_t fingerprint_bytes(self, const char *data, size_t count) noexcept nogil
    cdef uint64_t fingerprint_int(self, long long value) noexcept nogil
    # One decision by the system's clock, for a key of the tier without a name: cost >= 1 taken from every limit, or
    # nothing. Also False where there is no such tier, or the limiter was never made.
    cdef bint decide(self, uint64_t fingerprint, uint64_t cost) noexcept nogil
