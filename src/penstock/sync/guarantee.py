"""What a limiter guarantees under its present settings, as a formula and as a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from penstock.clock import NS
from penstock.policy import SHARED_BUCKET, Policy
from penstock.rate import Concurrency, Limit, TokenBucket, check_per
from penstock.sync.plan import cap_of


@dataclasses.dataclass(frozen=True)
class Bound:
    """The guarantee of one limit.

    tier, limit_index: which one. formula: what is never exceeded, in any interval of t seconds (buckets) or in each
    window of the server's clock. burst: b, or the window's limit. rate: r, units per second. interval: T, seconds.
    instances: N. unsettled: Q, what all instances may have admitted that Redis has not heard of. excess: units above
    what one exact limit would admit in the same interval.
    """

    tier: str | None
    limit_index: int
    formula: str
    burst: int
    rate: float
    interval: float
    instances: int
    unsettled: int
    excess: float

    def admitted(self, seconds: float) -> float:
        """Units that are admitted at most in an interval of so many seconds; for windows, in any one window."""
        return self.burst + self.excess + (self.rate * seconds if "r*t" in self.formula else 0.0)

    def __str__(self) -> str:
        named = "" if self.tier is None else f"tier {self.tier!r}, "
        return (
            f"{named}limit {self.limit_index}: {self.formula}, with b={self.burst}, r={self.rate:g}/s,"
            f" T={self.interval:g} s, N={self.instances}, Q={self.unsettled}: at most {self.excess:g} above the limit"
        )


@dataclasses.dataclass(frozen=True)
class Guarantee:
    """What a limiter guarantees, limit by limit; `print` it to read it."""

    bounds: tuple[Bound, ...]

    @property
    def formula(self) -> str:
        """The formulas of all limits."""
        return "; ".join(dict.fromkeys(bound.formula for bound in self.bounds))

    @property
    def excess(self) -> float:
        """The largest excess of any limit, units."""
        return max(bound.excess for bound in self.bounds)

    def __str__(self) -> str:
        return "\n".join(str(bound) for bound in self.bounds)


BUCKET_FORMULA = "admitted(t) <= b + r*t + 3*r*T + 2*Q"
STRICT_FORMULA = "admitted(t) <= b + r*t + 3*r*T + N"
"""Without trust every instance may still hold a lease of one unit."""
WINDOW_FORMULA = "admitted(window) <= b + Q + 2*r*T + what arrives within half a round trip of its edges"
"""2*r*T: leases that come back as the window turns are taken from the next one's count."""
EXACT_BUCKET, EXACT_WINDOW = "admitted(t) <= b + r*t", "admitted(window) <= b"


def guarantee_of(
    tiers: Sequence[tuple[str | None, Sequence[Policy]]], instances: int, interval_ns: int, largest: Sequence[int]
) -> Guarantee:
    """The guarantee for so many instances. interval_ns: that of the exchange now, which a slow network lengthens;
    largest: the largest single cost asked of each limit."""
    return Guarantee(
        tuple(
            _bound(tier, index, policy, instances, interval_ns, largest[index])
            for tier, policies in tiers
            for index, policy in enumerate(policies)
        )
    )


def _bound(
    tier: str | None, index: int, policy: Policy, instances: int, interval_ns: int, largest: int
) -> Bound:
    rate = policy.rate * NS / policy.per_ns
    interval = max(policy.interval_ns, interval_ns) / NS
    unsettled = instances * cap_of(policy, instances, largest)
    bucket = policy.kind == SHARED_BUCKET
    excess = 3 * rate * interval + (2 * unsettled if policy.kappa else instances)
    return Bound(
        tier=tier,
        limit_index=index,
        formula=WINDOW_FORMULA if not bucket else BUCKET_FORMULA if policy.kappa else STRICT_FORMULA,
        burst=policy.limit,
        rate=rate,
        interval=interval,
        instances=instances,
        unsettled=unsettled,
        excess=excess if bucket else unsettled + 2 * rate * interval,
    )


def exact(tiers: Mapping[str | None, Sequence[Limit]]) -> Guarantee:
    """The guarantee of a limiter that one process has for itself."""
    return Guarantee(
        tuple(_exact(tier, index, limit) for tier, limits in tiers.items() for index, limit in enumerate(limits))
    )


def _exact(tier: str | None, index: int, limit: Limit) -> Bound:
    if isinstance(limit, Concurrency):
        return Bound(tier, index, "held <= b", limit.limit, 0.0, 0.0, 1, 0, 0.0)
    burst, formula = limit.limit, EXACT_WINDOW
    if isinstance(limit, TokenBucket):
        burst, formula = limit.burst or limit.limit, EXACT_BUCKET
    return Bound(tier, index, formula, burst, limit.limit * NS / check_per(limit.per), 0.0, 1, 0, 0.0)


def too_small(guarantee: Guarantee) -> str | None:
    """A warning of limits that so many instances cannot share exactly unless callers wait; None where all are fine."""
    small = [bound for bound in guarantee.bounds if bound.burst < 4 * bound.instances]
    if not small:
        return None
    sizes = ", ".join(str(size) for size in sorted({bound.burst for bound in small}))
    return (
        f"a limit of {sizes} is small for {small[0].instances} instances: together they may admit up to"
        f" {max(bound.excess for bound in small):g} more; acquire() waits and is exact, hit() and check() are not"
    )
