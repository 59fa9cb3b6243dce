# What the headers of addresses and literals offer, as Cython sees it; the only `cdef extern` of this bridge.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "address/feed.h" nogil:
    int PS_ADDRESS_MOST, PS_ADDRESS_TEXT, PS_ENTRY_TEXT, PS_REJECTED_SHOWN
    int PS_CODE_NONE, PS_CODE_ODD
    size_t PS_ENTRIES_MOST

    ctypedef struct ps_number:
        pass

    ctypedef struct ps_address:
        ps_number number
        bint six

    bint ps_read_address(const char *text, size_t count, ps_address *out)
    size_t ps_write_address(ps_number number, bint six, char *out)

    ctypedef enum ps_reason:
        PS_TAKEN

    const char *ps_reason_text(ps_reason reason)

    ctypedef struct ps_entry:
        pass

    void ps_trim(const char **text, size_t *count)
    ps_reason ps_read_entry(const char *text, size_t count, ps_entry *out)
    size_t ps_write_entry(const ps_entry *entry, char *out)

    ctypedef struct ps_intervals:
        uint32_t entries
        size_t bytes

    uint8_t ps_intervals_find(const ps_intervals *set, const ps_address *address, uint32_t *segment)
    const char *ps_intervals_text(
        const ps_intervals *set, const ps_address *address, uint32_t segment, uint8_t code, char *own, size_t *count
    )
    ps_intervals *ps_intervals_build(ps_entry *entries, size_t count, const char *texts, size_t texts_bytes)

    ctypedef struct ps_rejected:
        uint64_t line
        ps_reason reason

    ctypedef struct ps_feed:
        ps_entry *entries
        size_t count
        char *texts
        size_t texts_used
        int64_t level
        uint64_t lines
        uint64_t taken
        uint64_t below
        uint64_t rejected
        ps_rejected *first
        bint full
        bint no_memory

    void ps_feed_keep(ps_feed *feed, ps_entry entry, const char *text, size_t count)
    void ps_feed_block(ps_feed *feed, const char *block, size_t count)
    void ps_feed_end(ps_feed *feed)
    void ps_feed_free(ps_feed *feed)

cdef extern from "scan/automaton.h" nogil:
    ctypedef struct ps_literal:
        const char *bytes
        uint32_t count
        bint begins
        bint ends

    ctypedef struct ps_automaton:
        uint32_t literals
        size_t bytes

    int PS_LITERALS_MOST
    const char *ps_literals_fault(const ps_literal *literals, size_t count)
    ps_automaton *ps_automaton_build(const ps_literal *literals, size_t count, bint fold)
    size_t ps_automaton_find(
        const ps_automaton *automaton, const char *text, size_t count, uint64_t *seen, uint32_t *hits, size_t most
    )
