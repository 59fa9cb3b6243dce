# What the headers of records/ offer, as Cython sees it.
from libc.stdint cimport int64_t, uint8_t, uint64_t
from cpython.object cimport PyObject

cdef extern from "records/records.h" nogil:
    int PS_RULES_MOST, PS_FACTS_MOST, PS_BY_MOST, PS_OF_MOST, PS_NO_FACT, PS_COUNTERS, PS_OFFENCES_MOST, PS_WHY_MOST
    int PS_KIND_NONE, PS_KIND_LEAKY, PS_KIND_WINDOW, PS_KIND_MEMBER, PS_KIND_SCORE, PS_KIND_PULSE, PS_KIND_FOCUS
    uint64_t PS_BAN_MEMORY_MS, PS_SLOT_FREE, PS_TIME_MOST
    int PS_KEY_STR, PS_KEY_BYTES

    ctypedef struct ps_word:
        pass

    uint64_t ps_load_relaxed(const ps_word *word)
    uint64_t ps_load_acquire(const ps_word *word)
    uint64_t ps_load_seq(const ps_word *word)
    void ps_store_seq(ps_word *word, uint64_t value)
    uint64_t ps_add_relaxed(ps_word *word, uint64_t amount)
    uint64_t ps_add_seq(ps_word *word, uint64_t amount)
    void ps_raise(ps_word *word, uint64_t value)
    bint ps_is_tentative(uint64_t state)

    ctypedef struct ps_secret:
        uint64_t k0
        uint64_t k1

    uint64_t ps_fingerprint(const ps_secret *secret, unsigned char type, const void *data, size_t count)
    uint64_t ps_fingerprint_int(const ps_secret *secret, int64_t value)
    uint64_t ps_mix(uint64_t a, uint64_t b)

    ctypedef struct ps_pair:
        ps_word key
        ps_word state

    ctypedef struct ps_table:
        ps_pair *slots
        uint64_t homes

    uint64_t ps_table_homes(uint64_t capacity)
    uint64_t ps_table_slots(uint64_t homes)

    ctypedef struct ps_of:
        uint64_t rule
        uint64_t at_least
        uint64_t share

    ctypedef struct ps_rule:
        uint64_t kind
        uint64_t capacity
        uint64_t span_ns
        uint64_t quiet_ns
        uint64_t member_ns
        uint64_t share
        uint64_t needs
        uint64_t of_count
        ps_of *of
        double half_life_s
        unsigned bits
        unsigned silent
        unsigned caps
        uint8_t *by
        uint8_t distinct
        uint8_t member

    ctypedef struct ps_commons_of_records:
        ps_word claims
        ps_word evicted
        ps_word emergency_until
        ps_word emergency_manual
        ps_word generation
        ps_word banned
        ps_word *counters

    ctypedef struct ps_records:
        ps_table table
        ps_table bans
        ps_word *addresses
        ps_commons_of_records *commons
        ps_secret secret
        uint64_t rule_count
        ps_rule *rules
        void *memory
        size_t bytes
        ps_word trouble

    ctypedef struct ps_asked:
        ps_records *records
        uint64_t now

    ctypedef struct ps_outcome_of_rule:
        bint over
        uint64_t count

    ctypedef struct ps_ban:
        uint64_t until_ms
        uint64_t offences
        uint64_t why

    unsigned ps_third_bits(uint64_t third_ns)
    uint64_t ps_third_most(unsigned bits)
    size_t ps_records_bytes(uint64_t capacity, uint64_t bans)
    bint ps_records_open(ps_records *records, uint64_t capacity, uint64_t bans)
    bint ps_records_attach(ps_records *records, int fd, size_t skip, uint64_t capacity, uint64_t bans)
    void ps_records_close(ps_records *records)
    uint64_t ps_record_key(uint64_t number, uint64_t group)
    void ps_record_fetch(const ps_records *records, uint64_t key)
    ps_outcome_of_rule ps_record_event(ps_asked *asked, uint64_t number, uint64_t group, uint64_t value, uint64_t units, uint64_t *counts)
    uint64_t ps_record_count(const ps_records *records, uint64_t number, uint64_t group, uint64_t now)
    double ps_record_score(ps_asked *asked, uint64_t number, uint64_t group, double points, double least, double most)
    bint ps_record_forget(ps_table *table, uint64_t key)
    bint ps_ban_place(ps_asked *asked, uint64_t key, ps_ban ban, const uint8_t *address, ps_ban *after)
    ps_ban ps_ban_find(const ps_records *records, uint64_t key)
    bint ps_ban_lift(ps_asked *asked, uint64_t key)
    ps_ban ps_ban_of(uint64_t word)

cdef extern from *:
    """
    #if !defined(PyUnicode_IS_COMPACT_ASCII)
    #error "CPython's own strings are read in place"
    #endif
    """
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *string)
    void *PyUnicode_DATA(PyObject *string)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *string)
