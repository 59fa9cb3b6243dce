# cython: language_level=3, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
# cython: cdivision=True, subinterpreters_compatible=no
"""The bridge between Python and what is counted about whom (ext/records): facts in, what is too much out."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.string cimport memcpy, memset

from records cimport *

import os
from collections import namedtuple

from penstock.errors import SegmentError

LEAKY, WINDOW, SCORE, PULSE, FOCUS = PS_KIND_LEAKY, PS_KIND_WINDOW, PS_KIND_SCORE, PS_KIND_PULSE, PS_KIND_FOCUS
COUNTERS = PS_COUNTERS
FACTS_MOST = PS_FACTS_MOST
RULES_MOST = PS_RULES_MOST
BAN_MEMORY_MS = PS_BAN_MEMORY_MS
OFFENCES_MOST = PS_OFFENCES_MOST
WHY_MOST = PS_WHY_MOST

Rule = namedtuple(
    "Rule", "kind by needs capacity span_ns quiet_ns distinct member_ns share of half_life silent memory caps",
    defaults=(0, 0, 0, 0, None, 0, 0, (), 0.0, False, 0, False),
)
Rule.__doc__ = """One rule, in the units of ext/records/records.h. by: numbers of facts; needs: conditions, as bits; distinct: the
number of a fact, or None; of: ((rule, at least, share in 1/2^16), …); silent: never fires; memory: rules of the
same facts, values and memory remember values together; caps: what is too much is not counted."""

cdef Py_ssize_t READ_MOST = 1024  # bytes of a fact that tell it from others, its length beside


cdef uint64_t fingerprint_of(const ps_secret *secret, object fact) except? 0:
    cdef Py_ssize_t count
    cdef const char *data
    cdef PyObject *string = <PyObject *>fact
    cdef unsigned char kind = PS_KEY_STR
    if isinstance(fact, str):
        if PyUnicode_IS_COMPACT_ASCII(string):
            data, count = <const char *>PyUnicode_DATA(string), PyUnicode_GET_LENGTH(string)
        else:
            if len(fact) > READ_MOST:  # before it is encoded
                fact = (<str>fact)[:READ_MOST] + str(len(fact))
            fact = (<str>fact).encode("utf-8", "surrogatepass")
            data, count = PyBytes_AS_STRING(fact), PyBytes_GET_SIZE(fact)
    elif isinstance(fact, int):
        return ps_fingerprint_int(secret, <int64_t>((fact + 2**63) % 2**64 - 2**63))
    elif isinstance(fact, bytes):
        data, count, kind = PyBytes_AS_STRING(fact), PyBytes_GET_SIZE(fact), PS_KEY_BYTES
    else:
        raise TypeError(f"a fact must be str, bytes, int or None, not {type(fact).__name__}")
    if count <= READ_MOST:
        return ps_fingerprint(secret, kind, data, count)
    return ps_mix(ps_fingerprint(secret, kind, data, READ_MOST), <uint64_t>count) | 2


def window_capacity_most(uint64_t third_ns):
    """The largest capacity of a window whose third this is."""
    return ps_third_most(ps_third_bits(third_ns)) - 1


def records_bytes(Py_ssize_t capacity, Py_ssize_t bans):
    """Bytes that the tables take."""
    return ps_records_bytes(capacity, bans)


cdef Py_ssize_t JOINED_MOST = 65536  # characters of a header to which no further line is joined

cdef dict names_in_lower = {}  # header names as they came -> in lower case, as ASGI's servers send the same few over and over


def read_fields(pairs, Py_ssize_t most):
    """The first `most` headers of an iterable of pairs (str or bytes) by lower-case name; lines of one name are joined by ", "."""
    cdef dict read = {}
    cdef Py_ssize_t count = 0
    for name, value in pairs:
        if count == most:
            break
        count += 1
        lower = names_in_lower.get(name)
        if lower is None:
            lower = (name if isinstance(name, str) else str(name, "latin-1")).lower()
            if len(names_in_lower) < 512 and len(lower) <= 64:
                names_in_lower[name] = lower
        if not isinstance(value, str):
            if isinstance(value, bytes):
                value = PyUnicode_DecodeLatin1(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), NULL)
            else:
                value = str(value, "latin-1")
        known = read.get(lower)
        if known is None:
            read[lower] = value
        elif len(known) <= JOINED_MOST:
            read[lower] = f"{known}, {value}"
    return read


cdef class Records:
    """What is counted about whom, for a list of rules.

    capacity, bans: records that there is place for (ps_records_bytes says what that costs); secret: 16 bytes; opened: None, or
    a penstock.segment.Opened whose descriptor is closed here. Times are nanoseconds since the records' birth. Raises MemoryError,
    and SegmentError for a file that can't be mapped.
    """
    cdef ps_records *records

    def __cinit__(self, rules, Py_ssize_t capacity, Py_ssize_t bans, bytes secret not None, opened=None):
        cdef ps_records *records
        self.records = NULL
        if not 1 <= capacity < 2**36 or not 1 <= bans < 2**36:
            raise ValueError(f"capacity={capacity} and bans={bans} must be between 1 and 2**36 - 1")
        if len(secret) != 16:
            raise ValueError(f"secret has {len(secret)} bytes; it must have 16")
        records = <ps_records *>PyMem_Malloc(sizeof(ps_records))
        if records == NULL:
            raise MemoryError
        memset(records, 0, sizeof(ps_records))
        try:
            native_rules(records, rules)
            memcpy(&records.secret, PyBytes_AS_STRING(secret), 16)
            if opened is None:
                if not ps_records_open(records, capacity, bans):
                    raise MemoryError(f"capacity={capacity} needs {ps_records_bytes(capacity, bans)} bytes of tables")
            else:
                if not ps_records_attach(records, opened.fd, opened.header_bytes, capacity, bans):
                    raise SegmentError("the guard's segment cannot be mapped: this process has too many, or too little memory")
        except BaseException:
            PyMem_Free(records)
            raise
        finally:
            if opened is not None:
                os.close(opened.fd)
        self.records = records

    def __dealloc__(self):
        if self.records != NULL:
            ps_records_close(self.records)
            PyMem_Free(self.records)

    def __reduce__(self):
        raise TypeError("records are of one process and cannot be pickled")

    def check(self):
        """SegmentError once the file that is shared was cut off; what is counted then is this process's own."""
        if ps_load_relaxed(&self.records.trouble):
            raise SegmentError("the guard's segment was cut off; make a new guard")

    # ---- events ----

    def feed(self, Py_ssize_t first, Py_ssize_t last, tuple facts not None, uint64_t conditions, uint64_t now, uint64_t units=1):
        """An event for each of the rules [first, last) whose facts are all there and whose conditions hold.

        facts: a str, bytes, int or None for each number. Returns ((rule, count), …) of those for which it was too much.
        """
        cdef uint64_t[200] counts
        cdef uint64_t[200] groups
        cdef uint64_t[200] values
        cdef uint8_t[200] asks
        cdef uint64_t[24] prints
        cdef uint64_t known = 0
        cdef Py_ssize_t number, i
        cdef const ps_rule *rule
        cdef ps_outcome_of_rule outcome
        cdef ps_asked asked
        cdef list over = None
        memset(&asked, 0, sizeof(asked))
        asked.records, asked.now = self.records, now
        check_range(self.records, first, last, facts)
        for number in range(first, last):  # who is asked, and where: the records are on their way from memory meanwhile
            rule = &self.records.rules[number]
            counts[number] = values[number] = asks[number] = 0
            if rule.needs & ~conditions or rule.kind == PS_KIND_SCORE or rule.kind == PS_KIND_MEMBER:
                continue
            if not group_of(self.records, rule, facts, prints, &known, &groups[number]):
                continue
            if rule.member_ns or rule.kind == PS_KIND_FOCUS:
                if not fact_of(self.records, rule.distinct, facts, prints, &known, &values[number]):
                    continue
                if rule.member_ns:
                    ps_record_fetch(self.records, ps_record_key(rule.member, ps_mix(groups[number], values[number])))
            ps_record_fetch(self.records, ps_record_key(number, groups[number]))
            asks[number] = 1
        for number in range(first, last):
            if not asks[number]:
                continue
            rule = &self.records.rules[number]
            for i in range(<Py_ssize_t>rule.of_count):
                if <Py_ssize_t>rule.of[i].rule < first:  # counted in another feed
                    counts_before(self.records, rule.of[i].rule, facts, prints, &known, now, counts)
            outcome = ps_record_event(&asked, number, groups[number], values[number], units, counts)
            if outcome.over:
                if over is None:
                    over = []
                over.append((number, outcome.count))
        return () if over is None else tuple(over)

    def counts(self, Py_ssize_t first, Py_ssize_t last, tuple facts not None, uint64_t now):
        """What each of the rules [first, last) has counted about these facts; None where one is missing. No event."""
        cdef uint64_t[24] prints
        cdef uint64_t known = 0, group
        check_range(self.records, first, last, facts)
        found = []
        for number in range(first, last):
            if group_of(self.records, &self.records.rules[number], facts, prints, &known, &group):
                found.append(ps_record_count(self.records, number, group, now))
            else:
                found.append(None)
        return found

    def score(self, Py_ssize_t number, tuple facts not None, uint64_t now, double points=0, double least=-1000, double most=1000):
        """Adds to a score and says what it is then, in points from neutral; None where a fact is missing."""
        cdef uint64_t[24] prints
        cdef uint64_t known = 0, group
        cdef ps_asked asked
        asked.records, asked.now = self.records, now
        check_range(self.records, number, number + 1, facts)
        if not group_of(self.records, &self.records.rules[number], facts, prints, &known, &group):
            return None
        return ps_record_score(&asked, number, group, points, least, most)

    def forget(self, tuple facts not None):
        """Forgets what all rules have counted about these facts, and the bans on them; how many records that was. Values that
        were told apart go with time."""
        cdef uint64_t[24] prints
        cdef uint64_t known = 0, group
        cdef Py_ssize_t number, gone = 0
        check_range(self.records, 0, self.records.rule_count, facts)
        for number in range(<Py_ssize_t>self.records.rule_count):
            rule = &self.records.rules[number]
            if rule.kind == PS_KIND_NONE or rule.by[0] == PS_NO_FACT:
                continue
            if group_of(self.records, rule, facts, prints, &known, &group):
                gone += ps_record_forget(&self.records.table, ps_record_key(number, group))
        for fact in range(len(facts)):
            if facts[fact] is not None:
                gone += ps_record_forget(&self.records.bans, ps_record_key(fact, fingerprint_of(&self.records.secret, facts[fact])))
        return gone

    # ---- bans ----

    def banned(self, tuple facts not None, uint64_t which, uint64_t now):
        """The longest ban in force on one of the facts `which` (bits): (fact, ms until its end, offences, why), or None."""
        cdef uint64_t now_ms = now // 1000000, longest = 0
        cdef Py_ssize_t number
        cdef ps_ban ban
        cdef object found = None
        if ps_load_relaxed(&self.records.commons.banned) == 0:
            return None
        for number in range(PyTuple_GET_SIZE(facts)):
            if not which >> number & 1 or <object>PyTuple_GET_ITEM(facts, number) is None:
                continue
            ban = ps_ban_find(self.records, ps_record_key(number, fingerprint_of(&self.records.secret, facts[number])))
            if ban.until_ms > now_ms and ban.until_ms > longest:
                longest = ban.until_ms
                found = (number, ban.until_ms - now_ms, ban.offences, ban.why)
        return found

    def watch(self, tuple facts not None, uint64_t which, uint64_t tight, uint64_t now):
        """What has to be known of a request before all else, as bits: 1, emergency mode is on; 2, one of the facts `tight` is
        marked; 4, there may be a ban on one of `which`, to be asked of `banned`."""
        cdef ps_commons_of_records *commons = self.records.commons
        cdef uint64_t manual = ps_load_relaxed(&commons.emergency_manual), now_ms = now // 1000000
        cdef Py_ssize_t number
        cdef int found = manual == 1 or (manual == 0 and ps_load_relaxed(&commons.emergency_until) > now)
        if ps_load_relaxed(&commons.banned) == 0:
            return found
        for number in range(PyTuple_GET_SIZE(facts)):
            if not (which | tight) >> number & 1 or <object>PyTuple_GET_ITEM(facts, number) is None:
                continue
            key = ps_record_key(number, fingerprint_of(&self.records.secret, facts[number]))
            if ps_ban_find(self.records, key).until_ms > now_ms:
                found |= 2 if tight >> number & 1 else 4
        return found

    def ban_key(self, Py_ssize_t fact, value):
        """The key of a ban, by which other instances of the same secret know it."""
        return ps_record_key(fact, fingerprint_of(&self.records.secret, value))

    def ban_of(self, uint64_t key):
        """(ms since birth of its end, offences, why) of a ban, over or not; None if there is none."""
        cdef ps_ban ban
        if (key & 0xFF) < 2:
            return None
        ban = ps_ban_find(self.records, key)
        return (ban.until_ms, ban.offences, ban.why) if ban.until_ms else None

    def ban(self, uint64_t key, uint64_t now, uint64_t until_ms, uint64_t offences, uint64_t why, bytes address=None):
        """Bans until then, or longer if it is so already; what the ban is then, or None without a place for it.

        address: the 16 bytes it is about, for `bans`.
        """
        cdef ps_ban after
        cdef ps_asked asked
        cdef const uint8_t *packed = NULL
        if (key & 0xFF) < 2:
            raise ValueError(f"key={key} is none that ban_key gives")
        asked.records, asked.now = self.records, now
        if address is not None:
            if len(address) != 16:
                raise ValueError(f"address has {len(address)} bytes; it must have 16")
            packed = <const uint8_t *>PyBytes_AS_STRING(address)
        if not ps_ban_place(&asked, key, ps_ban(until_ms, offences, why), packed, &after):
            return None
        return after.until_ms, after.offences, after.why

    def unban(self, uint64_t key, uint64_t now):
        """Ends a ban; whether there was one. Its offences are still counted."""
        cdef ps_asked asked
        asked.records, asked.now = self.records, now
        return (key & 0xFF) >= 2 and ps_ban_lift(&asked, key)

    def bans(self, uint64_t now):
        """[(key, ms since birth of its end, offences, why, 16 bytes)] of the bans in force, in no order."""
        cdef uint64_t index, key, state, slots = ps_table_slots(self.records.bans.homes), now_ms = now // 1000000
        cdef uint64_t[2] halves
        cdef ps_ban ban
        found = []
        for index in range(slots):
            key = ps_load_acquire(&self.records.bans.slots[index].key)
            if key <= PS_SLOT_FREE:
                continue
            state = ps_load_acquire(&self.records.bans.slots[index].state)
            if ps_is_tentative(state) or ps_load_acquire(&self.records.bans.slots[index].key) != key:
                continue
            ban = ps_ban_of(state)
            if ban.until_ms <= now_ms:
                continue
            halves[0] = ps_load_relaxed(&self.records.addresses[index * 2])
            halves[1] = ps_load_relaxed(&self.records.addresses[index * 2 + 1])
            found.append((key, ban.until_ms, ban.offences, ban.why, PyBytes_FromStringAndSize(<char *>halves, 16)))
        return found

    # ---- what all who share the records have in common ----

    def count(self, Py_ssize_t counter, uint64_t amount=1):
        """Adds to a counter."""
        if not 0 <= counter < PS_COUNTERS:
            raise ValueError(f"counter={counter} must be 0 to {PS_COUNTERS - 1}")
        ps_add_relaxed(&self.records.commons.counters[counter], amount)

    def counters(self):
        """All counters."""
        return [ps_load_relaxed(&self.records.commons.counters[i]) for i in range(PS_COUNTERS)]

    @property
    def evicted(self):
        """Records that still said something and had to go."""
        return ps_load_relaxed(&self.records.commons.evicted)

    @property
    def emergency(self):
        """(ns at which it ends by itself, 0 as the traffic says, 1 on, 2 off)."""
        return (
            ps_load_relaxed(&self.records.commons.emergency_until), ps_load_relaxed(&self.records.commons.emergency_manual),
        )

    def prolong(self, uint64_t until):
        """Emergency mode lasts at least until then; the time it lasted until so far."""
        was = ps_load_relaxed(&self.records.commons.emergency_until)
        ps_raise(&self.records.commons.emergency_until, until)
        return was

    def override(self, uint64_t manual):
        """Emergency mode by hand: 0 as the traffic says, 1 on, 2 off."""
        ps_store_seq(&self.records.commons.emergency_manual, manual)

    @property
    def generation(self):
        """How often lists were changed."""
        return ps_load_acquire(&self.records.commons.generation)

    def changed(self):
        """Says that lists were changed; the new generation."""
        return ps_add_seq(&self.records.commons.generation, 1) + 1

    @property
    def bytes(self):
        """Bytes that are mapped."""
        return self.records.bytes

    def used(self):
        """Places of the records' table that are taken, by records in use or not."""
        cdef uint64_t index, taken = 0, slots = ps_table_slots(self.records.table.homes)
        for index in range(slots):
            taken += ps_load_relaxed(&self.records.table.slots[index].key) > PS_SLOT_FREE
        return taken


cdef int check_range(ps_records *records, Py_ssize_t first, Py_ssize_t last, tuple facts) except -1:
    if not 0 <= first <= last <= <Py_ssize_t>records.rule_count:
        raise ValueError(f"rules {first} to {last} must be some of the {records.rule_count} there are")
    if PyTuple_GET_SIZE(facts) > PS_FACTS_MOST:
        raise ValueError(f"there are {len(facts)} facts; at most {PS_FACTS_MOST} are counted by")
    return 0


cdef int fact_of(ps_records *records, unsigned number, tuple facts, uint64_t *prints, uint64_t *known, uint64_t *found) except -1:
    """1 with the fact's fingerprint, 0 when it is missing."""
    cdef PyObject *fact
    if number >= <size_t>PyTuple_GET_SIZE(facts):
        return 0
    if known[0] >> number & 1:
        found[0] = prints[number]
        return 1
    fact = <PyObject *>PyTuple_GET_ITEM(facts, number)
    if <object>fact is None:
        return 0
    found[0] = prints[number] = fingerprint_of(&records.secret, <object>fact)
    known[0] |= <uint64_t>1 << number
    return 1


cdef int group_of(ps_records *records, const ps_rule *rule, tuple facts, uint64_t *prints, uint64_t *known, uint64_t *group) except -1:
    """1 with what the rule's facts come to as one number, 0 when one is missing."""
    cdef uint64_t one
    group[0] = 0
    for i in range(PS_BY_MOST):
        if rule.by[i] == PS_NO_FACT:
            break
        if not fact_of(records, rule.by[i], facts, prints, known, &one):
            return 0
        group[0] = one if i == 0 else ps_mix(group[0], one)
    return 1


cdef int counts_before(
    ps_records *records, uint64_t number, tuple facts, uint64_t *prints, uint64_t *known, uint64_t now, uint64_t *counts
) except -1:
    """What a rule has counted about these facts, among `counts`."""
    cdef uint64_t group
    counts[number] = 0
    if group_of(records, &records.rules[number], facts, prints, known, &group):
        counts[number] = ps_record_count(records, number, group, now)
    return 0


cdef int native_rules(ps_records *records, rules) except -1:
    cdef ps_rule *rule
    cdef Py_ssize_t number, members = 0, i
    count = len(rules)
    members = count
    remembering = {}  # (by, distinct, memory) -> (the number of the rule that remembers, the rules that ask it)
    for number, given in enumerate(rules):
        if number >= PS_RULES_MOST:
            raise ValueError(f"there are {count} rules; at most {PS_RULES_MOST} can be counted, those of distinct values twice")
        rule = &records.rules[number]
        if given.kind not in (LEAKY, WINDOW, SCORE, PULSE, FOCUS):
            raise ValueError(f"kind={given.kind} is none of LEAKY, WINDOW, SCORE, PULSE and FOCUS")
        if given.kind == PS_KIND_FOCUS and given.distinct is None:
            raise ValueError("a rule of the kind FOCUS needs distinct=, the fact that is voted for")
        if given.kind != PS_KIND_SCORE and given.span_ns < 1:
            raise ValueError(f"span_ns={given.span_ns} must be at least 1")
        if given.kind == PS_KIND_WINDOW:
            rule.bits = ps_third_bits(given.span_ns)
            if not 0 <= given.capacity < ps_third_most(rule.bits):
                raise ValueError(f"capacity={given.capacity} of a window must be 0 to {window_capacity_most(given.span_ns)}")
        if given.kind == PS_KIND_LEAKY and not 0 <= given.capacity * given.span_ns < 2**60:
            raise ValueError(f"capacity={given.capacity} of a bucket that leaks one in {given.span_ns} ns is more than 36 years")
        if len(given.by) > PS_BY_MOST or len(given.of) > PS_OF_MOST:
            raise ValueError(f"at most {PS_BY_MOST} facts and {PS_OF_MOST} comparisons make a rule")
        rule.kind, rule.capacity, rule.span_ns, rule.quiet_ns = given.kind, given.capacity, given.span_ns, given.quiet_ns
        rule.needs, rule.share, rule.half_life_s = given.needs, given.share, given.half_life
        rule.of_count, rule.silent, rule.caps = len(given.of), given.silent, given.caps
        for i, (other, at_least, share) in enumerate(given.of):
            if not 0 <= other < number:
                raise ValueError(f"rule {number} is compared with rule {other}, which does not come before it")
            rule.of[i].rule, rule.of[i].at_least, rule.of[i].share = other, at_least, share
        for i in range(PS_BY_MOST):
            rule.by[i] = given.by[i] if i < len(given.by) else PS_NO_FACT
        if given.distinct is not None:
            rule.distinct = given.distinct
        if given.distinct is not None and given.kind != PS_KIND_FOCUS:
            rule.member_ns = given.member_ns
            known = remembering.get((given.by, given.distinct, given.memory))
            if known is None:
                if members >= PS_RULES_MOST:
                    raise ValueError(f"there are {count} rules; at most {PS_RULES_MOST} can be counted, those of distinct values twice")
                known = remembering[given.by, given.distinct, given.memory] = (members, [])
                records.rules[members].kind = PS_KIND_MEMBER
                records.rules[members].by[0] = PS_NO_FACT
                members += 1
            rule.member = known[0]
            known[1].append(number)
    for _, sharing in remembering.values():  # who shares a memory shares its length, the longest
        lasts = max(rules[i].member_ns for i in sharing)
        for i in sharing:
            records.rules[i].member_ns = lasts
    records.rule_count = members
    return 0
