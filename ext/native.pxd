# What the C headers offer, as Cython sees it; the only `cdef extern` of the core.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from cpython.object cimport PyObject, PyTypeObject

cdef extern from "limiter.h" nogil:
    ctypedef struct ps_word:
        pass

    uint64_t ps_load_acquire(const ps_word *word)
    uint64_t ps_load_seq(const ps_word *word)
    uint64_t ps_add_seq(ps_word *word, uint64_t amount)
    bint ps_exchange_if_equal(ps_word *word, uint64_t *expected, uint64_t desired)
    void ps_store_relaxed(ps_word *word, uint64_t value)
    void ps_store_release(ps_word *word, uint64_t value)
    uint64_t ps_load_relaxed(const ps_word *word)
    void ps_raise(ps_word *word, uint64_t value)

    ctypedef struct ps_secret:
        uint64_t k0
        uint64_t k1

    ctypedef struct ps_sip:
        pass

    int PS_KEY_STR, PS_KEY_BYTES, PS_KEY_INT, PS_KEY_TUPLE
    uint64_t ps_fingerprint(const ps_secret *secret, unsigned char type, const void *data, size_t count)
    uint64_t ps_fingerprint_int(const ps_secret *secret, int64_t value)
    void ps_sip_begin(ps_sip *sip, const ps_secret *secret)
    void ps_sip_item(ps_sip *sip, unsigned char type, const void *data, size_t count)
    void ps_sip_byte(ps_sip *sip, unsigned char byte)
    uint64_t ps_sip_finish(ps_sip *sip)

    ctypedef struct ps_clock:
        pass

    uint64_t ps_clock_now(ps_clock *clock)
    uint64_t ps_since(uint64_t birth_ns, uint64_t clock_ns)
    bint ps_thread_setup()
    uint64_t ps_thread_number()
    void ps_thread_after_fork()

    ctypedef struct ps_policy:
        uint32_t algorithm
        uint32_t resolution
        uint64_t limit
        uint64_t per_ns
        uint64_t tag
        uint64_t ticks_per_ns
        uint64_t token_ticks
        uint64_t span_ticks
        uint32_t tag_shift
        uint32_t count_bits
        uint32_t age_bits
        uint32_t version_bits
        uint64_t per_inverse
        uint64_t grid_ns
        uint32_t first_hit
        uint32_t ring
        uint32_t kind
        uint32_t kappa
        uint64_t rate
        uint64_t interval_ns

    ctypedef struct ps_table:
        uint64_t homes

    ctypedef struct ps_limit:
        ps_table table
        ps_policy *policies

    ctypedef struct ps_refused:
        ps_word fingerprint
        ps_word count

    ctypedef struct ps_cell:
        ps_word admitted
        ps_word denied
        ps_word evicted
        ps_refused[64][4] refused

    ctypedef struct ps_caller:
        ps_cell *cell
        uint32_t number
        bint credit_only

    ctypedef struct ps_seat:
        ps_word taken
        ps_word pid
        ps_word transit
        ps_word listens

    ctypedef struct ps_wait:
        ps_word fingerprint
        ps_word units

    ctypedef struct ps_commons:
        ps_wait[128][8] waits
        ps_word asked
        ps_word rung
        ps_word listeners
        ps_word *bells
        ps_seat *seats

    bint PS_CAN_SHARE
    int PS_BELLS
    uint32_t PS_SEATS_MOST
    int64_t PS_OPEN_BYTE, PS_LEAD_BYTE, PS_SEAT_BYTE
    void ps_close(int fd)
    uint32_t PS_NO_SEAT
    void ps_ring(ps_commons *commons, uint64_t fingerprint)
    void ps_bell_listen(ps_word *bell, uint64_t heard, uint64_t most_ns)
    bint ps_byte_locked(int fd, int64_t byte)
    bint ps_guard_add(void *start, size_t bytes, ps_word *trouble, bint *fast)

    ctypedef struct ps_share:
        ps_word instances
        ps_word partitions
        ps_word *modes
        ps_word *asked
        ps_word *cost_most
        ps_word wake

    bint PS_CAN_WAKE
    int PS_PARTITIONS_MOST, PS_MODE_NORMAL, PS_MODE_OPEN, PS_MODE_CLOSED, PS_SHARED, PS_CONCURRENCY
    uint64_t ps_partition_of(const ps_share *share, uint64_t fingerprint)

    ctypedef struct ps_limiter:
        ps_limit *limits
        uint64_t limit_count
        ps_word *current
        uint64_t tier_count
        ps_secret secret
        bint evict
        ps_clock *clock
        uint64_t birth_ns
        ps_share *share
        ps_cell *cells
        void *memory
        size_t bytes
        ps_commons *commons
        uint32_t seat
        int fd
        ps_word trouble
        ps_word clearing
        bint *fast

    ctypedef enum ps_trouble:
        PS_NO_TROUBLE
        PS_BROKEN
        PS_NAMELESS
        PS_NAMELESS_TOLD

    ctypedef struct ps_decision:
        bint allowed
        uint64_t limit
        uint64_t remaining
        uint64_t retry_ns
        uint64_t reset_ns
        uint64_t index

    ctypedef enum ps_change:
        PS_GIVE_BACK
        PS_FORCE
        PS_FORGET

    int PS_CELLS, PS_CELL_GIL, PS_REFUSED_SETS, PS_REFUSED_WAYS
    uint64_t PS_HORIZON, PS_NEVER

    uint64_t PS_NO_SLOT
    uint64_t ps_table_find(const ps_table *table, uint64_t fingerprint)
    uint64_t ps_table_homes(uint64_t capacity)
    uint64_t ps_table_slots(uint64_t homes)
    size_t ps_limiter_bytes(uint64_t capacity, const uint64_t *tail_words, uint64_t limit_count, bint shared, bint segment)
    bint ps_limiter_open(ps_limiter *limiter, uint64_t capacity, const uint64_t *tail_words, uint64_t limit_count, bint shared)
    bint ps_limiter_attach(ps_limiter *limiter, size_t header, uint64_t capacity, const uint64_t *tail_words,
                           uint64_t limit_count, bint shared, bint look_only)
    bint ps_seat_take(ps_limiter *limiter, uint64_t pid, uint64_t now)
    void ps_seat_leave(ps_limiter *limiter)
    bint ps_clear_dead(ps_limiter *limiter)
    void ps_limiter_close(ps_limiter *limiter)
    uint64_t ps_cell_count(const ps_limiter *limiter)
    ps_caller ps_caller_numbered(ps_limiter *limiter, uint64_t number)
    ps_word *ps_latest(ps_limiter *limiter)
    uint64_t ps_latest_now(ps_limiter *limiter)
    bint ps_hit(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost,
                ps_caller caller, ps_decision *decision)
    bint ps_peek(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost,
                 ps_decision *decision)
    void ps_change_all(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost,
                       ps_caller caller, ps_change change, bint only_held)
    void ps_prefetch_key(const ps_limiter *limiter, uint64_t fingerprint)
    void ps_clear(const ps_limit *limit)
    void ps_install(ps_limiter *limiter, uint64_t tier, const ps_policy *policies)
    void ps_install_rest(ps_limiter *limiter)
    void ps_share_among(ps_limiter *limiter, uint64_t instances)
    void ps_replace(ps_limiter *limiter, uint64_t tier, const ps_policy *policies, uint64_t now)
    bint ps_holders(const ps_limit *limit, uint64_t index, uint32_t seat, uint64_t *fingerprint, uint64_t *units)
    bint ps_inspect(const ps_limit *limit, uint64_t index, uint64_t now, uint64_t *fingerprint, uint64_t *spent)

cdef extern from "sync/exchange.h" nogil:
    ctypedef struct ps_entry:
        uint64_t limit
        uint64_t fingerprint
        uint64_t waited

    ctypedef struct ps_answer:
        pass

    int PS_ENTRY_BYTES, PS_ANSWER_BYTES
    uint64_t ps_drain(ps_limiter *limiter, uint64_t partition, uint64_t now, bint tick, const ps_entry *wanted,
                      uint64_t wanted_count, ps_entry *entries, uint64_t most)
    void ps_settle(ps_limiter *limiter, const ps_entry *entry, const ps_answer *answer, uint64_t now, uint64_t sent_ns,
                   double server_us, bint granted)
    void ps_undrain(ps_limiter *limiter, const ps_entry *entry)
    uint64_t ps_restore(ps_limiter *limiter, uint64_t partition, uint64_t now, ps_entry *entries, uint64_t count, uint64_t room)
    void ps_pack_entry(const ps_entry *entry, unsigned char *place)
    ps_answer ps_unpack_answer(const unsigned char *place)
    void ps_unlearn(ps_limiter *limiter, uint64_t fingerprint)
    void ps_abandon(ps_limiter *limiter)
    void ps_unsettled_add(const ps_limiter *limiter, uint64_t limit_index, uint64_t index, uint64_t now, uint64_t *x,
                          uint64_t *fly, uint64_t *credit)

cdef extern from "segment/host.h" nogil:
    int PS_SEAT_WAITS, PS_FORGETS
    uint64_t PS_SLOT_FREE
    void ps_host_wait(ps_commons *commons, uint32_t seat, const uint64_t *fingerprints, const uint64_t *units, unsigned count)
    bint ps_host_forget(ps_commons *commons, uint64_t fingerprint)
    uint64_t ps_host_forgotten(ps_commons *commons, unsigned which)
    void ps_host_urge(ps_limiter *limiter, uint64_t fingerprint)
    void ps_host_lead(ps_limiter *limiter)

cdef extern from "snapshot/snapshot.h" nogil:
    ctypedef struct ps_row_order:
        pass

    uint64_t ps_row_most(const ps_policy *p)
    uint64_t ps_row_read(const ps_limiter *limiter, const ps_limit *limit, uint64_t index, uint64_t now, uint64_t *row)
    uint64_t ps_rows_count(const ps_limiter *limiter, const ps_limit *limit, const uint64_t *rows, uint64_t words, uint64_t now)
    void ps_rows_place(ps_limiter *limiter, const ps_limit *limit, const uint64_t *rows, uint64_t words, ps_row_order *order,
                       uint64_t now, ps_caller caller)

cdef extern from "batch/columns.h" nogil:
    struct ArrowSchema:
        const char *format
        ArrowSchema *dictionary
        void (*release)(ArrowSchema *) noexcept
    struct ArrowArray:
        int64_t length
        void (*release)(ArrowArray *) noexcept
    struct ArrowArrayStream:
        int (*get_schema)(ArrowArrayStream *, ArrowSchema *out) noexcept
        int (*get_next)(ArrowArrayStream *, ArrowArray *out) noexcept
    void ps_column_ints(const ps_secret *secret, const char *rows, int64_t count, int64_t stride, unsigned width,
                        bint is_signed, uint64_t *out)
    void ps_column_bytes(const ps_secret *secret, const char *rows, int64_t count, int64_t stride, int64_t width,
                         uint64_t *out)
    void ps_column_ucs4(const ps_secret *secret, const char *rows, int64_t count, int64_t stride, int64_t width,
                        uint64_t *out)
    int64_t ps_arrow_null(const ArrowArray *array)
    bint ps_column_arrow(const ps_secret *secret, const ArrowSchema *schema, const ArrowArray *array, uint64_t *out)

cdef extern from *:
    """
    /* The cell of a caller that runs Python code: with the GIL, its holder's; without, the thread's own. */
    #if defined(Py_GIL_DISABLED)
    #define PS_PYTHON_CELL ps_thread_number()
    #else
    #define PS_PYTHON_CELL PS_CELL_GIL
    #endif
    /* A C method with the flags METH_FASTCALL | METH_KEYWORDS, under a name that every CPython has. */
    typedef PyObject *(*ps_method)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
    /* From 3.14 a tuple keeps its hash, -1 while it is not known; an allocation leaves 0 there. */
    #if PY_VERSION_HEX >= 0x030e0000
    #define ps_tuple_unhashed(tuple) ((void)(((PyTupleObject *)(tuple))->ob_hash = -1))
    #else
    #define ps_tuple_unhashed(tuple) ((void)(tuple))
    #endif
    """
    uint64_t PS_PYTHON_CELL
    bint PyUnicode_CheckExact(PyObject *text)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *text)
    const void *PyUnicode_DATA(PyObject *text)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *text)
    PyObject *PyBool_FromLong(long value)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1

    ctypedef PyObject *(*PyCFunction)(PyObject *, PyObject *) noexcept
    ctypedef PyObject *(*ps_method)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *) noexcept
    ctypedef struct PyMethodDef:
        PyCFunction ml_meth
        int ml_flags
    int METH_FASTCALL, METH_KEYWORDS
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    object PyDescr_NewMethod(PyTypeObject *type, PyMethodDef *method)
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t count)
    void ps_tuple_unhashed(object tuple)
