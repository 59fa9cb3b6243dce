# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
# cython: cdivision=True, boundscheck=False, wraparound=False, subinterpreters_compatible=no, autotestdict=False
"""The bridge to the scanners: a value or a query string in, findings out; nothing is decided here. See ext/scan/scan.h."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memset

cdef extern from "scan/scan.h" nogil:
    enum:
        PS_FINDINGS
        PS_KINDS
        PS_RULE_COUNT
        PS_SCAN_BYTES
    ctypedef struct ps_rule:
        uint8_t kind, level, points
        const char *name
    ctypedef struct ps_finding:
        uint32_t start, end
        uint16_t rule
    ctypedef struct ps_findings:
        int paranoia, count
        ps_finding items[16]
    ctypedef struct ps_lexicon:
        uint16_t classes[256]
    ctypedef struct ps_scratch:
        pass
    const ps_rule *PS_RULE_TABLE
    void ps_lexicon_make(ps_lexicon *lexicon)
    void ps_scan(const ps_lexicon *lexicon, const uint8_t *data, uint64_t length, ps_scratch *scratch, ps_findings *found)

cdef ps_lexicon lexicon
ps_lexicon_make(&lexicon)

KINDS = ("sqli", "xss", "traversal", "command")
RULES = tuple((PS_RULE_TABLE[i].name.decode(), KINDS[PS_RULE_TABLE[i].kind], PS_RULE_TABLE[i].level, PS_RULE_TABLE[i].points)
              for i in range(PS_RULE_COUNT))
SCAN_BYTES = PS_SCAN_BYTES

cdef tuple rule_names = tuple(row[0] for row in RULES)
cdef tuple rule_kinds = tuple(row[1] for row in RULES)


cdef inline int view(object value, const uint8_t **data, Py_ssize_t *length) except -1:
    """The bytes of a value that is ASCII, bytes, or can be UTF-8. 1 when it is a str with other characters."""
    if isinstance(value, str):
        data[0] = <const uint8_t *>PyUnicode_AsUTF8AndSize(value, length)
        return length[0] != len(value)
    if not isinstance(value, bytes):
        raise TypeError(f"value is {type(value).__name__}, and must be str or bytes")
    data[0] = <const uint8_t *>PyBytes_AS_STRING(value)
    length[0] = PyBytes_GET_SIZE(value)
    return 0


cdef Py_ssize_t characters(const uint8_t *data, Py_ssize_t length) noexcept:
    """How many characters these bytes of UTF-8 begin."""
    cdef Py_ssize_t count = 0, i
    for i in range(length):
        count += (data[i] & 0xC0) != 0x80
    return count


cdef tuple told(const ps_findings *found, const uint8_t *data, bint wide):
    cdef list rows = []
    cdef Py_ssize_t start, end
    cdef int i
    for i in range(found.count):
        start, end = found.items[i].start, found.items[i].end
        if wide:  # a character that is in it in part is in it
            start, end = max(characters(data, start + 1) - 1, 0), characters(data, end)
        rule = found.items[i].rule
        rows.append((rule_kinds[rule], PS_RULE_TABLE[rule].points, rule_names[rule], start, end))
    return tuple(rows)


cdef int checked(object paranoia) except -1:
    if not isinstance(paranoia, int):
        raise TypeError(f"paranoia is {type(paranoia).__name__}, and must be an int")
    if not 1 <= paranoia <= 4:
        raise ValueError(f"paranoia is {paranoia}, and must be from 1 to 4")
    return paranoia


cdef tuple scanned(const uint8_t *data, Py_ssize_t length, int paranoia, bint wide):
    cdef ps_scratch scratch
    cdef ps_findings found
    memset(&found, 0, sizeof(found))
    found.paranoia = paranoia
    ps_scan(&lexicon, data, length, &scratch, &found)
    return told(&found, data, wide) if found.count else ()


def scan(value, paranoia=1):
    cdef const uint8_t *data
    cdef Py_ssize_t length
    cdef int level = checked(paranoia)
    try:
        wide = view(value, &data, &length)
    except UnicodeEncodeError:  # lone surrogates: three bytes each
        value = value.encode("utf-8", "surrogatepass")
        view(value, &data, &length)
        wide = True
    return scanned(data, length, level, wide)


def scan_pairs(query, paranoia=1, limit=PS_SCAN_BYTES):
    cdef const uint8_t *data
    cdef const uint8_t *equals
    cdef const uint8_t *stop
    cdef Py_ssize_t length, at = 0, end, middle
    cdef int level = checked(paranoia)
    cdef list rows = None
    try:
        view(query, &data, &length)
    except UnicodeEncodeError:
        query = query.encode("utf-8", "surrogatepass")
        view(query, &data, &length)
    length = min(length, <Py_ssize_t>limit)
    while at < length:
        stop = <const uint8_t *>memchr(data + at, c"&", length - at)
        end = stop - data if stop != NULL else length
        equals = <const uint8_t *>memchr(data + at, c"=", end - at)
        middle = equals - data if equals != NULL else end
        name = scanned(data + at, middle - at, level, False) if middle > at else ()
        value = scanned(data + middle + 1, end - middle - 1, level, False) if middle + 1 < end else ()
        if name or value:
            rows = [] if rows is None else rows
            rows.append(((<const char *>data)[at:middle], (<const char *>data)[middle + 1:end] if middle < end else b"", name, value))
        at = end + 1
    return () if rows is None else tuple(rows)
