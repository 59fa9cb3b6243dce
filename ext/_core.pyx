# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
# cython: cdivision=True, subinterpreters_compatible=no
"""The only bridge between Python and the C headers: arguments in, decisions out; nothing is decided here."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.math cimport INFINITY, nextafter, rint
from libc.string cimport memcpy, memset

from native cimport *

import bisect
import os
import struct

from penstock.decision import Decision
from penstock.errors import SegmentError, shown
from penstock.policy import HORIZON, TIERS_MOST
from penstock.rate import LIMITS_MOST, check_count

cdef ps_clock process_clock
cdef object ONE = 1
cdef str BROKEN = "the segment's file was cut off, or a forked process could not join it anew; make a new limiter"
cdef Py_ssize_t BLOCK = 32  # decisions that a batch asks memory for ahead


def _after_fork():
    """Gives up what belonged to the parent's other threads."""
    memset(&process_clock, 0, sizeof(process_clock))
    ps_thread_after_fork()


if not ps_thread_setup():
    raise MemoryError("no thread-specific storage left for penstock")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef double seconds(uint64_t ns) noexcept nogil:
    """Nanoseconds as seconds, rounded so that no wait comes out shorter; penstock.clock.ns_to_seconds in C."""
    cdef double value = <double>ns / 1e9
    if ns < <uint64_t>1 << 50:  # the product is within a hundredth of ns, so adding a half is rounding
        if <uint64_t>(value * 1e9 + 0.5) >= ns:
            return value
        return nextafter(value, INFINITY)
    if ns == PS_NEVER:
        return INFINITY
    while <uint64_t>rint(value * 1e9) < ns:
        value = nextafter(value, INFINITY)
    return value


cdef object decision_of(const ps_decision *d):
    """A Decision, filled in as its tuple is: half the cost of calling the class."""
    cdef object decision = PyType_GenericAlloc(<PyTypeObject *>Decision, 6)
    ps_tuple_unhashed(decision)
    set_item(decision, 0, d.allowed != 0)
    set_item(decision, 1, d.limit)
    set_item(decision, 2, d.remaining)
    set_item(decision, 3, seconds(d.retry_ns))
    set_item(decision, 4, seconds(d.reset_ns))
    set_item(decision, 5, d.index)
    return decision


cdef inline void set_item(object row, Py_ssize_t place, object item) noexcept:
    Py_INCREF(item)  # PyTuple_SET_ITEM steals one
    PyTuple_SET_ITEM(row, place, item)


cdef packed struct decision_row:
    unsigned char allowed
    unsigned char[7] pad
    int64_t limit
    int64_t remaining
    double retry_after
    double reset_after
    int64_t limit_index


cdef object decision_dtype(object numpy):
    """One row of check_many: the fields of Decision, 48 bytes."""
    return numpy.dtype([
        ("allowed", "?"), ("limit", "i8"), ("remaining", "i8"), ("retry_after", "f8"), ("reset_after", "f8"),
        ("limit_index", "i8"),
    ], align=True)


cdef uint64_t fingerprint_text(const ps_secret *secret, object text) except? 0:
    cdef Py_ssize_t count
    cdef const char *utf8
    cdef PyObject *string = <PyObject *>text
    if PyUnicode_IS_COMPACT_ASCII(string):
        return ps_fingerprint(secret, PS_KEY_STR, PyUnicode_DATA(string), PyUnicode_GET_LENGTH(string))
    try:
        utf8 = PyUnicode_AsUTF8AndSize(text, &count)
    except UnicodeEncodeError:  # lone surrogates: as many keys as there are strings
        data = (<str>text).encode("utf-8", "surrogatepass")
        return ps_fingerprint(secret, PS_KEY_STR, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return ps_fingerprint(secret, PS_KEY_STR, utf8, count)


cdef bytes int_bytes(object number):
    """An int as it is hashed: 8 bytes where they are enough, else as many as it takes."""
    cdef int size = 8 if -(2**63) <= number < 2**63 else int.bit_length(number) // 8 + 1
    return int.to_bytes(number, size, "little", signed=True)


cdef uint64_t fingerprint_number(const ps_secret *secret, object number) except? 0:
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow == 0:
        return ps_fingerprint_int(secret, value)
    data = int_bytes(number)
    return ps_fingerprint(secret, PS_KEY_INT, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef uint64_t fingerprint_tuple(const ps_secret *secret, tuple items) except? 0:
    cdef ps_sip sip
    cdef unsigned char kind
    ps_sip_begin(&sip, secret)
    for item in items:
        if isinstance(item, str):
            kind, data = PS_KEY_STR, (<str>item).encode("utf-8", "surrogatepass")
        elif isinstance(item, bytes):
            kind, data = PS_KEY_BYTES, item
        elif isinstance(item, int):
            kind, data = PS_KEY_INT, int_bytes(item)
        else:
            raise TypeError(f"an item of a tuple key must be str, bytes or int, not {type(item).__name__}")
        ps_sip_item(&sip, kind, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    ps_sip_byte(&sip, PS_KEY_TUPLE)
    return ps_sip_finish(&sip)


cdef inline uint64_t fingerprint_of(const ps_secret *secret, object key) except? 0:
    if isinstance(key, str):
        return fingerprint_text(secret, key)
    if isinstance(key, bytes):
        return ps_fingerprint(secret, PS_KEY_BYTES, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    if isinstance(key, int):
        return fingerprint_number(secret, key)
    if isinstance(key, tuple):
        return fingerprint_tuple(secret, <tuple>key)
    raise TypeError(f"key must be str, bytes, int or a tuple of these, not {type(key).__name__}")


cdef uint64_t checked_cost(str name, object cost) except 0:
    return check_count(name, cost)


cdef object batch_costs(object numpy, object costs, Py_ssize_t count):
    """Costs of a batch as an int64 array of `count`, every one checked before anything is decided."""
    given = numpy.array(costs)  # a copy, so that nobody changes it between here and the decisions
    if given.dtype.kind not in "iu" and count:
        raise TypeError(f"costs must be integers, not {given.dtype}")
    if given.shape != (count,):
        raise ValueError(f"costs must be one int or as many as there are keys ({count}), not of shape {given.shape}")
    if count and (given.min() < 1 or given.max() > 2**53):
        wrong = given.min() if given.min() < 1 else given.max()
        raise ValueError(f"costs has {wrong}; each must be between 1 and 2**53")
    return numpy.ascontiguousarray(given, dtype=numpy.int64)


cdef inline ps_limiter *limiter_of(Engine self) except NULL:
    if self.handle == NULL:
        raise RuntimeError("this limiter was never made: __init__ was not called")
    if ps_load_relaxed(&(<ps_limiter *>self.handle).trouble):
        look_at_trouble(self)
    return <ps_limiter *>self.handle


cdef int look_at_trouble(Engine self) except -1:
    """Raises when the segment is broken; says once that it has lost its name."""
    cdef ps_limiter *limiter = <ps_limiter *>self.handle
    cdef uint64_t trouble = PS_NAMELESS
    if ps_load_acquire(&limiter.trouble) == PS_BROKEN:
        raise SegmentError(BROKEN)
    if ps_exchange_if_equal(&limiter.trouble, &trouble, PS_NAMELESS_TOLD):
        self.plain = self.plain_made
        if ps_load_seq(&limiter.trouble) == PS_BROKEN:  # meanwhile
            self.plain = False
        import logging
        logging.getLogger("penstock.segment").error(
            "the segment's file was removed: the processes that have it still share their limits, but those started from now"
            " on share another; start all of them anew")
    return 0


cdef int native_policies(ps_policy *native, limits) except -1:
    """One tier's policies as the core has them."""
    cdef ps_policy *p = native
    for policy in limits:
        p.algorithm, p.limit, p.per_ns, p.resolution = policy.algorithm, policy.limit, policy.per_ns, policy.resolution
        p.ticks_per_ns, p.token_ticks, p.span_ticks = policy.ticks_per_ns, policy.token_ticks, policy.span_ticks
        p.tag, p.tag_shift, p.count_bits = policy.tag, policy.tag_shift, policy.count_bits
        p.age_bits, p.version_bits, p.per_inverse = policy.age_bits, policy.version_bits, policy.per_inverse
        p.grid_ns, p.first_hit, p.ring = policy.grid_ns, policy.first_hit, policy.ring
        p.kind, p.kappa, p.rate, p.interval_ns = policy.kind, policy.kappa, policy.rate, policy.interval_ns
        p += 1
    return 0


cdef object clock_ns(object clock):
    now = clock.now_ns()
    if not isinstance(now, int):
        raise TypeError(f"clock.now_ns() must return nanoseconds as an int, not {shown(now)}")
    return now


cdef inline uint64_t time_of(Engine self) except? 0:
    """Nanoseconds since this engine was made, at most PS_HORIZON; a clock of the user's never steps back."""
    cdef uint64_t now
    if self.clock is None:
        return ps_since(self.birth_ns, ps_clock_now(&process_clock))
    read = clock_ns(self.clock) - self.origin
    now = 0 if read < 0 else min(read, HORIZON)
    ps_raise(ps_latest(limiter_of(self)), now)
    return ps_latest_now(limiter_of(self))


cdef inline ps_caller caller_of(Engine self) noexcept:
    return ps_caller_numbered(<ps_limiter *>self.handle, PS_PYTHON_CELL)


cdef uint64_t tier_named(Engine self, object tier) except? 99:
    index = self.tiers.get(tier) if isinstance(tier, str) or tier is None else None
    if index is None:
        known = ", ".join(repr(name) for name in self.tiers)
        raise ValueError(f"tier={shown(tier)} must be one of {known}")
    return index


cdef inline uint64_t tier_of(Engine self, object tier) except? 99:
    if tier is None and self.default_tier != PS_NEVER:
        return self.default_tier
    return tier_named(self, tier)


cdef inline uint64_t cost_of(Engine self, object cost) except 0:
    return 1 if cost is ONE else checked_cost("cost", cost)


cdef inline uint64_t fingerprint_for(Engine self, object key) except? 0:
    return fingerprint_of(&(limiter_of(self)).secret, key)


cdef int remember_name(Engine self, uint64_t fingerprint, object key) except -1:
    """Keeps the key's name; of more than twice the capacity, the older half goes."""
    if fingerprint not in self.names:
        if len(self.names) >= self.names_most:
            for old in list(self.names)[: self.names_most // 2]:
                self.names.pop(old, None)
        self.names[fingerprint] = key
    return 0


cdef int change_key(Engine self, object key, object cost, object tier, ps_change change, bint only_held) except -1:
    cdef uint64_t fingerprint = fingerprint_for(self, key)
    cdef uint64_t units = cost_of(self, cost), index = tier_of(self, tier)
    ps_change_all(limiter_of(self), fingerprint, index, time_of(self), units, caller_of(self), change, only_held)
    return 0


cdef object decide_batch(Engine self, object keys, object costs, object tier, bint describe):
    try:
        import numpy
    except ImportError:
        raise ImportError("hit_many and check_many need NumPy: pip install 'penstock[numpy]'") from None
    cdef uint64_t index = tier_of(self, tier)
    cdef uint64_t one_cost = 0
    cdef const int64_t *row_costs = NULL
    cdef object fingerprints = batch_fingerprints(self, numpy, keys)
    cdef Py_ssize_t count = PyBytes_GET_SIZE(fingerprints) // 8
    cdef Py_buffer cost_view, out_view
    if isinstance(costs, (int, numpy.integer)) or not hasattr(costs, "__len__"):
        one_cost = checked_cost("costs", costs.item() if isinstance(costs, numpy.integer) else costs)
    else:
        costs = batch_costs(numpy, costs, count)
    out = numpy.empty(count, dtype=decision_dtype(numpy) if describe else numpy.bool_)
    cdef uint64_t now = time_of(self)
    PyObject_GetBuffer(out.view(numpy.uint8), &out_view, PyBUF_WRITABLE)
    if one_cost == 0:
        try:
            PyObject_GetBuffer(costs.view(numpy.uint8), &cost_view, PyBUF_STRIDED_RO)
        except BaseException:
            PyBuffer_Release(&out_view)
            raise
        row_costs = <const int64_t *>cost_view.buf
    cdef const uint64_t *prints = <const uint64_t *>PyBytes_AS_STRING(fingerprints)
    cdef char *rows = <char *>out_view.buf
    with nogil:
        decide_many(self, prints, count, index, now, one_cost, row_costs, rows, describe)
    PyBuffer_Release(&out_view)
    if row_costs != NULL:
        PyBuffer_Release(&cost_view)
    return out


cdef void decide_many(Engine self, const uint64_t *prints, Py_ssize_t count, uint64_t tier, uint64_t now, uint64_t one_cost,
                      const int64_t *costs, char *rows, bint describe) noexcept nogil:
    """The thread's own cell is used here, since the GIL is not held."""
    cdef ps_limiter *limiter = <ps_limiter *>self.handle
    cdef ps_caller caller = ps_caller_numbered(limiter, ps_thread_number())
    cdef ps_decision decision
    cdef decision_row *row
    cdef uint64_t cost
    cdef Py_ssize_t i
    for i in range(min(BLOCK, count)):
        ps_prefetch_key(limiter, prints[i])
    for i in range(count):
        if i + BLOCK < count:
            ps_prefetch_key(limiter, prints[i + BLOCK])
        cost = one_cost if costs == NULL else <uint64_t>costs[i]
        if describe:
            ps_hit(limiter, prints[i], tier, now, cost, caller, &decision)
            row = <decision_row *>(rows + i * sizeof(decision_row))
            row.allowed = decision.allowed
            row.limit = <int64_t>decision.limit
            row.remaining = <int64_t>decision.remaining
            row.retry_after = seconds(decision.retry_ns)
            row.reset_after = seconds(decision.reset_ns)
            row.limit_index = <int64_t>decision.index
        else:
            rows[i] = ps_hit(limiter, prints[i], tier, now, cost, caller, NULL)


cdef bytes batch_fingerprints(Engine self, object numpy, object keys):
    """The fingerprints of all keys, 8 bytes each; nothing has been decided when one of them is no key."""
    cdef ps_limiter *limiter = limiter_of(self)
    cdef Py_ssize_t i
    cdef uint64_t *out
    cdef tuple rows
    if isinstance(keys, numpy.ndarray):
        if keys.ndim != 1:
            raise ValueError(f"keys must have one dimension, not {keys.ndim}")
        if keys.dtype.kind in "iuSU" and not isinstance(keys, numpy.ma.MaskedArray):
            return array_fingerprints(self, numpy, numpy.asarray(keys))
        keys = keys.tolist()
    if isinstance(keys, (str, bytes)):
        raise TypeError(f"keys must be several keys, not one {type(keys).__name__}")
    if hasattr(keys, "__arrow_c_array__"):
        return arrow_fingerprints(self, keys)
    if hasattr(keys, "__arrow_c_stream__"):
        return arrow_stream_fingerprints(self, keys)
    rows = tuple(keys)  # which nobody else can make longer
    result = bytes(8 * len(rows))
    out = <uint64_t *>PyBytes_AS_STRING(result)
    for i, key in enumerate(rows):
        out[i] = fingerprint_of(&limiter.secret, key)
        if self.names is not None:
            remember_name(self, out[i], key)
    return result


cdef bytes array_fingerprints(Engine self, object numpy, object keys):
    cdef ps_secret *secret = &(limiter_of(self)).secret
    cdef Py_buffer view
    cdef uint64_t *out
    cdef Py_ssize_t width = keys.dtype.itemsize, count, stride
    if not keys.dtype.isnative:
        keys = keys.astype(keys.dtype.newbyteorder("="))
    kind = keys.dtype.kind
    result = bytes(8 * len(keys))
    if len(keys) == 0 or width == 0:
        return batch_fingerprints(self, numpy, keys.tolist())
    out = <uint64_t *>PyBytes_AS_STRING(result)
    PyObject_GetBuffer(keys, &view, PyBUF_STRIDED_RO | PyBUF_FORMAT)
    count, stride = view.shape[0], view.strides[0]
    if kind == "S":
        with nogil:
            ps_column_bytes(secret, <const char *>view.buf, count, stride, width, out)
    elif kind == "U":
        with nogil:
            ps_column_ucs4(secret, <const char *>view.buf, count, stride, width // 4, out)
    else:
        ps_column_ints(secret, <const char *>view.buf, count, stride, width, kind == "i", out)
    PyBuffer_Release(&view)
    return result


cdef bytes arrow_column(Engine self, const ArrowSchema *schema, const ArrowArray *array, Py_ssize_t before):
    """Of one array, which `before` rows precede."""
    cdef int64_t null = ps_arrow_null(array)
    if null >= 0:
        raise ValueError(f"keys must not be null: row {before + null} is")
    result = bytes(8 * array.length)
    if not ps_column_arrow(&(limiter_of(self)).secret, schema, array, <uint64_t *>PyBytes_AS_STRING(result)):
        kind = "a dictionary" if schema.dictionary != NULL else f"of format {schema.format.decode('ascii', 'replace')!r}"
        raise TypeError(f"keys must be an Arrow array of integers, utf8 or binary, not {kind}")
    return result


cdef bytes arrow_fingerprints(Engine self, object keys):
    """Of one Arrow array."""
    schema, array = keys.__arrow_c_array__()
    return arrow_column(
        self,
        <ArrowSchema *>PyCapsule_GetPointer(schema, "arrow_schema"),
        <ArrowArray *>PyCapsule_GetPointer(array, "arrow_array"),
        0,
    )


cdef bytes arrow_stream_fingerprints(Engine self, object keys):
    """Of a chunked Arrow array, chunk by chunk."""
    cdef ArrowSchema schema
    cdef ArrowArray array
    cdef Py_ssize_t before = 0
    capsule = keys.__arrow_c_stream__()
    cdef ArrowArrayStream *stream = <ArrowArrayStream *>PyCapsule_GetPointer(capsule, "arrow_array_stream")
    if stream.get_schema(stream, &schema) != 0:
        raise ValueError("keys: the Arrow stream has no schema")
    chunks = []
    try:
        while True:
            if stream.get_next(stream, &array) != 0:
                raise ValueError(f"keys: the Arrow stream broke off after {len(chunks)} chunks")
            if array.release == NULL:
                return b"".join(chunks)
            try:
                chunks.append(arrow_column(self, &schema, &array, before))
                before += array.length
            finally:
                array.release(&array)
    finally:
        schema.release(&schema)


REPLY = struct.Struct("<BBHId")  # status, version, entries, members, server's time in us
LOST = 2
cdef enum:
    ENTRIES_MOST = 65535


cdef ps_share *share_of(Engine self) except NULL:
    if limiter_of(self).share == NULL:
        raise TypeError("the limits of this engine are its own; only policies of algorithm SHARED are exchanged")
    return limiter_of(self).share


cdef penstock_batch *batch_of(Engine self, object partition) except NULL:
    cdef ps_share *share = share_of(self)
    cdef uint64_t there = min(ps_load_acquire(&share.partitions), <uint64_t>PS_PARTITIONS_MOST)  # more: scribbled
    if not isinstance(partition, int) or not 0 <= partition < there:
        raise ValueError(f"partition={shown(partition)} must be below {there}")
    return &self.batches[<Py_ssize_t>partition]


cdef void forget_batch(penstock_batch *batch) noexcept:
    PyMem_Free(batch.entries)
    batch.entries, batch.count = NULL, 0


cdef bytes packed(const penstock_batch *batch):
    """Entries as the wire has them, then their fingerprints."""
    cdef uint64_t i, count = batch.count
    cdef const ps_entry *entries = <const ps_entry *>batch.entries
    result = PyBytes_FromStringAndSize(NULL, count * (PS_ENTRY_BYTES + 8))
    cdef unsigned char *place = <unsigned char *>PyBytes_AS_STRING(result)
    for i in range(count):
        ps_pack_entry(&entries[i], place + i * PS_ENTRY_BYTES)
        memcpy(place + count * PS_ENTRY_BYTES + 8 * i, &entries[i].fingerprint, 8)
    return result


cdef bytes rows_of(ps_limiter *limiter, const ps_limit *limit, uint64_t now):
    """The rows of one limit. A table's keys can't be counted beforehand: others may decide meanwhile."""
    cdef uint64_t slots = ps_table_slots(limit.table.homes), most = ps_row_most(&limit.policies[0]), index = 0, used = 0
    cdef uint64_t room = max(most, <uint64_t>65536)
    cdef uint64_t *words = NULL
    cdef uint64_t *larger
    try:
        while True:
            larger = <uint64_t *>PyMem_Realloc(words, 8 * room)
            if larger == NULL:
                raise MemoryError
            words = larger
            with nogil:
                while index < slots and used + most <= room:
                    used += ps_row_read(limiter, limit, index, now, words + used)
                    index += 1
            if index == slots:
                return PyBytes_FromStringAndSize(<char *>words, 8 * used)
            room += room // 2 + most
    finally:
        PyMem_Free(words)


cdef uint64_t birth_of(segment) except? 0:
    """When a segment's time was 0; it may be older than the clock."""
    return segment.birth_ns & 0xFFFFFFFFFFFFFFFF


cdef int sit_down(Engine self, ps_limiter *limiter, segment, clock) except -1:
    """Takes a seat in the segment, and guards the mapping against a file that is cut off."""
    cdef uint64_t now = 0
    limiter.fast = &self.plain
    if not ps_guard_add(limiter.memory, limiter.bytes, &limiter.trouble, &self.plain):
        raise SegmentError("this process has mapped 256 segments, which is as many as it can guard")
    if segment.look_only:
        return 0
    if clock is None:
        now = ps_since(birth_of(segment), ps_clock_now(&process_clock))
    if not ps_seat_take(limiter, os.getpid(), now):
        raise SegmentError(f"{PS_SEATS_MOST} limiters have joined this segment, which is as many as it has seats for")
    return 0


cdef void stand_up(ps_limiter *limiter) noexcept:
    if limiter.commons != NULL:
        if ps_load_relaxed(&limiter.trouble) != PS_BROKEN:
            ps_seat_leave(limiter)
        ps_close(limiter.fd)


cdef ps_commons *commons_of(Engine self) except NULL:
    """What all who have the segment share, for an engine that has a seat in it."""
    cdef ps_limiter *limiter = limiter_of(self)
    if limiter.commons == NULL or limiter.seat == PS_NO_SEAT:
        raise RuntimeError("this limiter has no seat in a segment")
    return limiter.commons


def segment_bytes(Py_ssize_t capacity, tail_words, bint shared):
    """Bytes that a segment's file has after its header."""
    cdef uint64_t[8] words
    for i, count in enumerate(tail_words):
        words[i] = count
    return ps_limiter_bytes(capacity, words, len(tail_words), shared, True)


CAN_SHARE = bool(PS_CAN_SHARE)
OPEN_BYTE, LEAD_BYTE = PS_OPEN_BYTE, PS_LEAD_BYTE


cdef class Engine:
    """The decisions of one limiter, on the native core; penstock._reference.Engine is the same in plain Python.

    policies: for each tier, for each limit, a penstock.policy.Policy; tiers: name -> index into policies; capacity: keys;
    evict: what a full table does for a new key; secret: 16 bytes; clock: a penstock.clock.Clock, or None for the
    system's; remember: whether keys are kept for `name_of`. segment: a penstock.segment.Opened, whose descriptor is the
    engine's from now on, or None. age: nanoseconds that have passed already, for who goes on from rows that were saved;
    a segment knows its own. Raises MemoryError when the tables do not fit, SegmentError for a segment that cannot be
    joined.
    """

    def __init__(self, policies, dict tiers, *, Py_ssize_t capacity, bint evict, bytes secret, clock, bint remember,
                 segment=None, uint64_t age=0):
        cdef uint64_t[8] tail_words
        cdef ps_policy[8] native
        cdef Py_ssize_t tier
        cdef ps_limiter *limiter
        if self.handle != NULL:
            raise RuntimeError("a limiter is made once: __init__ was called again")
        if not 1 <= len(policies) <= TIERS_MOST or not 1 <= len(policies[0]) <= LIMITS_MOST:
            raise ValueError(f"policies must be of 1 to {TIERS_MOST} tiers and 1 to {LIMITS_MOST} limits")
        if any(len(limits) != len(policies[0]) for limits in policies):
            raise ValueError("policies must be of as many limits in every tier")
        if not 1 <= capacity < 2**40:  # more could not be counted in bytes
            raise ValueError(f"capacity={capacity} must be between 1 and 2**40 - 1")
        if len(secret) != 16:
            raise ValueError(f"secret has {len(secret)} bytes; it must have 16")
        origin = None if clock is None else clock_ns(clock)
        for i, policy in enumerate(policies[0]):
            tail_words[i] = policy.tail_words
        limiter = <ps_limiter *>PyMem_Malloc(sizeof(ps_limiter))
        if limiter == NULL:
            raise MemoryError
        memset(limiter, 0, sizeof(ps_limiter))
        shared = policies[0][0].algorithm == PS_SHARED
        if any((policy.algorithm == PS_SHARED) != shared for policy in policies[0]):
            PyMem_Free(limiter)
            raise ValueError("policies must be shared all, or none of them")
        if segment is not None:
            limiter.fd = segment.fd
            mapped = ps_limiter_attach(limiter, segment.header_bytes, capacity, tail_words, len(policies[0]), shared, segment.look_only)
        else:
            mapped = ps_limiter_open(limiter, capacity, tail_words, len(policies[0]), shared)
        if not mapped:
            PyMem_Free(limiter)
            needed = ps_limiter_bytes(capacity, tail_words, len(policies[0]), shared, segment is not None)
            raise MemoryError(f"capacity={capacity} needs {needed} bytes of tables, which this machine does not give")
        memcpy(&limiter.secret, PyBytes_AS_STRING(secret), 16)
        limiter.evict = evict
        limiter.tier_count = len(policies)
        try:
            for tier, limits in enumerate(policies):
                native_policies(native, limits)
                ps_install(limiter, tier, native)
            if segment is not None:
                ps_install_rest(limiter)
                sit_down(self, limiter, segment, clock)
        except BaseException:
            ps_limiter_close(limiter)
            PyMem_Free(limiter)
            raise
        self.clock = clock
        self.capacity = capacity
        self.tiers = tiers
        self.default_tier = tiers.get(None, PS_NEVER)
        self.names = {} if remember else None
        self.names_most = 2 * capacity
        self.birth_ns = ps_clock_now(&process_clock) - age if segment is None else birth_of(segment)
        if clock is None:
            limiter.clock, limiter.birth_ns = &process_clock, self.birth_ns
        if segment is not None:
            self.origin = segment.birth_ns
        elif clock is not None:
            self.origin = origin - age
        self.plain = self.plain_made = clock is None and not remember and None in tiers
        self.handle = <penstock_limiter *>limiter

    def __dealloc__(self):
        cdef int partition
        for partition in range(PS_PARTITIONS_MOST):
            PyMem_Free(self.batches[partition].entries)
        if self.handle != NULL:
            stand_up(<ps_limiter *>self.handle)
            ps_limiter_close(<ps_limiter *>self.handle)
            PyMem_Free(self.handle)

    def __reduce__(self):
        raise TypeError("an Engine cannot be copied or pickled: its counters are live; make one in each process")

    # ---- a segment that other processes have too ----

    def rejoin(self, fd):
        """In a forked child: gives up the parent's descriptor for `fd`, one of its own on the same file, and takes a seat
        of its own. fd=None, or no seat left: every later call raises SegmentError."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef int descriptor
        if limiter.commons == NULL:
            raise RuntimeError("this limiter has no segment")
        descriptor = -1 if fd is None else fd
        ps_close(limiter.fd)
        limiter.fd, limiter.seat = descriptor, PS_NO_SEAT
        ps_store_relaxed(&limiter.clearing, 0)  # it may be another thread's, which is not here
        if fd is None or not ps_seat_take(limiter, os.getpid(), time_of(self)):
            self.plain = False
            ps_store_release(&limiter.trouble, PS_BROKEN)

    @property
    def fd(self):
        """The descriptor of the segment's file; None without a segment."""
        cdef ps_limiter *limiter = limiter_of(self)
        return None if limiter.commons == NULL else limiter.fd

    def seats(self):
        """[(process number, seconds since it joined, alive)] of those who have joined the segment; alive is None where it
        is this engine's own seat."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), taken
        cdef uint32_t seat
        found = []
        for seat in range(PS_SEATS_MOST if limiter.commons != NULL else 0):
            taken = ps_load_acquire(&limiter.commons.seats[seat].taken)
            if taken:
                alive = None if seat == limiter.seat else bool(ps_byte_locked(limiter.fd, PS_SEAT_BYTE + seat))
                found.append((ps_load_relaxed(&limiter.commons.seats[seat].pid), seconds(now - min(now, taken - 1)), alive))
        return found

    def holders(self):
        """[(fingerprint, limit index, process number, units)] of what is held in the segment of Concurrency limits."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t index, fingerprint, units
        cdef uint32_t seat
        found = []
        for i in range(limiter.limit_count if limiter.commons != NULL else 0):
            if limiter.limits[i].policies[0].algorithm != PS_CONCURRENCY:
                continue
            for seat in range(<uint32_t>PS_SEATS_MOST):
                if not ps_load_acquire(&limiter.commons.seats[seat].taken):
                    continue
                for index in range(ps_table_slots(limiter.limits[i].table.homes)):
                    if ps_holders(&limiter.limits[i], index, seat, &fingerprint, &units):
                        found.append((fingerprint, i, ps_load_relaxed(&limiter.commons.seats[seat].pid), units))
        return found

    def clear_dead(self):
        """Gives back what processes held that have died; True when there were any."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef bint any
        if limiter.commons == NULL:
            return False
        with nogil:
            any = ps_clear_dead(limiter)
        return any

    def ring(self, uint64_t fingerprint):
        """Tells waiters in all processes that units of this key were given back."""
        cdef ps_limiter *limiter = limiter_of(self)
        if limiter.commons != NULL:
            ps_ring(limiter.commons, fingerprint)

    def listen(self, bint on):
        """Whether this engine is among those that `ring` wakes."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t was = not on
        commons_of(self)
        if ps_exchange_if_equal(&limiter.commons.seats[limiter.seat].listens, &was, on):
            ps_add_seq(&limiter.commons.listeners, 1 if on else <uint64_t>-1)

    # ---- a segment whose limits are shared through Redis, too: one process leads; see segment/host.h ----

    def lead(self):
        """To be called by the process that exchanges with Redis for all from now on: takes back what its predecessor had on
        the way, and has itself woken by `rest` when something is urgent."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef ps_share *share = share_of(self)
        commons_of(self)
        with nogil:
            ps_host_lead(limiter)
        ps_store_release(&share.wake, 1)

    def fleet(self):
        """(instances, the mode of each partition), as the leader has set them."""
        cdef ps_share *share = share_of(self)
        cdef int partition, count = min(<int>ps_load_acquire(&share.partitions), PS_PARTITIONS_MOST)
        return ps_load_acquire(&share.instances), [ps_load_acquire(&share.modes[partition]) for partition in range(count)]

    def wait_here(self, dict waited):
        """Says which keys callers of this process wait for: {fingerprint: units}; of more than 8 only some."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef ps_commons *commons = commons_of(self)
        cdef uint64_t[8] fingerprints, units
        cdef unsigned count = 0
        for fingerprint, amount in waited.items():
            if count < <unsigned>PS_SEAT_WAITS:
                fingerprints[count], units[count] = fingerprint, amount
                count += 1
        ps_host_wait(commons, limiter.seat, fingerprints, units, count)

    def waited_elsewhere(self):
        """{fingerprint: units} that callers of the other processes wait for."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef ps_commons *commons = commons_of(self)
        cdef uint32_t seat
        cdef uint64_t fingerprint, units
        found = {}
        for seat in range(PS_SEATS_MOST):
            if seat == limiter.seat or not ps_load_acquire(&commons.seats[seat].taken):
                continue
            for i in range(PS_SEAT_WAITS):
                units = ps_load_acquire(&commons.waits[seat][i].units)
                fingerprint = ps_load_acquire(&commons.waits[seat][i].fingerprint)
                if units and fingerprint > PS_SLOT_FREE:
                    found[fingerprint] = found.get(fingerprint, 0) + units
        return found

    def leave_forgotten(self, fingerprint):
        """Leaves word that a key, or all (None), is to be as good as new in Redis; False when there is no room for it."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef ps_commons *commons = commons_of(self)
        share_of(self)
        cdef bint left = ps_host_forget(commons, PS_SLOT_FREE if fingerprint is None else fingerprint)
        ps_host_urge(limiter, 0 if fingerprint is None else fingerprint)
        return left

    def forgotten(self):
        """What was left by `leave_forgotten`, in whatever process; asking takes it away."""
        cdef ps_commons *commons = commons_of(self)
        taken = [ps_host_forgotten(commons, which) for which in range(PS_FORGETS)]
        return [None if fingerprint == PS_SLOT_FREE else fingerprint for fingerprint in taken if fingerprint]

    def urge(self, uint64_t fingerprint):
        """Asks the leader for an early exchange of this key's partition."""
        share_of(self)
        commons_of(self)
        ps_host_urge(limiter_of(self), fingerprint)

    def rest(self, uint64_t asked, uint64_t most_ns):
        """Sleeps until something is urgent that was not when `asked` was returned, or for so long; returns the next `asked`."""
        cdef ps_commons *commons = commons_of(self)
        with nogil:
            ps_bell_listen(&commons.asked, asked, most_ns)
        return ps_load_seq(&commons.asked)

    def heard(self):
        """How often each bell was rung, the last number of all of them together: what `sleep` compares with. A key's bell
        is its fingerprint modulo their number."""
        cdef ps_commons *commons = commons_of(self)
        cdef int bell
        total = ps_load_seq(&commons.rung)
        return [ps_load_acquire(&commons.bells[bell]) for bell in range(PS_BELLS)], total

    def sleep(self, uint64_t heard, uint64_t most_ns):
        """Sleeps until a bell is rung after `heard` rings in all, or for so long."""
        cdef ps_commons *commons = commons_of(self)
        with nogil:
            ps_bell_listen(&commons.rung, heard, most_ns)

    # ---- decisions ----

    def hit(self, key, cost=1, tier=None):
        """Take `cost` units of `key` from every limit, or nothing: True when taken."""
        cdef uint64_t fingerprint = fingerprint_for(self, key)
        cdef uint64_t units = cost_of(self, cost), index = tier_of(self, tier)
        if self.names is not None:
            remember_name(self, fingerprint, key)
        return ps_hit(limiter_of(self), fingerprint, index, time_of(self), units, caller_of(self), NULL)

    def check(self, key, cost=1, tier=None):
        """As `hit`, answering with a Decision."""
        cdef uint64_t fingerprint = fingerprint_for(self, key)
        cdef uint64_t units = cost_of(self, cost), index = tier_of(self, tier)
        cdef ps_decision decision
        if self.names is not None:
            remember_name(self, fingerprint, key)
        ps_hit(limiter_of(self), fingerprint, index, time_of(self), units, caller_of(self), &decision)
        return decision_of(&decision)

    def peek(self, key, cost=1, tier=None):
        """The Decision that `check` would give now; takes nothing."""
        cdef uint64_t fingerprint = fingerprint_for(self, key)
        cdef uint64_t units = cost_of(self, cost), index = tier_of(self, tier)
        cdef ps_decision decision
        ps_peek(limiter_of(self), fingerprint, index, time_of(self), units, &decision)
        return decision_of(&decision)

    def refund(self, key, cost=1, tier=None):
        """Give `cost` units back to every limit, never above full."""
        change_key(self, key, cost, tier, PS_GIVE_BACK, False)

    def release(self, key, cost=1, tier=None):
        """Give `cost` units back to the Concurrency limits alone."""
        change_key(self, key, cost, tier, PS_GIVE_BACK, True)

    def force(self, key, cost=1, tier=None):
        """Take `cost` units whether they fit or not; what does not fit is owed."""
        change_key(self, key, cost, tier, PS_FORCE, False)

    def reset(self, key):
        """Make `key` as good as new under every limit."""
        cdef uint64_t fingerprint = fingerprint_for(self, key)
        ps_change_all(limiter_of(self), fingerprint, 0, time_of(self), 1, caller_of(self), PS_FORGET, False)

    def clear(self):
        """Make every key as good as new."""
        cdef ps_limiter *limiter = limiter_of(self)
        for i in range(limiter.limit_count):
            if limiter.commons == NULL or limiter.limits[i].policies[0].algorithm != PS_CONCURRENCY:
                ps_clear(&limiter.limits[i])
        if self.names is not None:
            self.names.clear()

    def replace(self, policies):
        """Put other policies in force, those of penstock.policy.replace_policies; keys keep what they have spent."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self)
        cdef ps_policy[16][8] native
        cdef Py_ssize_t tier
        if len(policies) != <Py_ssize_t>limiter.tier_count or any(len(limits) != <Py_ssize_t>limiter.limit_count for limits in policies):
            raise ValueError(f"policies must be of {limiter.tier_count} tiers and {limiter.limit_count} limits, as they were")
        for tier, limits in enumerate(policies):
            native_policies(native[tier], limits)
            if not 0 <= <int64_t>native[tier][0].tag < <int64_t>(2 * limiter.tier_count):
                raise ValueError(f"a policy's tag must be below {2 * limiter.tier_count}, not {native[tier][0].tag}")
        for tier in range(len(policies)):
            ps_replace(limiter, tier, native[tier], now)

    # ---- the exchange with Redis; one caller at a time ----

    def claim(self, key, cost=1, tier=None):
        """`check` on what Redis has granted alone, nothing on trust; for limits that instances share."""
        cdef ps_caller caller = caller_of(self)
        cdef ps_decision decision
        share_of(self)
        caller.credit_only = True
        cdef uint64_t fingerprint = fingerprint_for(self, key), units = cost_of(self, cost), index = tier_of(self, tier)
        ps_hit(limiter_of(self), fingerprint, index, time_of(self), units, caller, &decision)
        return decision_of(&decision)

    def share(self, instances, modes):
        """What the driver knows of the fleet: how many instances, and each partition's mode (0, 2 open, 3 closed)."""
        cdef ps_share *share = share_of(self)
        cdef int partition
        modes = [mode for mode in modes]
        if check_count("instances", instances) >= 2**31:
            raise ValueError(f"instances={instances} must be below 2**31")
        if not 1 <= len(modes) <= PS_PARTITIONS_MOST or any(mode not in (PS_MODE_NORMAL, PS_MODE_OPEN, PS_MODE_CLOSED) for mode in modes):
            raise ValueError(f"modes={modes!r} must be 0, 2 or 3 for each of 1 to {PS_PARTITIONS_MOST} partitions")
        for partition, mode in enumerate(modes):
            ps_store_relaxed(&share.modes[partition], mode)
        ps_store_relaxed(&share.partitions, len(modes))
        ps_share_among(limiter_of(self), instances)

    def early(self):
        """Partitions that have a key to tell before the next tick, as bits; asking takes them away."""
        cdef ps_share *share = share_of(self)
        cdef uint64_t asked = 0
        cdef int partition
        for partition in range(PS_PARTITIONS_MOST):
            if ps_load_acquire(&share.asked[partition]):
                ps_store_relaxed(&share.asked[partition], 0)
                asked |= <uint64_t>1 << partition
        return asked

    def wake(self, fd):
        """From now on a byte goes to this file descriptor, which must not block, when `early` has something to tell that
        it had not; None: no more. NotImplementedError where that cannot be done."""
        cdef ps_share *share = share_of(self)
        if not PS_CAN_WAKE:
            raise NotImplementedError("decisions cannot wake a driver on this system; ask early() now and then")
        if limiter_of(self).commons != NULL:
            raise RuntimeError("in a segment a descriptor means nothing to other processes; see lead() and rest()")
        if fd is not None and (not isinstance(fd, int) or not 0 <= fd < 2**31 - 1):
            raise ValueError(f"fd={shown(fd)} must be a file descriptor or None")
        ps_store_release(&share.wake, 0 if fd is None else fd + 1)

    def drain(self, partition, Py_ssize_t most, bint tick, wants):
        """What is to be told of at most `most` keys of a partition: entries of 32 bytes, then fingerprints of 8; b"" when
        nothing is due. wants: {(limit index, fingerprint): units waited for}. RuntimeError while a batch is on its way."""
        cdef penstock_batch *batch = batch_of(self, partition)
        cdef uint64_t now = time_of(self), number = partition, wanted_count = len(wants), i = 0
        cdef ps_entry *wanted = NULL
        cdef ps_entry *entries
        cdef ps_limiter *limiter = limiter_of(self)
        if batch.count:
            raise RuntimeError(f"partition {partition} has a batch on its way")
        if not 1 <= most <= <Py_ssize_t>ENTRIES_MOST:
            raise ValueError(f"most={most} must be between 1 and {ENTRIES_MOST}")
        entries = <ps_entry *>PyMem_Malloc(sizeof(ps_entry) * (most + wanted_count))
        if entries == NULL:
            raise MemoryError
        wanted = entries + most
        try:
            for (limit, fingerprint), units in wants.items():
                if not 0 <= limit < <int>limiter.limit_count:
                    raise ValueError(f"wants: there is no limit {limit}")
                wanted[i].limit, wanted[i].fingerprint, wanted[i].waited = limit, fingerprint, units
                i += 1
        except BaseException:
            PyMem_Free(entries)
            raise
        with nogil:
            batch.count = ps_drain(limiter, number, now, tick, wanted, wanted_count, entries, most)
        if not batch.count:
            PyMem_Free(entries)
            return b""
        batch.entries = entries
        return packed(batch)

    def applied(self, partition, bytes reply, uint64_t sent_ns):
        """Redis has answered the batch: takes in what it says. Returns the fingerprints of keys that were waited for.
        ValueError, and nothing changes, for a reply that is not one to this batch."""
        cdef penstock_batch *batch = batch_of(self, partition)
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), i, count = batch.count
        cdef ps_answer answer
        cdef bint granted
        cdef const unsigned char *answers_at = <const unsigned char *>PyBytes_AS_STRING(reply) + <Py_ssize_t>REPLY.size
        if not count:
            raise RuntimeError(f"partition {partition} has no batch on its way")
        status, _version, answers, _members, server_us = REPLY.unpack_from(reply) if len(reply) >= REPLY.size else (LOST, 0, 0, 0, 0.0)
        cdef double at_us = server_us
        if status == LOST or answers != count or len(reply) != REPLY.size + count * PS_ANSWER_BYTES:
            raise ValueError(f"the reply of {len(reply)} bytes is not one to a batch of {count} entries")
        granted = status == 0
        waited = {(<ps_entry *>batch.entries)[i].fingerprint: None for i in range(count) if (<ps_entry *>batch.entries)[i].waited}
        with nogil:
            for i in range(count):
                answer = ps_unpack_answer(answers_at + i * PS_ANSWER_BYTES)
                ps_settle(limiter, &(<ps_entry *>batch.entries)[i], &answer, now, sent_ns, at_us, granted)
        forget_batch(batch)
        return list(waited)

    def failed(self, partition):
        """The batch surely never came to Redis: everything is as before it."""
        cdef penstock_batch *batch = batch_of(self, partition)
        cdef uint64_t i
        if not batch.count:
            raise RuntimeError(f"partition {partition} has no batch on its way")
        for i in range(batch.count):
            ps_undrain(limiter_of(self), &(<ps_entry *>batch.entries)[i])
        forget_batch(batch)

    def restore(self, partition):
        """Redis has lost writes: the batch on its way once more, first, then every key that is known not to be full, all
        with what was known of them. They are one batch from now on."""
        cdef penstock_batch *batch = batch_of(self, partition)
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), number = partition, count
        cdef ps_entry *entries = <ps_entry *>PyMem_Realloc(batch.entries, sizeof(ps_entry) * ENTRIES_MOST)
        if entries == NULL:
            raise MemoryError
        batch.entries = entries
        with nogil:
            count = ps_restore(limiter, number, now, entries, batch.count, ENTRIES_MOST)
        batch.count = count
        if not batch.count:
            forget_batch(batch)
            return b""
        return packed(batch)

    def unlearn(self, fingerprint):
        """What was learnt and leased of the key with this fingerprint, or of all (None), is no more: it was made as good
        as new elsewhere. What was admitted here, and not told yet, still is."""
        share_of(self)
        ps_unlearn(limiter_of(self), 0 if fingerprint is None else fingerprint)

    def abandon(self):
        """What is to be told, on its way, leased or held is another's: that of the process that this one was forked from."""
        cdef int partition
        share_of(self)
        for partition in range(PS_PARTITIONS_MOST):
            forget_batch(&self.batches[partition])
        ps_abandon(limiter_of(self))

    def unsettled(self):
        """Units that Redis has not been told, that are in batches on their way, and of leases, over all keys."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t limit, index, now = time_of(self), x = 0, fly = 0, credit = 0
        share_of(self)
        for limit in range(limiter.limit_count):
            for index in range(ps_table_slots(limiter.limits[limit].table.homes)):
                ps_unsettled_add(limiter, limit, index, now, &x, &fly, &credit)
        return x, fly, credit

    def largest(self):
        """For each limit the largest cost asked of it so far, at least 1."""
        cdef ps_share *share = share_of(self)
        return [ps_load_acquire(&share.cost_most[<Py_ssize_t>i]) for i in range(limiter_of(self).limit_count)]

    # ---- batches ----

    def hit_many(self, keys, costs=1, tier=None):
        """`hit` for each key in order, at one time: a NumPy bool array, for which NumPy is needed. Keys: any iterable of
        keys, a NumPy array of integers, S or U, or an Arrow array (chunked too) of integers, strings or binary. costs:
        an int, or as many as there are keys."""
        return decide_batch(self, keys, costs, tier, False)

    def check_many(self, keys, costs=1, tier=None):
        """`check` for each key in order: a structured NumPy array with the fields of Decision."""
        return decide_batch(self, keys, costs, tier, True)

    # ---- what is saved and loaded ----

    def rows(self):
        """For each limit, what counts against its keys: rows of 8-byte little-endian words, as ext/snapshot/snapshot.h has
        them. Each key is consistent in itself; not for use while limits are replaced."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), i
        return [rows_of(limiter, &limiter.limits[i], now) for i in range(limiter.limit_count)]

    def fill(self, sections, names):
        """Puts rows into the tables of an engine that nobody else has yet, and keys' names if they are remembered.
        ValueError, and nothing changes, for what are not rows of these limits, of a time by now. Rows that find no place
        are those that owe least; they count as evicted."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), i, count, words, most = 0
        cdef const uint64_t *rows
        cdef ps_row_order *order
        cdef ps_caller caller = caller_of(self)
        if len(sections) != <Py_ssize_t>limiter.limit_count:
            raise ValueError(f"sections must be of {limiter.limit_count} limits, not {len(sections)}")
        for i, section in enumerate(sections):
            words = len(<bytes?>section) // 8
            count = ps_rows_count(limiter, &limiter.limits[i], <const uint64_t *>PyBytes_AS_STRING(section), words, now)
            if count == PS_NEVER or len(section) % 8:
                raise ValueError(f"section {i} has what is not a row of its limit")
            most = max(most, count)
        order = <ps_row_order *>PyMem_Malloc(sizeof(ps_row_order) * (most + 1))
        if order == NULL:
            raise MemoryError
        for i, section in enumerate(sections):
            rows, words = <const uint64_t *>PyBytes_AS_STRING(section), len(section) // 8
            with nogil:
                ps_rows_place(limiter, &limiter.limits[i], rows, words, order, now, caller)
        PyMem_Free(order)
        if self.names is not None:
            self.names.update(names)

    def remembered(self):
        """{fingerprint: key} of the names that are remembered."""
        return {} if self.names is None else dict(self.names)

    # ---- looking in ----

    def fingerprint(self, key):
        """The 64-bit fingerprint of a key."""
        return fingerprint_for(self, key)

    def now_ns(self):
        """Nanoseconds since this engine was made."""
        return time_of(self)

    @property
    def bytes(self):
        """Memory of the tables."""
        return (limiter_of(self)).bytes

    def counters(self):
        """(admitted, denied, evicted) since the engine was made."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t admitted = 0, denied = 0, evicted = 0
        for i in range(ps_cell_count(limiter)):
            admitted += ps_load_relaxed(&limiter.cells[i].admitted)
            denied += ps_load_relaxed(&limiter.cells[i].denied)
            evicted += ps_load_relaxed(&limiter.cells[i].evicted)
        return admitted, denied, evicted

    def live(self):
        """Keys with anything counted against them, under the limit that has most of them."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), index, fingerprint, spent, slots, live, most = 0
        for i in range(limiter.limit_count):
            slots = ps_table_slots(limiter.limits[i].table.homes)
            live = 0
            for index in range(slots):
                live += ps_inspect(&limiter.limits[i], index, now, &fingerprint, &spent)
            most = max(most, live)
        return most

    def denied_keys(self):
        """[(fingerprint, times refused)], most first; of the keys refused most, 256 for each calling thread."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef ps_refused *entry
        totals = {}
        for i in range(ps_cell_count(limiter)):
            for which in range(PS_REFUSED_SETS * PS_REFUSED_WAYS):
                entry = &limiter.cells[i].refused[which // PS_REFUSED_WAYS][which % PS_REFUSED_WAYS]
                fingerprint, count = ps_load_relaxed(&entry.fingerprint), ps_load_relaxed(&entry.count)
                if count:
                    totals[fingerprint] = totals.get(fingerprint, 0) + count
        return sorted(totals.items(), key=lambda item: (-item[1], item[0]))

    def spending(self, Py_ssize_t n):
        """[(fingerprint, limit index, units)], the n keys with most counted against them, most first."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), index, fingerprint, spent, slots, least = 0
        top = []
        for i in range(limiter.limit_count):
            slots = ps_table_slots(limiter.limits[i].table.homes)
            for index in range(slots):
                if ps_inspect(&limiter.limits[i], index, now, &fingerprint, &spent) and (spent > least or len(top) < n):
                    bisect.insort(top, (-<int64_t>spent, fingerprint, i))
                    del top[n:]
                    if top:
                        least = <uint64_t>(-<int64_t>top[-1][0])
        return [(entry[1], entry[2], -entry[0]) for entry in top]

    def spent(self, uint64_t fingerprint):
        """Units counted against the key with this fingerprint, under the limit that has most of them."""
        cdef ps_limiter *limiter = limiter_of(self)
        cdef uint64_t now = time_of(self), index, found, units, most = 0
        for i in range(limiter.limit_count):
            index = ps_table_find(&limiter.limits[i].table, fingerprint)
            if index != PS_NO_SLOT and ps_inspect(&limiter.limits[i], index, now, &found, &units):
                most = max(most, units)
        return most

    def name_of(self, fingerprint):
        """The key with this fingerprint, if names are remembered and it still is; else None."""
        return None if self.names is None else self.names.get(fingerprint)

    # ---- for callers in C ----

    cdef uint64_t fingerprint_str(self, const char *utf8, size_t count) noexcept nogil:
        return ps_fingerprint(&(<ps_limiter *>self.handle).secret, PS_KEY_STR, utf8, count) if self.handle != NULL else 0

    cdef uint64_t fingerprint_bytes(self, const char *data, size_t count) noexcept nogil:
        return ps_fingerprint(&(<ps_limiter *>self.handle).secret, PS_KEY_BYTES, data, count) if self.handle != NULL else 0

    cdef uint64_t fingerprint_int(self, long long value) noexcept nogil:
        return ps_fingerprint_int(&(<ps_limiter *>self.handle).secret, value) if self.handle != NULL else 0

    cdef bint decide(self, uint64_t fingerprint, uint64_t cost) noexcept nogil:
        cdef ps_limiter *limiter = <ps_limiter *>self.handle
        if limiter == NULL or self.default_tier == PS_NEVER or ps_load_relaxed(&limiter.trouble) == PS_BROKEN:
            return False
        cdef uint64_t now = ps_since(self.birth_ns, ps_clock_now(&process_clock))
        return ps_hit(limiter, fingerprint, self.default_tier, now, cost, ps_caller_numbered(limiter, ps_thread_number()), NULL)


# A plain call, `hit(key)` with an ASCII str, is most calls of most programs: it is answered without unpacking arguments,
# a tenth of the whole. Every other call, and every error, is Engine.hit's.
cdef PyMethodDef hit_definition
cdef ps_method hit_general


cdef PyObject *hit_plain(Engine engine, PyObject *const *arguments, Py_ssize_t count, PyObject *names) noexcept:
    cdef PyObject *key  # borrowed, as `engine` is: counting references costs as much as the clock, and threads meet there
    if not (engine.plain and count == 1 and names == NULL):
        return hit_general(<PyObject *>engine, arguments, count, names)
    key = arguments[0]
    if not (PyUnicode_CheckExact(key) and PyUnicode_IS_COMPACT_ASCII(key)):
        return hit_general(<PyObject *>engine, arguments, count, names)
    cdef ps_limiter *limiter = <ps_limiter *>engine.handle
    cdef uint64_t fingerprint = ps_fingerprint(&limiter.secret, PS_KEY_STR, PyUnicode_DATA(key), PyUnicode_GET_LENGTH(key))
    cdef uint64_t now = ps_since(engine.birth_ns, ps_clock_now(&process_clock))
    return PyBool_FromLong(ps_hit(limiter, fingerprint, engine.default_tier, now, 1, caller_of(engine), NULL))


def adopt(cls, *names):
    """Gives a subclass of Engine method descriptors of its own for Engine's methods of these names.

    The interpreter's specialised call of a C method asks that the object is exactly of the descriptor's type; through
    an inherited descriptor a call costs half a `dict.get` more.
    """
    global hit_definition, hit_general
    cdef PyMethodDef *definition
    if not issubclass(cls, Engine):
        raise TypeError(f"cls must be a subclass of Engine, not {cls!r}")
    for name in names:
        descriptor = getattr(Engine, name)
        if type(descriptor) is not type(Engine.hit):
            raise TypeError(f"names must be of methods of Engine, not {name!r}")
        definition = (<PyMethodDescrObject *>descriptor).d_method
        if name == "hit" and definition.ml_flags == METH_FASTCALL | METH_KEYWORDS:
            hit_general = <ps_method><void *>definition.ml_meth
            hit_definition = definition[0]
            hit_definition.ml_meth = <PyCFunction><void *>hit_plain
            definition = &hit_definition
        setattr(cls, name, PyDescr_NewMethod(<PyTypeObject *>cls, definition))
