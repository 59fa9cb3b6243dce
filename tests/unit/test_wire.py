"""penstock.sync.wire: layouts byte for byte, and what cannot be sent or read."""

from __future__ import annotations

import math
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sync.wire import (
    ANSWER,
    ANSWER_BYTES,
    BUCKET,
    ENTRIES_MOST,
    ENTRY_BYTES,
    HEADER_BYTES,
    LOST,
    OK,
    REPLY,
    REPLY_BYTES,
    RULE_BYTES,
    SLIDING,
    Answer,
    Entry,
    Header,
    Reply,
    Rule,
    WireError,
    check_grants,
    forgetting,
    pack_entries,
    pack_header,
    pack_reply,
    unpack_entries,
    unpack_header,
    unpack_reply,
    without_notices,
)

RULE = Rule(BUCKET, 1_000.0, 100.0, 50.0, 25.0)
WORDS, HALVES = st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)
DOUBLES = st.floats(allow_nan=False)
POSITIVE = st.floats(min_value=1e-6, max_value=1e15)
RULES = st.builds(Rule, st.integers(0, 3), POSITIVE, POSITIVE, POSITIVE, POSITIVE)
ENTRIES = st.builds(Entry, HALVES, HALVES, WORDS, WORDS, WORDS, WORDS, WORDS, DOUBLES)
SENSIBLE = st.floats(min_value=-1e30, max_value=1e30)
ANSWERS = st.builds(Answer, SENSIBLE, SENSIBLE, WORDS, st.floats(min_value=0, max_value=2.0**50, width=32))


def test_sizes_are_those_of_the_protocol() -> None:
    sizes = (HEADER_BYTES, RULE_BYTES, ENTRY_BYTES, REPLY_BYTES, ANSWER_BYTES)
    assert sizes == (30, 41, 32, 16, 24)


def test_bytes_are_where_the_protocol_has_them() -> None:
    header = pack_header(Header(7, 6, True, 50_000, restore=True), [RULE, RULE._replace(kind=SLIDING)], 3)
    assert struct.unpack_from("<IIIIHHBBd", header) == (7, 6, 1, 50_000, 3, 2, 1, 2, 0.0)
    assert struct.unpack_from("<Bddddd", header, 30 + 41) == (2, 1_000.0, 100.0, 50.0, 25.0, 0.0)
    entry = pack_entries([Entry(1, 0, 2, 3, 4, 5, 6, 7.5)])
    assert struct.unpack("<HHIIIIId", entry) == (1, 0, 2, 3, 4, 5, 6, 7.5)
    reply = pack_reply(Reply(OK, 4, 1e12, (Answer(-1.5, 2.5, 3, 4.5),)))
    assert struct.unpack("<BBHIdddIf", reply) == (0, 2, 1, 4, 1e12, -1.5, 2.5, 3, 4.5)
    flags = [pack_header(Header(1, 0, False, 1, forget=forget), [RULE], 0)[20] for forget in (False, True)]
    assert flags == [0, 2]
    (entry,) = unpack_entries(pack_entries([forgetting(3, 0x0123_4567_89AB_CDEF, 9)]))
    assert (entry.rule, entry.back << 32 | entry.debt, entry.want) == (3, 0x0123_4567_89AB_CDEF, 9)


FLAGS = st.tuples(st.booleans(), st.booleans(), st.booleans())


@given(WORDS.filter(bool), FLAGS, WORDS, DOUBLES, st.lists(RULES, max_size=4))
def test_headers_come_back(
    seq: int, flags: tuple[bool, bool, bool], interval: int, heard_us: float, rules: list[Rule]
) -> None:
    header = Header(seq, seq - 1, flags[0], interval, *flags[1:], heard_us)
    assert unpack_header(pack_header(header, rules, 9)) == (header, tuple(rules), 9)


@given(st.lists(ENTRIES, max_size=5), st.lists(ANSWERS, max_size=5), st.lists(st.integers(0, 2**64 - 1), max_size=3))
def test_entries_and_replies_come_back(entries: list[Entry], answers: list[Answer], notices: list[int]) -> None:
    assert unpack_entries(pack_entries(entries)) == entries
    reply = Reply(OK, 3, 1.0, tuple(answers), tuple(notices))
    assert unpack_reply(pack_reply(reply), len(answers)) == reply
    assert without_notices(pack_reply(reply), reply) == pack_reply(reply._replace(notices=()))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (Entry(0, debt=-1), "entry 1: debt=-1 must be an int from 0 to 4294967295"),
        (Entry(70_000), "entry 1: rule=70000 must be an int from 0 to 65535"),
        (Entry(0, want=2**32), "entry 1: want=4294967296 must be an int from 0 to 4294967295"),
        (Entry(0, seen=1.5), "entry 1: seen=1.5 must be an int from 0 to 4294967295"),  # type: ignore[arg-type]
        (Entry(0, known="now"), "entry 1: known='now' must be a number that eight bytes can hold"),  # type: ignore[arg-type]
    ],
)
def test_an_entry_that_does_not_fit_is_named(entry: Entry, says: str) -> None:
    with pytest.raises(WireError, match=says):
        pack_entries([Entry(0), entry])


@pytest.mark.parametrize(
    ("header", "rule", "entries", "says"),
    [
        (Header(0, 0, True, 1), RULE, 0, "seq=0 must be above acked=0"),
        (Header(2**32, 0, True, 1), RULE, 0, "header: seq=4294967296 must be an int from 0 to 4294967295"),
        (Header(1, 0, True, -5), RULE, 0, "header: interval_us=-5 must be an int"),
        (Header(1, 0, True, 1), RULE, ENTRIES_MOST + 1, "a batch has 0 to 200 entries, not 201"),
        (Header(1, 0, True, 1), RULE._replace(kind=4), 0, "rule 0: kind=4 must be 0, 1, 2 or 3"),
        (Header(1, 0, True, 1), RULE._replace(tau_us=0.0), 0, r"rule 0: tau_us=0.0 must be finite and above 0"),
        (Header(1, 0, True, 1), RULE._replace(burst=math.inf), 0, "rule 0: burst=inf must be finite and above 0"),
        (Header(1, 0, True, 1), RULE._replace(debt_max=-1.0), 0, r"rule 0: debt_max=-1.0 must be finite and 0 or more"),
    ],
)
def test_a_header_that_does_not_fit_is_named(header: Header, rule: Rule, entries: int, says: str) -> None:
    with pytest.raises(WireError, match=says):
        pack_header(header, [rule], entries)


def test_a_demand_that_four_bytes_cannot_hold_is_named() -> None:
    with pytest.raises(WireError, match="answer 0: demand=1e\\+300 must be a number that four bytes can hold"):
        pack_reply(Reply(OK, 1, 0.0, (Answer(0.0, 0.0, 0, 1e300),)))


def test_bytes_that_are_no_reply_are_refused() -> None:
    good = pack_reply(Reply(OK, 1, 0.0, (Answer(1.0, 2.0, 0, 0.0),)))
    lost = pack_reply(Reply(LOST, 1, 0.0, ()))
    assert unpack_reply(lost, 5).status == LOST
    for data, entries, says in (
        (good[:10], None, "a reply has 16 bytes or more, not 10"),
        (good[:-1], None, "a reply with 1 answers has 40 bytes and 8 for each notice, not 39"),
        (b"\x03" + good[1:], None, "status=3 must be"),
        (good[:1] + b"\x01" + good[2:], None, "reply: version=1; this penstock speaks version 2"),
        (good, 2, "a reply to 2 entries has 1 answers"),
    ):
        with pytest.raises(WireError, match=says):
            unpack_reply(data, entries)


def test_a_lease_that_nobody_asked_for_is_refused() -> None:
    entries = pack_entries([Entry(0, want=5), Entry(0, want=0)])
    honest, generous = (Reply(OK, 1, 0.0, (Answer(9.0, 0.0, 5, 0.0), Answer(9.0, 0.0, n, 0.0))) for n in (0, 1))
    check_grants(honest, entries)
    check_grants(Reply(LOST, 1, 0.0, ()), entries)
    with pytest.raises(WireError, match="answer 1: grant=1 must be at most the 0 that were asked for"):
        check_grants(generous, entries)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, -(2.0**104)])
@pytest.mark.parametrize("field", ["a", "b", "demand", "now_us"])
def test_numbers_that_no_redis_of_ours_says_are_refused(field: str, odd: float) -> None:
    """A limiter would compute with them: what says NaN or infinity is a failed batch, before any decision sees it."""
    answer, now_us = Answer(1.0, 2.0, 0, 3.0), 4.0
    if field == "now_us":
        now_us = odd
    else:
        answer = answer._replace(**{field: odd})
    with pytest.raises(WireError, match=re.escape(f"{field}={odd!r}")):
        unpack_reply(REPLY.pack(OK, 2, 1, 1, now_us) + ANSWER.pack(*answer))


def test_bytes_that_are_no_batch_are_refused() -> None:
    header = pack_header(Header(1, 0, True, 1), [RULE], 1)
    for data, says in (
        (header[:5], "a header has 30 bytes or more, not 5"),
        (header[:-1], "a header with 1 rules has 71 bytes, not 70"),
        (header[:21] + b"\x07" + header[22:], "header: version=7"),
    ):
        with pytest.raises(WireError, match=says):
            unpack_header(data)
    with pytest.raises(WireError, match="33 bytes are not a whole number of them"):
        unpack_entries(bytes(33))
