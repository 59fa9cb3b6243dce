"""Prints what the goals of sync.md, section 11, come to in simulation: rows 2 to 8, beside the goals; and Concurrency.

    python tests/simulation/figures.py [model | plan] [row ...]

model: instances driven as sync.md says; plan: by penstock.sync.plan, as real ones are. RTT is 0.5 to 1 ms, T is 50 ms,
every figure is of one seeded run; over and under are against one exact bucket that sees every call at once. Measured,
not asserted: real processes are for benchmarks.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable

from test_held import Scenario
from test_held import play as hold_units
from world import Hit, Model, Planned, S, World, exact_bucket, poisson, worst_excess

from penstock._backend import Engine
from penstock.rate import Limit, TokenBucket

DRIVEN = {"model": Model, "plan": Planned}
driven = "model"


def even(n: int, total: float) -> list[float]:
    return [total / n] * n


def skewed(n: int, total: float) -> list[float]:
    """Nine tenths at one instance."""
    return [0.9 * total] + [0.1 * total / (n - 1)] * (n - 1)


def play(limit: Limit, n: int, hits: list[Hit], seconds: float, **named: float) -> World:
    world = World([limit], n, seed=1, instance_class=DRIVEN[driven], **named)  # type: ignore[arg-type]
    world.run(hits, round(seconds * S))
    return world


def later(hits: Iterable[Hit], seconds: float) -> list[Hit]:
    return [hit._replace(at=hit.at + round(seconds * S)) for hit in hits]


def units(admitted: Iterable[tuple[int, Hit]], start: float = 0.0, end: float = 1e9) -> int:
    return sum(hit.cost for at, hit in admitted if start * S <= at < end * S)


def percent(value: float, of: float) -> str:
    return f"{100 * value / of:+.2f} %"


def row_2() -> None:
    """1000/s, demand 1.5 r, even or 90/10: over <= 1 %, under <= 2 %"""
    for name, spread in (("even", even), ("90/10", skewed)):
        for n in (4, 16, 64):
            hits = poisson(2, spread(n, 1500), 20)
            world = play(TokenBucket(1000), n, hits, 20)
            exact = units(exact_bucket(hits, 1000, 1000))
            excess = worst_excess(world.admitted, 1000) - 1000
            print(f"    {name:6} N={n:<3} {percent(units(world.admitted) - exact, exact)}   excess {excess:.0f} of "
                  f"{3 * 50 + 2 * world.most_caps} units")  # fmt: skip


def row_3() -> None:
    """10x flash crowd: over <= 3 % (N=16), <= 5 % (N=64), worst second <= 10 %"""
    for rate, burst in ((1000, 1000), (1000, 100), (100, 100)):
        for n in (16, 64):
            hits = poisson(3, even(n, 0.5 * rate), 5) + later(poisson(4, even(n, 10 * rate), 5), 5)
            world = play(TokenBucket(rate, 1, burst), n, hits, 10)
            exact = exact_bucket(hits, rate, burst)
            over = units(world.admitted, 5) - units(exact, 5)
            worst = max(units(world.admitted, t, t + 1) / units(exact, t, t + 1) - 1 for t in range(5, 10))
            print(f"    {rate}/s burst {burst} N={n:<3} over {percent(over, units(exact, 5))}   worst second "
                  f"{percent(worst, 1)}")  # fmt: skip


def row_4() -> None:
    """saturated for 60 s: within +-0.5 % of the limit"""
    for rate in (1000, 100, 10):
        for name, spread in (("even", even), ("90/10", skewed)):
            world = play(TokenBucket(rate), 16, poisson(5, spread(16, 1.5 * rate), 64), 64)
            print(f"    {rate}/s {name:6} {percent(units(world.admitted, 4) - 60 * rate, 60 * rate)}")


def row_5() -> None:
    """demand 0.8 r: wrong refusals <= 0.1 % (b >= 100), <= 3 % (10/s check), <= 1 % (10/s acquire)"""
    for rate, burst, wait, seconds in (
        (1000, 1000, -1, 20), (1000, 100, -1, 20), (100, 100, -1, 60), (10, 10, -1, 300), (10, 10, S, 300),
    ):  # fmt: skip
        for n in (16, 64):
            hits = poisson(6, even(n, 0.8 * rate), seconds, wait_ns=wait)
            world = play(TokenBucket(rate, 1, burst), n, hits, seconds + 1.5)
            exact = len(hits) if wait >= 0 else units(exact_bucket(hits, rate, burst))
            wrong = exact - units(world.admitted)
            call = "check" if wait < 0 else "acquire"
            print(f"    {rate}/s burst {burst} {call:7} N={n:<3} {percent(wrong, len(hits))}   "
                  f"early+tick updates {1000 * world.updates / len(hits):.0f} per 1000")  # fmt: skip


def row_6() -> None:
    """0.9 b at one instance within b/(50 r): under <= 5 % (check), <= 0.5 % (acquire)"""
    for rate, burst in ((1000, 1000), (100, 100), (1000, 100)):
        for wait in (-1, S):
            for n in (4, 16):
                count, span = round(0.9 * burst), burst / 50 / rate
                hits = [Hit(round((6 + i * span / count) * S), 0, "k", 1, wait) for i in range(count)]
                world = play(TokenBucket(rate, 1, burst), n, hits, 9)
                call = "check" if wait < 0 else "acquire"
                print(f"    {rate}/s burst {burst} {call:7} N={n:<3} {percent(count - units(world.admitted), count)}")


def row_7() -> None:
    """small limits with acquire: 0 over in every window"""
    for rate, n in ((10, 16), (5, 16), (20, 64)):
        hits = poisson(8, even(n, 3 * rate), 30, wait_ns=S)
        world = play(TokenBucket(rate), n, hits, 32)
        over = worst_excess(world.admitted, rate) - rate
        print(f"    {rate}/s N={n:<3} {over:+.2f} units over in the worst interval; admitted "
              f"{percent(units(world.admitted, 4, 30) - 26 * rate, 26 * rate)} of the rate")  # fmt: skip


def row_8() -> None:
    """<= 300 updates per 1000 decisions (1000/s, N=16); 0 for refusals of an empty key; batches/s <= N*P*(1/T + 20)"""
    for name, spread in (("even", even), ("90/10", skewed)):
        for demand in (0.5, 0.8, 1.5, 5.0):
            hits = poisson(9, spread(16, demand * 1000), 10)
            world = play(TokenBucket(1000), 16, hits, 10)
            print(f"    {name:6} demand {demand} r: {1000 * world.updates / len(hits):.0f} updates, "
                  f"{world.batches / 10:.0f} batches/s of {16 * 40}")  # fmt: skip
    drop = [Hit(0, 0, "k", 100)] + [Hit(S + i * S // 1000, i % 16, "k", 1) for i in range(3000)]
    world = World([TokenBucket(1, 3600, 100)], 16, seed=1, instance_class=DRIVEN[driven])
    world.run(drop[:1], S)
    world.run(drop[1:200], 2 * S)
    before: Counter[str] = Counter(updates=world.updates)
    world.run(drop[200:], 5 * S)
    print(f"    empty key: {world.updates - before['updates']} updates for {len(drop) - 200} refusals")


def refused_by_one(case: Scenario, calls: int) -> float:
    """The part of as many calls as a scenario has that one limiter would refuse if it saw all holders at once."""
    chance, ends, refused, at = random.Random(case.seed), list[float](), 0, 0.0
    for _ in range(calls):
        at += chance.expovariate(case.busy * case.limit / case.hold_s)
        while ends and ends[0] <= at:
            heapq.heappop(ends)
        if len(ends) < case.limit:
            heapq.heappush(ends, at + chance.expovariate(1 / case.hold_s))
        else:
            refused += 1
    return refused / calls


def row_held() -> None:
    """Concurrency(100): held at once never above L + Q; at 0.8 of it on average few refused that one would admit"""
    for n in (4, 16):
        for hold_s in (0.03, 0.3, 3.0):
            for kappa in (0.5, 0.0):
                case = Scenario(1, n, 100, "even", 0.8, hold_s, 1, kappa, 50, 0.0, 0.0, 1.0, 0, max(10.0, 5 * hold_s))
                _, below = hold_units(case, Engine, 10_000, DRIVEN[driven])
                wrong = 1 - below.taken / below.asked - refused_by_one(case, below.asked)
                rush = case._replace(busy=5.0)
                world, above = hold_units(rush, Engine, 10_000, DRIVEN[driven])
                name = f"N={n:<3} held for {hold_s} s{'' if kappa else ' strict':7}"
                print(f"    {name} refused wrongly {100 * wrong:+.2f} %   "
                      f"at 5 times the limit {above.most - 100:+d} over it of {world.most_caps}")  # fmt: skip


ROWS: dict[str, Callable[[], None]] = {
    name.removeprefix("row_"): call for name, call in globals().copy().items() if name.startswith("row_")
}

if __name__ == "__main__":
    words = sys.argv[1:]
    if words and words[0] in DRIVEN:
        driven = words.pop(0)
    for row in words or ROWS:
        print(f"{row}  {ROWS[row].__doc__}")
        ROWS[row]()
