# cython: language_level=3, freethreading_compatible=True
"""An example for callers in C: the decision without the interpreter, from any number of threads at once."""

import threading

from libc.stdint cimport uint64_t
from libc.string cimport strlen

cimport penstock
from penstock cimport Engine


def admit(Engine limiter not None, bytes name not None, int times):
    """How many of `times` requests of the str key with this UTF-8 are admitted."""
    cdef const char *utf8 = name
    cdef size_t count = len(name)
    cdef int admitted = 0
    cdef int _
    with nogil:
        for _ in range(times):
            admitted += limiter.decide(limiter.fingerprint_str(utf8, count), 1)
    return admitted


def admit_number(Engine limiter not None, long long number, uint64_t cost=1):
    """The same for an int key, once, at a cost."""
    cdef bint admitted
    with nogil:
        admitted = limiter.decide(limiter.fingerprint_int(number), cost)
    return admitted


def admit_bytes(Engine limiter not None, bytes key not None):
    """The same for a bytes key."""
    cdef const char *data = key
    cdef size_t count = len(key)
    cdef bint admitted
    with nogil:
        admitted = limiter.decide(limiter.fingerprint_bytes(data, count), 1)
    return admitted


def fingerprints(Engine limiter not None, bytes utf8 not None, bytes data not None, long long number):
    """The three kinds of fingerprint that C can make."""
    cdef const char *text = utf8
    return (
        limiter.fingerprint_str(text, strlen(text)),
        limiter.fingerprint_bytes(<const char *>data, len(data)),
        limiter.fingerprint_int(number),
    )


def admit_by_full_name(penstock.Engine limiter not None, long long number):
    """The class can be written out, too."""
    return limiter.decide(limiter.fingerprint_int(number), 1)


def admit_from_threads(Engine limiter not None, bytes name not None, int times, int threads):
    """The total over threads that run at once."""
    admitted = []
    workers = [threading.Thread(target=lambda: admitted.append(admit(limiter, name, times))) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(admitted)
