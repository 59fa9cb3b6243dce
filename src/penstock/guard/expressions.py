"""Regular expressions as lists of user agents have them: which literals a match must contain, and that none blows up.

A list is searched for its literals by the automaton, and an expression is asked only when one of its own was found.
What is read is a part of Python's syntax: characters, escapes, classes, groups, alternatives, repetitions and anchors.
All else is refused, as is what could take long: two unbounded repetitions, one of a group or before any literal or
anchor, and more than 64 ways to choose between alternatives and bounded repetitions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PATTERN_MOST = 512
"""Characters of an expression."""
_LITERALS_MOST = 16
_WAYS_MOST = 64
_DEPTH_MOST = 16
_LITERAL_LEAST = 2
LOWER = {upper: upper | 0x20 for upper in range(ord("A"), ord("Z") + 1)}
"""For str.translate: A to Z in lower case, and nothing else, as the automaton folds."""


class Refused(ValueError):
    """An expression that is not taken; the reason."""


@dataclass(frozen=True, slots=True)
class Expression:
    """literals: a match has one of them, but for the case of A to Z. plain: the only text that matches, if one."""

    pattern: str
    literals: tuple[str, ...]
    plain: str | None
    search: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Part:
    """What a part of an expression says of its matches. exact: all of them; needed: each contains one of these."""

    exact: frozenset[str] | None
    needed: frozenset[str] | None


_NOTHING = _Part(frozenset({""}), None)
_ANY = _Part(None, None)


def read_expression(pattern: str) -> Expression:
    """Reads one expression. Raises Refused with the reason."""
    if len(pattern) > PATTERN_MOST:
        raise Refused(f"longer than {PATTERN_MOST} characters")
    reader = _Reader(pattern)
    part = reader.alternatives(0)
    if reader.more():
        raise Refused("an unopened parenthesis")
    needed = _best([part.exact, part.needed])
    if needed is None:
        raise Refused(f"no literal of {_LITERAL_LEAST} characters or more that a match must contain")
    try:
        search = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused(f"not an expression ({error})") from None
    only = next(iter(part.exact)) if part.exact and len(part.exact) == 1 and not reader.anchored else None
    return Expression(pattern, tuple(sorted({one.translate(LOWER) for one in needed})), only, search)


class _Reader:
    """Reads an expression from left to right, one character at a time."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.unbounded = 0
        self.ways = 1
        self.anchored = False
        self.literal_seen = False

    def more(self) -> bool:
        return self.at < len(self.pattern)

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        if not self.more():
            raise Refused("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self, depth: int) -> _Part:
        if depth > _DEPTH_MOST:
            raise Refused("too many groups within each other")
        parts = [self.sequence(depth)]
        while self.peek() == "|":
            self.at += 1
            parts.append(self.sequence(depth))
        if len(parts) == 1:
            return parts[0]
        self.multiply_ways(len(parts))
        needed = [_best([part.exact, part.needed]) for part in parts]
        return _Part(_union([part.exact for part in parts]), _union(needed))

    def sequence(self, depth: int) -> _Part:
        """Parts one after the other: literals next to each other become longer ones."""
        run: frozenset[str] | None = frozenset({""})
        whole = True
        candidates: list[frozenset[str] | None] = []
        while self.more() and self.peek() not in "|)":
            part = self.repeated(depth)
            longer = _joined(run, part.exact)
            if longer is None:
                whole = False
                candidates += [run, part.needed]
                longer = part.exact if part.exact is not None else frozenset({""})
            run = longer
        candidates.append(run)
        return _Part(run if whole else None, _best(candidates))

    def repeated(self, depth: int) -> _Part:
        begun = self.at
        part = self.atom(depth)
        group = self.pattern[begun] == "("
        sign = self.peek()
        if not sign or sign not in "?*+{":
            self.literal_seen = self.literal_seen or (not group and part.exact is not None and len(part.exact) == 1)
            return part
        self.at += 1
        low, high = (int(sign == "+"), 1 if sign == "?" else None) if sign != "{" else self.bounds()
        if self.peek() and self.peek() in "?*+{":
            if self.peek() != "?":
                raise Refused("a repetition of a repetition")
            self.at += 1  # the shortest first, which changes no answer
        if high is None:
            self.unbounded += 1
            if group:
                raise Refused("an unbounded repetition of a group")
            if self.unbounded > 1:
                raise Refused("more than one unbounded repetition")
            if not self.literal_seen:
                raise Refused("an unbounded repetition before any literal or anchor")
        else:
            self.multiply_ways(high - low + 1)
            if group and high > 1:
                raise Refused("a repetition of a group")
        if (low, high) == (0, 1):
            return _Part(_union([part.exact, frozenset({""})]), None)
        return _Part(None, _best([part.exact, part.needed]) if low else None)

    def bounds(self) -> tuple[int, int | None]:
        match = re.compile(r"([0-9]{1,3})(,([0-9]{1,3})?)?\}").match(self.pattern, self.at)
        if match is None:
            raise Refused("braces without a number of times")
        self.at = match.end()
        low = int(match[1])
        high = low if match[2] is None else None if match[3] is None else int(match[3])
        if high is not None and high < low:
            raise Refused("a repetition that ends before it begins")
        return low, high

    def atom(self, depth: int) -> _Part:
        sign = self.take()
        if sign == "(":
            if self.peek() == "?":
                if not self.pattern.startswith("?:", self.at):
                    raise Refused("a group of another kind than (…) and (?:…)")
                self.at += 2
            seen = self.literal_seen
            part = self.alternatives(depth + 1)
            if self.peek() != ")":
                raise Refused("an unclosed parenthesis")
            self.at += 1
            self.literal_seen = seen or (part.exact is not None and "" not in part.exact)
            return part
        if sign == "[":
            return self.one_of()
        if sign == "\\":
            escaped = self.escape()
            return _ANY if escaped is None else _Part(frozenset({escaped}), None)
        if sign in "^$":
            self.anchored = True
            return _NOTHING
        if sign == ".":
            return _ANY
        if sign in "?*+{":
            raise Refused("a repetition of nothing")
        return _Part(frozenset({sign}), None)

    def multiply_ways(self, by: int) -> None:
        self.ways *= by
        if self.ways > _WAYS_MOST:
            raise Refused("too many ways to match")

    def escape(self) -> str | None:
        """The character that is escaped, or None for a class of them."""
        sign = self.take()
        if sign in "dDsSwW":
            return None
        if sign.isalnum() or not sign.isascii():
            raise Refused(f"the escape \\{sign}")
        return sign

    def one_of(self) -> _Part:
        """A class in brackets: its characters when they are few."""
        found: set[str] = set()
        begun = self.at
        few = self.peek() != "^"
        self.at += not few
        first = True
        while first or self.peek() != "]":
            first = False
            sign: str | None = self.take()
            if sign == "[":
                raise Refused("a bracket within brackets")
            if sign == "\\":
                sign = self.escape()
            if sign is None:
                few = False
            elif self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                end: str | None = self.take()
                if end == "\\":
                    end = self.escape()
                if end is None or end < sign:
                    raise Refused("a range that ends before it begins")
                few = few and ord(end) - ord(sign) < _LITERALS_MOST
                found |= {chr(one) for one in range(ord(sign), ord(end) + 1)} if few else set()
            else:
                found.add(sign)
        if re.search(r"--|&&|~~|\|\|", self.pattern[begun : self.at]):
            raise Refused("a class with a doubled sign, which Python may read otherwise one day")
        self.at += 1
        return _Part(frozenset(found), None) if few and len(found) <= _LITERALS_MOST else _ANY


def _joined(left: frozenset[str] | None, right: frozenset[str] | None) -> frozenset[str] | None:
    """All of one followed by all of the other; None when there are too many."""
    if left is None or right is None or len(left) * len(right) > _LITERALS_MOST:
        return None
    return frozenset(one + other for one in left for other in right)


def _union(sets: list[frozenset[str] | None]) -> frozenset[str] | None:
    """One of any of the sets; None when one of them says nothing, or there are too many."""
    found: set[str] = set()
    for one in sets:
        if one is None:
            return None
        found |= one
    return frozenset(found) if len(found) <= _LITERALS_MOST else None


def _best(sets: list[frozenset[str] | None]) -> frozenset[str] | None:
    """The set whose shortest literal is the longest; None when in each there is one too short to search for."""
    known = [one for one in sets if one and min(map(len, one)) >= _LITERAL_LEAST]
    return max(known, key=lambda one: (min(map(len, one)), -len(one)), default=None)
