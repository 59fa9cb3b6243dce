"""What is to be tried: limit, fleet, load and faults, checked before anything is started."""

from __future__ import annotations

import math
import os
import re
import signal
from dataclasses import dataclass

from penstock.clock import NS
from penstock.errors import shown
from penstock.lab.errors import LabError
from penstock.lab.loads import FACTORS, Load
from penstock.policy import compile_shared
from penstock.rate import FixedWindow, SlidingWindow, TokenBucket, check_per, parse_rate
from penstock.sync.options import Sync

INSTANCES_MOST, SECONDS_MOST, CALLS_MOST = 256, 600.0, 5_000_000
KILL_AT = 0.5
"""Which part of the time has passed when an instance is killed."""

SharedLimit = TokenBucket | SlidingWindow | FixedWindow


@dataclass(frozen=True)
class Outage:
    """Redis stands still for so many seconds, from so many after the start."""

    seconds: float
    start: float

    @property
    def end(self) -> float:
        return self.start + self.seconds


@dataclass(frozen=True)
class Settings:
    """One trial. limit, algorithm: as text. redis: a URL, or None for a server of the trial's own. every: seconds
    between exchanges. factor: calls offered for each allowed, None for what is usual for the load. mode: what holds
    while Redis is away. Raises LabError, or what Limiter and Sync raise, for what cannot be tried."""

    limit: str = "1000/second"
    algorithm: str = "token-bucket"
    instances: int = 4
    load: str = "even"
    seconds: float = 10.0
    factor: float | None = None
    every: float = 0.05
    strict: bool = False
    mode: str = "share"
    outage: Outage | None = None
    kill: bool = False
    seed: int = 1
    redis: str | None = None

    def __post_init__(self) -> None:
        Sync(self.redis or "redis://localhost", every=self.every, on_outage=self.mode)  # type: ignore[arg-type]
        compile_shared([[self.rule]], round(self.every * NS), 0.5)  # refuses what cannot be shared
        _between("instances", self.instances, 1, INSTANCES_MOST)
        _between("seconds", self.seconds, 1, SECONDS_MOST)
        _between("factor", self.offered, 0.01, 100)
        if self.load_of.calls > CALLS_MOST:
            raise LabError(
                f"limit={self.limit!r} means {self.load_of.calls:,.0f} calls in {self.seconds:g} seconds;"
                f" a trial makes at most {CALLS_MOST:,}"
            )
        if self.outage is not None:
            self._check_outage(self.outage)
        if self.kill and self.instances < 2:
            raise LabError("kill needs instances that are left: instances must be 2 at least")

    def _check_outage(self, outage: Outage) -> None:
        if self.redis is not None:
            raise LabError("outage stops the server, which is only done to one of the trial's own: leave redis out")
        if not hasattr(signal, "SIGSTOP"):
            raise LabError(f"outage needs signals that stop a process; {os.name} has none")
        if not (outage.seconds > 0 and outage.start >= 0 and outage.end < self.seconds):
            raise LabError(
                f"outage={outage.seconds:g}@{outage.start:g} must begin and end within the {self.seconds:g} seconds"
            )

    @property
    def rule(self) -> SharedLimit:
        """The limit that is tried."""
        found = parse_rate(self.limit, self.algorithm)
        if len(found) != 1:
            raise LabError(f"limit={self.limit!r} has {len(found)} limits; one is tried at a time")
        if not isinstance(found[0], SharedLimit):
            raise LabError(f"algorithm={self.algorithm!r} cannot be shared between instances")
        return found[0]

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.rule.limit * NS / check_per(self.rule.per)

    @property
    def burst(self) -> int:
        """Units at once; for windows, in one of them."""
        return (self.rule.burst if isinstance(self.rule, TokenBucket) else None) or self.rule.limit

    @property
    def window_s(self) -> float | None:
        """Seconds of a window; None for a bucket."""
        return None if isinstance(self.rule, TokenBucket) else check_per(self.rule.per) / NS

    @property
    def offered(self) -> float:
        """Calls for each that the limit allows."""
        return FACTORS[self.load] if self.factor is None else self.factor

    @property
    def kill_at(self) -> float:
        """When an instance is killed, where one is: seconds from the start."""
        return KILL_AT * self.seconds

    @property
    def load_of(self) -> Load:
        """The traffic."""
        return Load(self.load, self.rate, self.burst, self.offered, self.seconds, self.seed)


def read_outage(text: str) -> Outage:
    """SECONDS@START. Raises LabError."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)@(\d{1,6}(?:\.\d{1,6})?)", text)
    if match is None:
        raise LabError(f"outage={shown(text)} must be SECONDS@START, such as 3@4 for 3 seconds from the 4th on")
    return Outage(float(match[1]), float(match[2]))


def _between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most or math.isnan(value):
        raise LabError(f"{name}={value:g} must be between {least:g} and {most:g}")
