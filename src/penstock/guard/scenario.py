"""The one primitive: what is counted, by whom, under which conditions, and how much of it is too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock._records import FOCUS, LEAKY, PULSE, RULES_MOST, WINDOW, Rule, window_capacity_most
from penstock.errors import shown
from penstock.guard.request import Request
from penstock.guard.responses import KINDS
from penstock.guard.verdict import Action, Severity, Technique

NS = 1_000_000_000
Phase = Literal["request", "limited", "response"]
PHASES: tuple[Phase, ...] = ("request", "limited", "response")
BAN_MOST = 30 * 86_400.0
BY_MOST = 4
COUNT_MOST = 1_000_000_000
"""Units that are added at once, or counted before a comparison."""
Condition = str | Callable[[Request], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is counted, and how much is allowed: one more fires.

    name       what evidence, statistics and logs call it
    by         the fact or facts that it is counted by (penstock.guard.facts), such as "address" or ("address", "ja4");
               () counts all together. A request that lacks one of them is not counted
    when       conditions that must all hold: names (penstock.guard.conditions), "not " before them, or functions of the
               request
    on         "request"; "limited", when a limit has refused it; or "response", once it is known
    distinct   count different values of this fact only
    capacity   what is allowed: units in `window` seconds, or in a bucket that leaks one in `leak` seconds. With
               `regular` events before it is judged
    window     seconds, 0.1 to 86,400. What is counted lies within the last 2/3 to 1 of it, never before
    leak       seconds for one unit
    regular    fires when events come so evenly that their mean deviation is less than this share of the mean interval;
               `window` is then the pause that begins anew
    leading    fires when one value of `distinct` leads all others together by more than `capacity` events; `window` is
               then the pause that begins anew
    blackhole  seconds of quiet after it has fired
    of         {scenario: (share, at least)}: fires only when the other one, which is counted by a part of the same
    facts
               and stands before it, has counted at least so many, and this one more than that share of them
    silent     never fires: it only counts, for others to be compared with
    adds       {scenario: units} that it adds there when it fires
    action     what is done about the request; in "response" what refuses is a ban. What "block" refuses in a window
               without a blackhole is not counted, so that as many as are allowed go on being let in
    ban        seconds of the first ban (they grow with each), for "ban" and for what refuses in "response"
    tighten    seconds for which the endpoint is limited more strictly, for all
    severity, technique, type   of the evidence, and of the answer's body
    dry_run    only says what it would do
    on_error   when a function in `when` fails: "allow" is as if it did not hold, "deny" refuses the request
    """

    name: str
    by: str | tuple[str, ...] = "address"
    when: Condition | tuple[Condition, ...] = ()
    on: Phase = "request"
    distinct: str | None = None
    capacity: int = 0
    window: float | None = None
    leak: float | None = None
    regular: float | None = None
    leading: bool = False
    blackhole: float = 0.0
    of: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    adds: Mapping[str, int] = field(default_factory=dict)
    silent: bool = False
    action: Action = Action.LOG
    ban: float = 3600.0
    tighten: float = 0.0
    severity: Severity = Severity.MEDIUM
    technique: Technique | None = None
    type: str = "threat_detected"
    dry_run: bool = False
    on_error: Literal["allow", "deny"] = "allow"

    def __post_init__(self) -> None:
        def wrong(field: str, rule: str) -> ValueError:
            return ValueError(f"scenario {shown(self.name)}: {field}={shown(getattr(self, field))} {rule}")

        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 64 or not self.name.isprintable():
            raise wrong("name", "must be 1 to 64 printable characters")
        given: Any = self  # as it may have been given
        for name in ("by", "when"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (tuple, list)) else (value,))
        if len(self.by) > BY_MOST or not all(isinstance(one, str) for one in self.by):
            raise wrong("by", f"must be the names of at most {BY_MOST} facts")
        if not all(isinstance(one, str) or callable(one) for one in given.when):
            raise wrong("when", "must be names of conditions, or functions")
        if self.distinct is not None and not isinstance(self.distinct, str):
            raise wrong("distinct", "must be the name of a fact, or None")
        for name, kind in (("action", Action), ("technique", Technique)):
            if name == "technique" and self.technique is None:
                continue
            try:
                object.__setattr__(self, name, kind(getattr(self, name)))
            except ValueError:
                raise wrong(name, f"must be one of {', '.join(kind)}") from None
        if isinstance(self.severity, str) and self.severity.upper() in Severity.__members__:
            object.__setattr__(self, "severity", Severity[self.severity.upper()])
        if self.severity not in tuple(Severity):
            raise wrong("severity", f"must be one of {', '.join(Severity.__members__)}")
        object.__setattr__(self, "severity", Severity(self.severity))
        if not isinstance(self.type, str) or self.type not in KINDS:
            raise wrong("type", f"must be one of {', '.join(KINDS)}")
        for name in ("silent", "dry_run"):
            if not isinstance(getattr(self, name), bool):
                raise wrong(name, "must be true or false")
        for name in ("window", "leak", "regular", "blackhole", "ban", "tighten"):
            value = getattr(self, name)
            there = value is not None or name not in ("window", "leak", "regular")
            if there and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise wrong(name, "must be a number")
        if not isinstance(self.on, str) or self.on not in PHASES:
            raise wrong("on", f"must be one of {', '.join(PHASES)}")
        if isinstance(self.capacity, bool) or not isinstance(self.capacity, int) or self.capacity < 0:
            raise wrong("capacity", "must be a whole number, not negative")
        if (self.window is None) == (self.leak is None):
            raise ValueError(f"scenario {shown(self.name)}: give window= or leak=, one of them")
        if self.window is not None and not 0.1 <= self.window <= 86_400:
            raise wrong("window", "must be 0.1 to 86,400 seconds")
        if self.leak is not None and not 1e-6 <= self.leak <= 86_400:
            raise wrong("leak", "must be 0.000001 to 86,400 seconds")
        if self.regular is not None and (self.window is None or not 0 < self.regular < 1):
            raise wrong("regular", "must be more than 0 and less than 1, with window=")
        if self.regular is not None and not 2 <= self.capacity <= 254:
            raise wrong("capacity", "must be 2 to 254 events with regular=")
        if self.leading and (self.distinct is None or self.window is None or self.regular is not None):
            raise wrong("leading", "needs distinct= and window=, and no regular=")
        if self.window is not None and self.regular is None and not self.leading:
            most = window_capacity_most(third_ns(self.window))
            if self.capacity > most:
                raise wrong(
                    "capacity", f"must be at most {most} in a window of {self.window:g} s; a leaky bucket holds more"
                )
        for name in ("blackhole", "ban", "tighten"):
            if not 0 <= getattr(self, name) <= BAN_MOST:
                raise wrong(name, f"must be 0 to {BAN_MOST:.0f} seconds")
        if self.on_error not in ("allow", "deny"):
            raise wrong("on_error", 'must be "allow" or "deny"')
        for name in ("of", "adds"):
            if not isinstance(getattr(self, name), Mapping):
                raise wrong(name, "must be a mapping of scenarios")
        for name, pair in self.of.items():
            if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not _is_share(*pair):
                raise wrong("of", f"must give a share, 0 to 1000, and a count for {shown(name)}")
        for name, units in self.adds.items():
            if isinstance(units, bool) or not isinstance(units, int) or not 1 <= units <= COUNT_MOST:
                raise wrong("adds", f"must give a whole number of units, 1 to {COUNT_MOST}, for {shown(name)}")


def _is_share(share: object, at_least: object) -> bool:
    return (
        isinstance(share, (int, float))
        and 0 <= share <= 1000
        and isinstance(at_least, int)
        and 0 <= at_least <= COUNT_MOST
    )


def third_ns(window: float) -> int:
    """A third of a window, in nanoseconds, rounded so that three are never more than it."""
    return max(1, int(window * NS) // 3)


def compile_rules(
    scenarios: Sequence[Scenario], fact: Callable[[str], int], bit: Callable[[Scenario, Condition], int]
) -> list[Rule]:
    """The rules of the scenarios, in their order. fact: the number of a fact; bit: of a condition. ValueError for
    scenarios that do not fit together."""
    numbers: dict[str, int] = {}
    rules = []
    for number, one in enumerate(scenarios):
        if one.name in numbers:
            raise ValueError(f"there are two scenarios of the name {shown(one.name)}")
        numbers[one.name] = number
        assert isinstance(one.by, tuple)
        assert isinstance(one.when, tuple)
        of = []
        for other, (share, at_least) in one.of.items():
            if other not in numbers or scenarios[numbers[other]].on != one.on:
                raise ValueError(
                    f"scenario {shown(one.name)}: of {shown(other)}, which must stand before it and be"
                    f" on={one.on!r} too"
                )
            of.append((numbers[other], at_least, round(share * 65536)))
        needs = 0
        for condition in one.when:
            needs |= bit(one, condition)
        kind = PULSE if one.regular is not None else WINDOW if one.window is not None else LEAKY
        if one.leading:
            kind = FOCUS
        span = third_ns(one.window) if kind == WINDOW and one.window else round((one.leak or one.window or 0) * NS)
        lasts = one.window if one.window is not None else max(1, one.capacity) * (one.leak or 0)
        rules.append(
            Rule(
                kind,
                tuple(fact(name) for name in one.by),
                needs,
                one.capacity,
                span,
                round(one.blackhole * NS),
                None if one.distinct is None else fact(one.distinct),
                0 if one.distinct is None else round(lasts * NS),
                0 if one.regular is None else round(one.regular * 65536),
                tuple(of),
                silent=one.silent,
                caps=one.on == "request" and one.action is Action.BLOCK and not one.blackhole and one.distinct is None,
                memory=PHASES.index(one.on),  # what one phase has met the next has yet to meet
            )
        )
    for one in scenarios:
        for other in one.adds:
            if other not in numbers:
                raise ValueError(f"scenario {shown(one.name)}: adds to {shown(other)}, which there is not")
    adding = {one.name: tuple(one.adds) for one in scenarios}
    for name in adding:
        met, waiting = set[str](), list(adding[name])
        while waiting:
            if (other := waiting.pop()) == name:
                raise ValueError(f"scenario {shown(name)}: adds comes back to itself, without an end")
            if other not in met:
                met.add(other)
                waiting += adding[other]
    if len(rules) > RULES_MOST // 2:
        raise ValueError(f"there are {len(rules)} scenarios; at most {RULES_MOST // 2} can be counted")
    return rules
