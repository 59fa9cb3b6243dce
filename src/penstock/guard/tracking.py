"""Rates by several strategies at once, the tier that each reaches, and the policy that makes one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from penstock._records import Records
from penstock.guard.facts import Fact, Facts, subject
from penstock.guard.scenario import Scenario
from penstock.guard.settings import Strategy, Tracking
from penstock.guard.verdict import GRAVER, Action, Evidence, Severity, Tier


class RateMetrics(NamedTuple):
    """What one strategy has counted. rates: {window in seconds: requests per second in it}; connections_per_second: the
    highest of them; exceeds_threshold: whether that is more than the strategy calls suspicious; tier: what it
    reaches."""

    rates: dict[float, float]
    connections_per_second: float
    exceeds_threshold: bool
    tier: Tier


def scenarios(tracking: Tracking) -> tuple[Scenario, ...]:
    """What is counted for a configuration: each strategy in each window, in this order."""
    return tuple(
        Scenario(name=f"tracking.{name}.{window:g}s", by=one.by, window=window, capacity=int(one.suspicious * window))
        for name, one in tracking.strategies.items()
        for window in tracking.windows
    )


class Reached(NamedTuple):
    """What a request's strategies come to. by: the facts of the one that decided."""

    tier: Tier
    action: Action
    seconds: float
    by: tuple[str, ...]
    evidence: tuple[Evidence, ...]


class Tracker:
    """The strategies of one guard, whose rules begin at `first` among the records'. number: of a fact."""

    def __init__(self, settings: Tracking, first: int, number: Callable[[str], int]) -> None:
        self.settings, self.first = settings, first
        self._numbers = [[number(name) for name in one.by] for one in settings.strategies.values()]
        self._windows = len(settings.windows)
        self._strategies = list(settings.strategies.items())

    @property
    def last(self) -> int:
        return self.first + self._windows * len(self._strategies)

    def reached(self, over: Iterable[tuple[int, int]], applicable: int, facts: Facts) -> Reached | None:
        """What the rules that are over (rule, count) come to. applicable: strategies whose facts the request has."""
        tiers: dict[int, tuple[Tier, float, float]] = {}
        for number, count in over:
            strategy, window = divmod(number - self.first, self._windows)
            seconds = self.settings.windows[window]
            tier = tier_of(self._strategies[strategy][1], count / seconds)
            if strategy not in tiers or tier > tiers[strategy][0]:
                tiers[strategy] = (tier, count / seconds, seconds)
        tier = agreed([tier for tier, _, _ in tiers.values()], applicable, self.settings.policy)
        if tier is Tier.NORMAL:
            return None
        action, ban, evidence = Action.LOG, 0.0, []
        by: tuple[str, ...] = ()
        for place, (its, rate, seconds) in sorted(tiers.items(), key=lambda item: -item[1][0]):
            name, strategy_ = self._strategies[place]
            severity = Severity.LOW if its is Tier.SUSPICIOUS else Severity.HIGH
            said = f"{rate:.3g} requests a second in {seconds:g} s reach {its.name}"
            key = " ".join(subject(*one) for one in zip(strategy_.by, self._facts_of(place, facts), strict=True))
            evidence.append(Evidence(f"tracking.{name}", severity, said, rate, strategy_.suspicious, key))
            if its >= tier >= Tier.BLOCK:
                wanted = Action.BAN if tier is Tier.BANNED and strategy_.action is Action.BLOCK else strategy_.action
                if GRAVER[wanted] > GRAVER[action]:
                    action, ban, by = wanted, strategy_.seconds, strategy_.by
        return Reached(tier, action, ban, by, tuple(evidence))

    def _facts_of(self, place: int, facts: Facts) -> list[Fact]:
        return [facts[number] for number in self._numbers[place]]

    def applicable(self, facts: Facts) -> int:
        """How many strategies have all their facts."""
        return sum(None not in self._facts_of(place, facts) for place in range(len(self._numbers)))

    def metrics(self, records: Records, facts: Facts, now: int) -> dict[str, RateMetrics]:
        """What each strategy has counted about these facts, without counting them again."""
        counts = records.counts(self.first, self.last, facts, now)
        found = {}
        for place, (name, strategy) in enumerate(self._strategies):
            of = counts[place * self._windows : (place + 1) * self._windows]
            rates = {
                window: count / window
                for window, count in zip(self.settings.windows, of, strict=True)
                if count is not None
            }
            highest = max(rates.values(), default=0.0)
            found[name] = RateMetrics(rates, highest, highest > strategy.suspicious, tier_of(strategy, highest))
        return found


def tier_of(strategy: Strategy, rate: float) -> Tier:
    """The tier of a rate per second: a threshold is what is allowed, more reaches its tier."""
    if rate > strategy.ban:
        return Tier.BANNED
    if rate > strategy.block:
        return Tier.BLOCK
    return Tier.SUSPICIOUS if rate > strategy.suspicious else Tier.NORMAL


def agreed(tiers: Sequence[Tier], of: int, policy: str) -> Tier:
    """The highest tier that any, all or more than half of `of` strategies reach; those not in `tiers` reach NORMAL.

    >>> agreed([Tier.BANNED, Tier.SUSPICIOUS], 3, "majority").name
    'SUSPICIOUS'
    """
    needed = {"any": 1, "all": of, "majority": of // 2 + 1}[policy]
    ranked = sorted(tiers, reverse=True)
    return ranked[needed - 1] if 0 < needed <= len(ranked) else Tier.NORMAL
