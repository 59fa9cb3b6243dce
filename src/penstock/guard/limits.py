"""The limits of a guard: token buckets and windows by everyone, user, address, endpoint and any other fact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from penstock.clock import Clock
from penstock.decision import Decision
from penstock.guard.facts import ADDRESS, ENDPOINT, Facts
from penstock.guard.settings import Limits, RateSet
from penstock.limiter import Limiter, LimiterMethods, Rates
from penstock.rate import Concurrency
from penstock.segment.options import Segment
from penstock.sync.options import Client, Sync


class Making(NamedTuple):
    """What every limiter of a guard is made with."""

    name: str
    clients: int
    clock: Clock | None
    shared: Segment | None
    sync: str | Client | Sync | None

    def limiter(self, what: str, rates: Rates, *, sync: bool = True, shared_most: int = 2**28) -> Limiter:
        """A limiter of its own name, and of its own segment beside the guard's. shared_most: keys in a segment."""
        shared, capacity = None, self.clients
        if self.shared is not None:
            shared = Segment(path=f"{self.shared.path}.{what}", group=self.shared.group)
            capacity = min(capacity, shared_most)
        return Limiter(
            rates,
            capacity=capacity,
            clock=self.clock,
            name=f"{self.name}.{what}",
            shared=shared,
            sync=self.sync if sync else None,
        )


class Asked(NamedTuple):
    """One limit: its name, or the beginning of the paths it is for; the number of the fact it is by (None: one for
    all); the most that a request may cost; the limiter's check."""

    name: str
    fact: int | None
    limiter: Limiter
    most: int
    label: str
    check: Callable[[str | int | bytes, int], Decision]


class Refusal(NamedTuple):
    """A limit that refuses."""

    name: str
    decision: Decision


class LimitSet:
    """The limits of one guard. A request that one of them refuses is recorded by none."""

    def __init__(self, settings: Limits, making: Making, number: Callable[[str], int]) -> None:
        self._asked: list[Asked] = []
        self._by_endpoint: dict[str, list[Asked]] = {}
        self.settings = settings
        for name, fact, rates in (
            ("everyone", None, settings.everyone),
            ("user", "user", settings.user),
            ("address", "address", settings.address),
            *((fact, fact, rates) for fact, rates in settings.facts.items()),
        ):
            if rates is not None:
                try:
                    its = None if fact is None else number(fact)
                except ValueError as error:
                    raise ValueError(f"Limits: facts: {error}") from None
                self._asked += self._each(name, its, None, rates, making)
        for place, (prefix, rates) in enumerate(settings.endpoints.items()):
            self._by_endpoint[prefix] = self._each(f"endpoint{place}", ADDRESS, prefix, rates, making)

    @staticmethod
    def _each(name: str, fact: int | None, prefix: str | None, rates: RateSet, making: Making) -> list[Asked]:
        several = making_several(rates)
        found = []
        for place, rate in enumerate(several):
            limiter = making.limiter(name if len(several) == 1 else f"{name}-{place}", rate)
            most = max(1, left(limiter, f"{name} that nobody has"))
            name_of = name if prefix is None else prefix
            label = f"{name_of} {rate_text(rate)}"
            found.append(Asked(name_of, fact, limiter, most, label, limiter.check))
        return found

    def _for(self, facts: Facts) -> list[Asked]:
        """The limits that are for a request."""
        if self._by_endpoint and isinstance(endpoint := facts[ENDPOINT], str):
            return [*self._asked, *self._by_endpoint.get(endpoint, ())]
        return self._asked

    def _keys(self, facts: Facts, asked: list[Asked]) -> Iterator[tuple[Asked, str | int | bytes]]:
        """Those of them whose fact the request has, each with its key."""
        for one in asked:
            key = "all" if one.fact is None else facts[one.fact]
            if key is not None:
                yield one, key

    def ask(self, facts: Facts, cost: int) -> tuple[Refusal | None, Decision | None]:
        """Takes `cost` from every limit that is for the request, or from none: (who refuses, the tightest of those that
        admit)."""
        asked = self._for(facts)
        tightest: Decision | None = None
        for place, one in enumerate(asked):  # as _keys does it, without its generator: this is asked for every request
            key = "all" if one.fact is None else facts[one.fact]
            if key is None:
                continue
            decision = one.check(key, cost if cost == 1 else min(cost, one.most))
            if not decision[0]:
                for taken, its in self._keys(facts, asked[:place]):
                    taken.limiter.refund(its, min(cost, taken.most))
                return Refusal(one.name, decision), None
            if tightest is None or decision[2] < tightest[2]:  # remaining
                tightest = decision
        return None, tightest

    def remaining(self, facts: Facts) -> dict[str, int]:
        """What each limit has left for these facts, by its name and rate; takes nothing."""
        return {one.label: left(one.limiter, key) for one, key in self._keys(facts, self._for(facts))}

    def forget(self, facts: Facts) -> None:
        for one, key in self._keys(facts, self._for(facts)):
            if one.fact is not None:
                one.limiter.reset(key)

    def close(self) -> None:
        for one in (*self._asked, *(one for each in self._by_endpoint.values() for one in each)):
            one.limiter.close()


def rate_text(rate: Rates) -> str:
    """A rate in a few signs.

    >>> rate_text("60/minute")
    '60/minute'
    """
    if isinstance(rate, str):
        return rate
    per = getattr(rate, "per", 1)
    seconds = per.total_seconds() if isinstance(per, timedelta) else per
    return f"{rate.limit}/{seconds:g} s"


def left(limiter: Limiter, key: str | int | bytes) -> int:
    """Units that a key has left; a peek says what would be left after one more."""
    decision = limiter.peek(key)
    return decision.remaining + 1 if decision else decision.remaining


def making_several(rates: RateSet) -> list[Rates]:
    """Each of several rates by itself, so that what is left of each can be told."""
    if isinstance(rates, str):
        return [one.strip() for one in rates.split(";") if one.strip()] or [rates]
    if isinstance(rates, Sequence):
        return [one for each in rates for one in making_several(each)]
    return [rates]


FLIGHTS_SHARED_MOST = 20_000
"""Addresses with requests that are being answered, where workers share them: each takes 766 bytes of shared memory, for
what of it which worker has; and a host does not answer so many at once."""


class Flights:
    """Requests of each address that are being answered: a true count, given back when the answer ends."""

    def __init__(self, most: int, in_emergency: int, making: Making) -> None:
        self.most, self.in_emergency = most, in_emergency or most
        self._limiter = making.limiter("flights", Concurrency(most), sync=False, shared_most=FLIGHTS_SHARED_MOST)
        self._release = super(LimiterMethods, self._limiter).release  # nobody waits for a flight to end

    def begin(self, key: str, emergency: bool) -> bool:
        """Whether there is room for one more; then it must be ended."""
        limiter = self._limiter
        if emergency and self.most - left(limiter, key) >= self.in_emergency:
            return False
        return limiter.hit(key)

    def end(self, key: str) -> None:
        self._release(key)

    def count(self, key: str) -> int:
        """How many of a key's requests are being answered."""
        return self.most - left(self._limiter, key)

    def close(self) -> None:
        self._limiter.close()
