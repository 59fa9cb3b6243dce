# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
# cython: cdivision=True, subinterpreters_compatible=no
"""The bridge to records/half_space.h and records/shape.h: rows and requests in, scores out."""

from cpython.mem cimport PyMem_RawFree
from libc.stdint cimport uint32_t, uint64_t


cdef extern from "Python.h":
    void *PyMem_RawCalloc(size_t count, size_t bytes) noexcept nogil
    int PyUnicode_KIND(object text) noexcept
    void *PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept


cdef extern from "records/half_space.h" nogil:
    ctypedef int ps_word
    ctypedef struct ps_forest:
        uint32_t columns
        ps_word stage, shown, learned
    enum:
        PS_FOREST_COLUMNS_MOST
        PS_FOREST_TRAINED
    uint64_t ps_load_relaxed(const ps_word *word)
    size_t ps_forest_bytes(uint32_t trees, uint32_t height, uint32_t columns)
    void ps_forest_open(ps_forest *forest, uint32_t trees, uint32_t height, uint32_t columns, uint32_t window, uint64_t seed)
    float ps_forest_score(ps_forest *forest, const float *row, uint64_t key, bint learn)


cdef extern from "records/shape.h" nogil:
    ctypedef struct ps_text:
        const void *signs
        size_t length
        unsigned width
    ctypedef struct ps_asked:
        ps_text path, query, agent
        unsigned method, headers, expected
        double failures
    enum:
        PS_SHAPE_COLUMNS
    void ps_shape_row(const ps_asked *asked, float *row)
    uint64_t ps_text_hash(ps_text text)


SHAPE_COLUMNS = PS_SHAPE_COLUMNS


cdef inline ps_text text_of(str text):
    cdef ps_text found
    found.signs = PyUnicode_DATA(text)
    found.width = <unsigned>PyUnicode_KIND(text)
    found.length = <size_t>PyUnicode_GET_LENGTH(text) if found.width else 0  # 0: not in its final form, before 3.12
    return found


cdef inline uint64_t key_of(str key):
    return 0 if key is None else ps_text_hash(text_of(key))


cdef inline void asked_row(
    str path, str query, str agent, unsigned method, unsigned headers, unsigned expected, double failures, float *row
):
    cdef ps_asked asked
    asked.path, asked.query, asked.agent = text_of(path), text_of(query), text_of(agent)
    asked.method, asked.headers, asked.expected, asked.failures = method, headers, expected, failures
    ps_shape_row(&asked, row)


def shape(
    str path not None,
    str query not None,
    str agent not None,
    unsigned method,
    unsigned headers,
    unsigned expected,
    double failures,
):
    """The row of a request; penstock.guard.anomaly.FEATURES names its columns."""
    cdef float row[PS_SHAPE_COLUMNS]
    asked_row(path, query, agent, method, headers, expected, failures, row)
    return tuple([row[i] for i in range(PS_SHAPE_COLUMNS)])


cdef class Forest:
    """Half-space trees over rows of numbers; penstock.guard.anomaly.Anomaly checks what it is given. Safe from any thread
    without a lock; after a fork each process has its own."""

    cdef ps_forest *forest
    cdef readonly size_t memory

    def __cinit__(self, uint32_t columns, uint32_t trees, uint32_t height, uint32_t window, uint64_t seed):
        self.memory = ps_forest_bytes(trees, height, columns)
        self.forest = <ps_forest *>PyMem_RawCalloc(1, self.memory)
        if self.forest == NULL:
            raise MemoryError(f"no memory for {trees} trees of height {height}")
        ps_forest_open(self.forest, trees, height, columns, window, seed)

    def __dealloc__(self):
        PyMem_RawFree(self.forest)

    def __reduce__(self):
        raise TypeError("a forest cannot be copied or pickled")

    @property
    def trained(self):
        """Whether there are scores yet."""
        return ps_load_relaxed(&self.forest.stage) == PS_FOREST_TRAINED

    @property
    def shown(self):
        """Rows that might have been learned; lossy when threads count at once."""
        return ps_load_relaxed(&self.forest.shown)

    @property
    def learned(self):
        """Those of them that were."""
        return ps_load_relaxed(&self.forest.learned)

    def score(self, row, str key=None, bint learn=True):
        """How rare a row is, 0 to 1."""
        cdef float values[PS_FOREST_COLUMNS_MOST]
        cdef uint32_t columns = self.forest.columns, i = 0
        if len(row) != columns:
            raise ValueError(f"row has {len(row)} values; it must have {columns}")
        for value in row:
            if i == columns:
                break
            values[i] = <float><double>value
            i += 1
        if i != columns:
            raise ValueError(f"row gave {i} values; it must have {columns}")
        return ps_forest_score(self.forest, values, key_of(key), learn)

    def score_request(
        self,
        str path not None,
        str query not None,
        str agent not None,
        unsigned method,
        unsigned headers,
        unsigned expected,
        double failures,
        str key=None,
        bint learn=True,
    ):
        """`score` of `shape`, for a forest of SHAPE_COLUMNS columns."""
        cdef float row[PS_FOREST_COLUMNS_MOST]
        if self.forest.columns != PS_SHAPE_COLUMNS:
            raise ValueError(f"features={self.forest.columns} must be {PS_SHAPE_COLUMNS} for requests")
        asked_row(path, query, agent, method, headers, expected, failures, row)
        return ps_forest_score(self.forest, row, key_of(key), learn)
