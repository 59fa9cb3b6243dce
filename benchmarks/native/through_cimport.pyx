# cython: language_level=3
"""Decisions as a Cython user takes them: `cimport penstock`'s engine, 1,000 str keys, clock and hash included."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from penstock._core cimport Engine
from time import perf_counter_ns


cdef enum:
    KEY_BYTES = 32


def decide(Engine engine, list keys, int count):
    """ns for each of `count` decisions that visit `keys` (ASCII, under 32 characters) in a scattered order, and how many were admitted."""
    cdef int size = len(keys), i, place = 0
    cdef uint64_t admitted = 0
    cdef char *texts = <char *>malloc(size * KEY_BYTES)
    cdef size_t *lengths = <size_t *>malloc(size * sizeof(size_t))
    if texts == NULL or lengths == NULL:
        free(texts)
        free(lengths)
        raise MemoryError
    for i, key in enumerate(keys):
        data = key.encode("ascii")
        lengths[i] = len(data)
        memcpy(texts + i * KEY_BYTES, <const char *>data, lengths[i])
    start = perf_counter_ns()
    with nogil:
        for i in range(count):
            place = (place + 617) % size
            admitted += engine.decide(engine.fingerprint_str(texts + place * KEY_BYTES, lengths[place]), 1)
    taken = perf_counter_ns() - start
    free(texts)
    free(lengths)
    return taken / count, admitted
