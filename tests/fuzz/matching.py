"""Targets over what the guard matches: feeds of addresses, and literals, expressions and paths in texts."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from choices import Fuzzed

try:
    from penstock._match import Automaton, Feed, Intervals
    from penstock.guard.agents import Agents, Paths
    from penstock.guard.expressions import LOWER, Refused, read_expression
except ImportError:
    Feed = None  # without compiled modules there is no guard

BLANKS = b" \t\v\f\r"
COMMANDS = (b"create", b"flush", b"destroy", b"swap", b"rename", b"COMMIT")
Number = tuple[int, int]
"""(version, number) of an address."""


def number_of(text: str) -> Number:
    """As ipaddress has it, IPv4 within IPv6 as IPv4, and without a zone. ValueError for no address."""
    if len(text) > 128 or not text.isprintable() or " " in text:
        raise ValueError
    address: Any = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


def entry_of(text: str) -> tuple[Number, Number]:
    """The first and the last address of an entry. ValueError for none."""
    if "/" in text:
        start, _, length = text.partition("/")
        if not (length.isascii() and length.isdigit()) or length != str(int(length)) or "%" in start:
            raise ValueError
        number, mapped = number_of(start), ip_address(start).version == 6 and number_of(start)[0] == 4
        bits = int(length) - (96 if mapped else 0)
        if bits < 0:
            raise ValueError
        network = ip_network((number[1].to_bytes(4 if number[0] == 4 else 16, "big"), bits))
        return (number[0], int(network.network_address)), (number[0], int(network.broadcast_address))
    if "-" in text:
        first, _, last = text.partition("-")
        if "%" in text:
            raise ValueError
        low, high = number_of(first.strip(BLANKS.decode())), number_of(last.strip(BLANKS.decode()))
        if low[0] != high[0] or low > high:
            raise ValueError
        return low, high
    return (number_of(text),) * 2


def read_line(line: bytes, level: int) -> tuple[Number, Number] | str | None:
    """An entry, "below", or None for a line that says nothing. ValueError for rubbish."""
    if len(line) > 512:
        raise ValueError
    for mark in b"#;":
        line = line.split(bytes([mark]), 1)[0]
    line = line.strip(BLANKS)
    word, rest = first_word(line)
    if not word or word in COMMANDS:
        return None
    count = None
    if word == b"add":
        word, rest = first_word(first_word(rest)[1])
        while rest:
            option, rest = first_word(rest)
            if option == b"nomatch":
                raise ValueError
    elif rest.startswith(b"-") or word.endswith(b"-"):
        word = line
    elif rest:
        if not rest.isdigit():
            raise ValueError
        count = int(rest)
    entry = entry_of(word.decode("ascii"))
    if level >= 0 and count is None:
        raise ValueError
    return entry if count is None or count >= level else "below"


def first_word(text: bytes) -> tuple[bytes, bytes]:
    at = next((at for at, sign in enumerate(text) if sign in BLANKS), len(text))
    return text[:at], text[at:].strip(BLANKS)


def feeds(data: bytes) -> None:
    """A level, and a feed: the lines that ipaddress and a few rules take are taken, and the set has their addresses."""
    if Feed is None:
        return
    fuzzed = Fuzzed(data)
    level, cut = fuzzed.integer(0, 4) - 1, fuzzed.integer(0, 255)
    text = fuzzed.rest()
    feed = Feed(level)
    for block in (text[:cut], text[cut:]):
        feed.block(block)
    feed.end()
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    counts = {"below": 0, "rejected": 0}
    entries = []
    for line in lines:
        try:
            read = read_line(line, level)
        except ValueError:
            counts["rejected"] += 1
        else:
            if isinstance(read, tuple):
                entries.append(read)
            counts["below"] += read == "below"
    told = (feed.taken, feed.below, feed.rejected)
    assert told == (len(entries), counts["below"], counts["rejected"]), f"{told}: {entries}, {counts}"
    made = Intervals(feed)
    assert len(made) == len(set(entries))
    for version, number in {one for entry in entries[:50] for one in entry}:
        for near in (number - 1, number, number + 1):
            if 0 <= near < 2 ** (32 if version == 4 else 128) and not (version == 6 and near >> 32 == 0xFFFF):
                there = any(first <= (version, near) <= last for first, last in entries if first[0] == version)
                address = ip_address(near.to_bytes(4 if version == 4 else 16, "big"))
                assert (address in made) == there, f"{address} and {entries}"
                assert (made.match(address) is not None) == there


def words(data: bytes) -> None:
    """Literals and a text; an expression and a text, which is also a path: what is found is there, and all of it."""
    if Feed is None:
        return
    fuzzed = Fuzzed(data)
    fold = bool(fuzzed.integer(0, 1))
    literals = tuple(
        (fuzzed.take(fuzzed.integer(1, 6)) or b"x", fuzzed.integer(0, 7) == 7, fuzzed.integer(0, 7) == 7)
        for _ in range(fuzzed.integer(0, 12))
    )
    pattern, text = fuzzed.text(24), fuzzed.text(60)
    encoded = text.encode("utf-8", "surrogatepass")
    folded = bytes.lower if fold else bytes
    there = {
        number
        for number, (literal, begins, ends) in enumerate(literals)
        for at in range(len(encoded) + 1)
        if folded(encoded)[at : at + len(literal)] == folded(literal)
        and not (begins and at)
        and not (ends and at + len(literal) != len(encoded))
    }
    assert set(Automaton(literals, fold=fold).find(text)) == there
    Paths().match(text)
    try:
        expression = read_expression(pattern)
    except Refused:
        return
    agents = Agents.load([{"pattern": pattern, "tags": []}])
    for one in (text, *expression.literals, pattern):
        if expression.search.search(one):
            lower = one.translate(LOWER)
            assert any(literal in lower for literal in expression.literals), f"{pattern!r} matches {one!r}"
            assert agents.match(one).kind != "browser", f"{pattern!r} matches {one!r}"
