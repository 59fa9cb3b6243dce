"""What came of a fleet's answers: counts per slice, the worst interval, one exact limit on the same calls, costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.clock import NS, ManualClock
from penstock.lab.records import Answer
from penstock.lab.settings import SharedLimit
from penstock.limiter import Limiter

SLICE_NS = 100_000_000
SECOND = NS // SLICE_NS


def merge(answers: Iterable[Sequence[Answer]], start: int) -> list[Answer]:
    """All instances' answers in order, their times from the start."""
    found = [answer._replace(at=answer.at - start) for each in answers for answer in each]
    return sorted(found, key=lambda answer: answer.at)


def slices(times: Iterable[int], seconds: float) -> list[int]:
    """How many of the times, ns, are in each slice of so many seconds; what is later counts for the last."""
    counts = [0] * max(1, -(-round(seconds * NS) // SLICE_NS))
    for at in times:
        counts[min(max(at, 0) // SLICE_NS, len(counts) - 1)] += 1
    return counts


def envelope(times: Iterable[int], rate: float, seconds: float) -> list[float]:
    """For each slice the most that an interval which ends in it has admitted beyond `rate` units per second.

    times: of admissions, ns, rising. One pass, with the running minimum of what was admitted less what the rate
    allowed. An exact token bucket stays at its burst or below.
    """
    worst = [0.0] * len(slices((), seconds))
    total, low, filled = 0, 0.0, -1
    for at in times:
        allowed = rate * at / NS
        index = min(max(at, 0) // SLICE_NS, len(worst) - 1)
        _fall(worst, filled + 1, index, total - low, rate)
        low = min(low, total - allowed)
        total += 1
        worst[index], filled = max(worst[index], total - allowed - low), index
    _fall(worst, filled + 1, len(worst), total - low, rate)
    return worst


def _fall(worst: list[float], begin: int, end: int, reached: float, rate: float) -> None:
    """Slices without admissions: what the interval had admitted too much grows less with the time that passes."""
    for index in range(begin, end):
        worst[index] = max(0.0, reached - rate * index / SECOND)


def windows(times: Iterable[int], width_ns: int, start_us: float, seconds: float) -> list[float]:
    """For each slice what the fuller of the windows that reach into it had admitted by then.

    Windows lie on the server's clock; start_us: its time at the start, us since the Unix epoch.
    """
    worst = [0.0] * len(slices((), seconds))
    offset, number, count = round(start_us * 1000), None, 0
    for at in times:
        if (of := (at + offset) // width_ns) != number:
            number, count = of, 0
        count += 1
        index = min(max(at, 0) // SLICE_NS, len(worst) - 1)
        worst[index] = max(worst[index], float(count))
    return worst


def exact(limit: SharedLimit, times: Iterable[int], start_us: float) -> list[int]:
    """Of calls at these times, ns, rising, those that one limiter of one process would have admitted."""
    clock = ManualClock()
    base = round(start_us * 1000)
    clock.set_ns(base)
    limiter = Limiter(limit, clock=clock)
    admitted = []
    for at in times:
        clock.set_ns(base + at)
        if limiter.hit("k"):
            admitted.append(at)
    return admitted


def worst_second(admitted: Sequence[int], reference: Sequence[int]) -> tuple[float, float]:
    """(the most that any second has above the reference, the most below), as parts of the reference's busiest second.

    Both: counts per slice.
    """
    ours, theirs = _seconds(admitted), _seconds(reference)
    most = max(theirs, default=0)
    if not most:
        return 0.0, 0.0
    apart = [one - other for one, other in zip(ours, theirs, strict=True)]
    return max(0.0, *apart) / most, max(0.0, *(-value for value in apart)) / most


def _seconds(counts: Sequence[int]) -> list[int]:
    """Whole seconds of slices; what is left over at the end counts for the last."""
    whole = max(1, len(counts) // SECOND)
    sums = [sum(counts[second * SECOND : (second + 1) * SECOND]) for second in range(whole)]
    sums[-1] += sum(counts[whole * SECOND :])
    return sums


def quantile(values: Sequence[int], part: float) -> int:
    """The value below which such a part of them lies; 0 of none. values: rising."""
    return values[min(int(part * len(values)), len(values) - 1)] if values else 0


@dataclass(frozen=True)
class Measured:
    """One design in one trial. Counts are per slice of 100 ms.

    exact: what one exact limit would have admitted of the same calls at the same times. height: see `envelope`, or
    `windows` for limits by windows. updates: keys that Redis evaluated; batches: script calls; cpu_s: its processor
    time. median_ns, p99_ns: of a decision, in its process, two clock reads included. late_s: by how much the latest
    call was late. unasked: calls of the load that were never made. duplicates, lost: as in SyncState, of all instances.
    """

    design: str
    offered: list[int]
    admitted: list[int]
    exact: list[int]
    height: list[float]
    updates: int
    batches: int
    cpu_s: float
    median_ns: int
    p99_ns: int
    late_s: float
    unasked: int
    duplicates: int
    lost: int

    @property
    def decisions(self) -> int:
        return sum(self.offered)

    @property
    def total(self) -> int:
        return sum(self.admitted)

    @property
    def drift(self) -> float:
        """Admitted above what is exact, as a part of it; below where negative."""
        return (self.total - sum(self.exact)) / max(1, sum(self.exact))

    @property
    def over(self) -> float:
        return max(0.0, self.drift)

    @property
    def under(self) -> float:
        return max(0.0, -self.drift)

    @property
    def peak(self) -> float:
        """The worst interval, or the fullest window: units, of which the limit allows its burst."""
        return max(self.height)

    def per_thousand(self, count: float) -> float:
        """For 1000 decisions."""
        return 1000 * count / max(1, self.decisions)
