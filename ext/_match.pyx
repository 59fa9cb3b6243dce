# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
# cython: cdivision=True, subinterpreters_compatible=no, autotestdict=False
"""The bridge to the address sets and the literal automaton: texts in, entries and numbers out; nothing is decided here."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeASCII, PyUnicode_GET_LENGTH
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from match cimport *

from ipaddress import IPv4Address, IPv6Address

from penstock.errors import shown

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)

cdef size_t ENTRY_MOST = 1024  # characters of an entry that Python gives

cdef enum:
    HITS_MOST = 256  # literals that a search tells
    SEEN_WORDS = 512  # a bit for each of PS_LITERALS_MOST


cdef int read_address(object address, ps_address *out) except -1:
    """1 for an address, 0 for a text that is none. TypeError for what is no text."""
    cdef Py_ssize_t count
    cdef const char *text = NULL
    if isinstance(address, str):
        if PyUnicode_GET_LENGTH(address) > PS_ADDRESS_MOST or not PyUnicode_IS_ASCII(address):
            return 0
        text = PyUnicode_AsUTF8AndSize(address, &count)
        return ps_read_address(text, count, out)
    if isinstance(address, bytes):
        return ps_read_address(PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address), out)
    if isinstance(address, (IPv4Address, IPv6Address)):
        return read_address(str(address), out)
    raise TypeError(f"address={shown(address)} must be a str, bytes, IPv4Address or IPv6Address")


cdef ps_reason read_entry(str entry, const char **text, size_t *count, ps_entry *out) except *:
    """As ps_read_entry; `text` is the entry without blanks around it."""
    cdef Py_ssize_t size
    if <size_t>PyUnicode_GET_LENGTH(entry) > ENTRY_MOST or not PyUnicode_IS_ASCII(entry):
        text[0], count[0] = b"", 0
    else:
        text[0] = PyUnicode_AsUTF8AndSize(entry, &size)
        count[0] = size
    ps_trim(text, count)
    return ps_read_entry(text[0], count[0], out)


def canonical_address(address) -> str | None:
    """The one spelling of an address, without a zone and unmapped; None for what is no address."""
    cdef ps_address found
    cdef char own[64]
    if not read_address(address, &found):
        return None
    return PyUnicode_DecodeASCII(own, ps_write_address(found.number, found.six, own), NULL)


def canonical_entry(entry: str) -> str:
    """The one spelling of an address, a network or a range. ValueError with the reason for anything else."""
    cdef ps_entry found
    cdef const char *text = NULL
    cdef size_t count = 0
    cdef char own[128]
    cdef ps_reason reason = read_entry(entry, &text, &count, &found)
    if reason != PS_TAKEN:
        raise ValueError(f"entry={shown(entry)}: {ps_reason_text(reason).decode()}")
    return PyUnicode_DecodeASCII(own, ps_write_entry(&found, own), NULL)


cdef class Feed:
    """Entries on their way into Intervals: one by one, or as the blocks of a file. For one thread."""

    cdef ps_feed feed

    def __cinit__(self, level: int = -1):
        memset(&self.feed, 0, sizeof(self.feed))
        self.feed.level = level

    def __dealloc__(self):
        ps_feed_free(&self.feed)

    cdef int refuse_overflow(self) except -1:
        if self.feed.no_memory:
            raise MemoryError("no memory for more entries")
        if self.feed.full:
            raise ValueError(f"a set of addresses holds at most {PS_ENTRIES_MOST} entries, or 4 GiB of their text")
        return 0

    def add(self, entry: str) -> str | None:
        """Takes one entry; the reason why not, if it is none."""
        cdef ps_entry found
        cdef const char *text = NULL
        cdef size_t count = 0
        cdef ps_reason reason = read_entry(entry, &text, &count, &found)
        if reason != PS_TAKEN:
            return ps_reason_text(reason).decode()
        ps_feed_keep(&self.feed, found, text, count)
        self.refuse_overflow()
        return None

    def block(self, data: bytes) -> None:
        """Takes the next bytes of a file."""
        cdef const char *text = PyBytes_AS_STRING(data)
        cdef size_t count = PyBytes_GET_SIZE(data)
        with nogil:
            ps_feed_block(&self.feed, text, count)
        self.refuse_overflow()

    def end(self) -> None:
        """The last block has been given."""
        ps_feed_end(&self.feed)
        self.refuse_overflow()

    @property
    def lines(self) -> int:
        return self.feed.lines

    @property
    def taken(self) -> int:
        return self.feed.taken

    @property
    def below(self) -> int:
        return self.feed.below

    @property
    def rejected(self) -> int:
        return self.feed.rejected

    @property
    def first(self) -> tuple:
        """(line number, reason) of the first rejected lines."""
        shown_most = min(self.feed.rejected, <uint64_t>PS_REJECTED_SHOWN)
        return tuple([(self.feed.first[i].line, ps_reason_text(self.feed.first[i].reason).decode()) for i in range(shown_most)])


cdef class Intervals:
    """An immutable set of entries. The Feed that it is made of is empty afterwards."""

    cdef ps_intervals *set

    def __cinit__(self, *arguments, **options):
        self.set = NULL

    def __init__(self, Feed feed not None):
        if self.set:
            raise TypeError("a set of addresses is not changed once it is made")
        with nogil:
            self.set = ps_intervals_build(feed.feed.entries, feed.feed.count, feed.feed.texts, feed.feed.texts_used)
        if not self.set:
            raise MemoryError("no memory for the set")
        ps_feed_free(&feed.feed)

    def __dealloc__(self):
        free(self.set)

    cdef inline ps_intervals *made(self) except NULL:
        if not self.set:
            raise TypeError("the set was never made: __init__ was not called")
        return self.set

    def __len__(self):
        return self.made().entries

    @property
    def memory(self) -> int:
        """Bytes of the set."""
        return self.made().bytes

    def __contains__(self, address):
        cdef ps_intervals *set = self.made()
        cdef ps_address found
        cdef uint32_t segment
        return read_address(address, &found) and ps_intervals_find(set, &found, &segment) != PS_CODE_NONE

    def match(self, address, /) -> str | None:
        cdef ps_address found
        self.made()
        if not read_address(address, &found):
            return None
        return entry_of(self, &found)


cdef inline str entry_of(Intervals intervals, const ps_address *address):
    cdef uint32_t segment
    cdef uint8_t code = ps_intervals_find(intervals.set, address, &segment)
    cdef char own[128]
    cdef const char *text = NULL
    cdef size_t count = 0
    if code == PS_CODE_NONE:
        return None
    text = ps_intervals_text(intervals.set, address, segment, code, own, &count)
    return PyUnicode_DecodeASCII(text, count, NULL)  # what is read as an entry is ASCII


cdef class Sets:
    """Several sets, asked together: the first one that has the address answers."""

    cdef tuple sets

    def __init__(self, sets: tuple) -> None:
        for one in sets:
            (<Intervals?>one).made()
        self.sets = sets

    def find(self, address, /) -> tuple | None:
        """(which of the sets, the entry as written), or None."""
        cdef ps_address found
        cdef tuple sets = self.sets
        cdef Py_ssize_t i
        if sets is None or not read_address(address, &found):
            return None
        for i in range(len(sets)):
            entry = entry_of(<Intervals>sets[i], &found)
            if entry is not None:
                return i, entry
        return None


cdef class Automaton:
    """Which of many literals a text has. Each is (bytes, only at the text's beginning, only at its end)."""

    cdef ps_automaton *automaton

    def __cinit__(self, literals: tuple, *, fold: bool = False):
        cdef size_t count = len(literals)
        cdef ps_literal *rows = <ps_literal *>malloc((count + 1) * sizeof(ps_literal))
        cdef const char *fault
        if not rows:
            raise MemoryError("no memory for the literals")
        try:
            for i, (literal, begins, ends) in enumerate(literals):
                rows[i].bytes = PyBytes_AS_STRING(<bytes?>literal)  # lives as long as `literals` does
                rows[i].count = min(PyBytes_GET_SIZE(literal), 0xFFFF)
                rows[i].begins = begins
                rows[i].ends = ends
            fault = ps_literals_fault(rows, count)
            if fault:
                raise ValueError(f"literals: {fault.decode()}")
            self.automaton = ps_automaton_build(rows, count, fold)
            if not self.automaton:
                raise MemoryError("no memory for the automaton")
        finally:
            free(rows)

    def __dealloc__(self):
        free(self.automaton)

    def __len__(self):
        return self.automaton.literals

    @property
    def memory(self) -> int:
        """Bytes of the automaton."""
        return self.automaton.bytes

    def find(self, text, /) -> tuple:
        """The numbers of the literals in a str (as UTF-8) or bytes, each once, in the order they end; at most 256."""
        cdef Py_ssize_t size = 0
        cdef const char *data = NULL
        cdef uint64_t seen[SEEN_WORDS]
        cdef uint32_t hits[HITS_MOST]
        cdef size_t found, i
        if isinstance(text, str):
            try:
                data = PyUnicode_AsUTF8AndSize(text, &size)
            except UnicodeEncodeError:
                text = text.encode("utf-8", "surrogatepass")
        elif not isinstance(text, bytes):
            raise TypeError(f"text={shown(text)} must be a str or bytes")
        if isinstance(text, bytes):
            data = PyBytes_AS_STRING(text)
            size = PyBytes_GET_SIZE(text)
        found = ps_automaton_find(self.automaton, data, size, seen, hits, HITS_MOST)
        return tuple([hits[i] for i in range(found)]) if found else ()
