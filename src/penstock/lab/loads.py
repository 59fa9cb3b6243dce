"""When each instance is asked: four kinds of traffic, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.clock import NS

LOADS = {
    "even": "every instance is asked equally often",
    "skewed": "nine tenths of the calls come to one instance",
    "burst": "now and then nine tenths of a full limit come to one instance within a fiftieth of its time to refill",
    "flash": "in the middle third ten times the limit comes to all at once",
}
FACTORS = {"even": 1.5, "skewed": 1.5, "burst": 0.5, "flash": 0.5}
"""Calls offered for each that the limit allows, where nothing else is asked for; of flash, outside its crowd."""
CROWD = 10.0
"""How many times the limit comes in flash's crowd."""
SKEW = 0.9


@dataclass(frozen=True)
class Load:
    """A kind of traffic and its size.

    kind: of LOADS. rate: units per second that the limit allows; burst: how many at once. factor: calls offered for
    each that the limit allows. seconds: how long.
    """

    kind: str
    rate: float
    burst: int
    factor: float
    seconds: float
    seed: int

    def arrivals(self, instance: int, instances: int) -> list[int]:
        """When this one of so many instances is asked, ns from the start, rising; the same for the same seed."""
        chance = random.Random(f"{self.seed} {self.kind} {instance}")
        if self.kind == "burst":
            found = list(self._bursts(instance, instances))
        elif self.kind == "flash":
            third = self.seconds / 3
            found = [
                *_poisson(chance, self._offered() / instances, 0.0, third),
                *_poisson(chance, CROWD * self.rate / instances, third, 2 * third),
                *_poisson(chance, self._offered() / instances, 2 * third, self.seconds),
            ]
        else:
            found = list(_poisson(chance, self._offered() * self._part(instance, instances), 0.0, self.seconds))
        return [round(second * NS) for second in found]

    @property
    def calls(self) -> float:
        """How many are expected of all instances together."""
        crowded = CROWD * self.rate * self.seconds / 3 if self.kind == "flash" else 0.0
        return self._offered() * self.seconds * (2 / 3 if crowded else 1.0) + crowded

    def _offered(self) -> float:
        return self.factor * self.rate

    def _part(self, instance: int, instances: int) -> float:
        if self.kind == "even" or instances == 1:
            return 1 / instances
        return SKEW if instance == 0 else (1 - SKEW) / (instances - 1)

    def _bursts(self, instance: int, instances: int) -> Iterator[float]:
        """All instances draw the same bursts, and each makes those that are its own."""
        chance = random.Random(f"{self.seed} bursts")
        calls, span = max(1, round(0.9 * self.burst)), self.burst / (50 * self.rate)
        apart = calls / self._offered()
        start = apart / 2
        while start < self.seconds:
            if chance.randrange(instances) == instance:
                for call in range(calls):
                    if (second := start + span * call / calls) < self.seconds:
                        yield second
            start += apart


def _poisson(chance: random.Random, rate: float, start: float, end: float) -> Iterator[float]:
    """Calls at random, so many per second, in seconds."""
    second = start
    while rate > 0 and (second := second + chance.expovariate(rate)) < end:
        yield second
