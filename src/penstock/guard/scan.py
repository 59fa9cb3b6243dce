"""Scanning one value for injections: SQL, scripts, paths and commands, by their tokens, in bounded time.

    scan("1' union select password from users--")
    # (Finding(kind='sqli', points=5, rule='union-select', start=3, end=35),)

A value is decoded first, layer by layer (percent, HTML entities, \\u and \\x escapes, overlong and full-width letters,
whole values of base64), and each layer is read as SQL where a query would take it (bare, inside ' and inside "), as
HTML, as a path and as a command line. The first layer that convicts is the last. No regular expression is involved, and
nothing backtracks: time is linear in the value, whose first 48 kB and last 16 kB are looked at.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from penstock import _scan

Kind = Literal["sqli", "xss", "traversal", "command"]

KINDS: tuple[Kind, ...] = ("sqli", "xss", "traversal", "command")
CONVICTS = 5
"""Points from which on a value is taken for an attack; each rule of paranoia 1 has as many."""
SCAN_MOST = _scan.SCAN_BYTES
"""Bytes of one value that are looked at; of a longer one the first three quarters of that and the last quarter."""


class Finding(NamedTuple):
    """What one rule found. kind: "sqli", "xss", "traversal" or "command"; rule: its name, one of RULES; start, end:
    where in the value as given, in characters of a str and bytes of bytes, also when it was below an encoding."""

    kind: str
    points: int
    rule: str
    start: int
    end: int


class Rule(NamedTuple):
    """One rule. paranoia: the level from which on it is asked; points: what it adds."""

    name: str
    kind: str
    paranoia: int
    points: int


RULES: tuple[Rule, ...] = tuple(Rule(*row) for row in _scan.RULES)


def scan(value: str | bytes, paranoia: int = 1) -> tuple[Finding, ...]:
    """What in `value` looks like an injection: nothing for nearly every honest value, each rule at most once.

    value: any text or bytes at all, as it came or decoded. paranoia: 1 asks only rules that convict alone and are quiet
    on ordinary values; 2 to 4 add rules with fewer points, which are to be summed up.
    Raises TypeError for other types, ValueError for another paranoia. Never raises for what is in the value.
    """
    rows = _scan.scan(value, paranoia)
    return tuple(map(Finding._make, rows)) if rows else ()
