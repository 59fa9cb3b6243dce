"""What a limiter guarantees under its present settings, as a formula and as a number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from penstock.clock import NS
from penstock.policy import SHARED_BUCKET, SHARED_HELD, Policy, cap_of
from penstock.rate import Concurrency, Limit, TokenBucket, check_per


@dataclasses.dataclass(frozen=True)
class Bound:
    """The guarantee of one limit.

    tier, limit_index: which one. formula: what is never exceeded, in any interval of t seconds (buckets), in each
    window of the server's clock, or at any instant (units held; those of an instance that is cut off from Redis count
    for ten seconds), as long as Redis is there and loses nothing; else what `on_outage` says. burst: b, the window's
    limit, or units held at once. rate: r, units per second. interval: T, seconds. instances: N. unsettled: Q, what all
    instances may have admitted that Redis has not heard of. excess: units above what one exact limit would admit in the
    same interval.
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
        """Units that are admitted at most in an interval of so many seconds; for windows, in any one window; for units
        held, at once."""
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
WINDOW_FORMULA = "admitted(window) <= b + Q + what arrives within half a round trip of its edges"
HELD_FORMULA = "held <= b + Q"
"""As long as no instance that holds any is cut off from Redis for longer than LEASE_NS (wire.py)."""
EXACT_BUCKET, EXACT_WINDOW, EXACT_HELD = "admitted(t) <= b + r*t", "admitted(window) <= b", "held <= b"


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
    formula, excess = WINDOW_FORMULA, float(unsettled)
    if policy.kind == SHARED_HELD:
        formula = HELD_FORMULA if policy.kappa else EXACT_HELD
    elif policy.kind == SHARED_BUCKET:
        formula = BUCKET_FORMULA if policy.kappa else STRICT_FORMULA
        excess = 3 * rate * interval + (2 * unsettled if policy.kappa else instances)
    return Bound(
        tier=tier,
        limit_index=index,
        formula=formula,
        burst=policy.limit,
        rate=rate,
        interval=interval,
        instances=instances,
        unsettled=unsettled,
        excess=excess,
    )


def exact(tiers: Mapping[str | None, Sequence[Limit]]) -> Guarantee:
    """The guarantee of a limiter that one process has for itself."""
    return Guarantee(
        tuple(_exact(tier, index, limit) for tier, limits in tiers.items() for index, limit in enumerate(limits))
    )


def _exact(tier: str | None, index: int, limit: Limit) -> Bound:
    if isinstance(limit, Concurrency):
        return Bound(tier, index, EXACT_HELD, limit.limit, 0.0, 0.0, 1, 0, 0.0)
    burst, formula = limit.limit, EXACT_WINDOW
    if isinstance(limit, TokenBucket):
        burst, formula = limit.burst or limit.limit, EXACT_BUCKET
    return Bound(tier, index, formula, burst, limit.limit * NS / check_per(limit.per), 0.0, 1, 0, 0.0)


def too_small(guarantee: Guarantee) -> str | None:
    """A warning of limits that so many instances cannot share exactly unless callers wait; None where all are fine."""
    small = [bound for bound in guarantee.bounds if bound.excess and bound.burst < 4 * bound.instances]
    if not small:
        return None
    sizes = ", ".join(str(size) for size in sorted({bound.burst for bound in small}))
    advice = "acquire() waits and is exact, hit() and check() are not"
    if all(bound.formula == STRICT_FORMULA for bound in small):
        advice = "strict=True leaves no more than a unit lying ready in each"
    return (
        f"a limit of {sizes} is small for {small[0].instances} instances: together they may admit up to"
        f" {max(bound.excess for bound in small):g} more; {advice}"
    )
