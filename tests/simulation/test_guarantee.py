"""The guarantee of synced limits (sync.md, section 1), in random worlds: fleets, loads, losses, crashes, joins."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from world import MS, Hit, Instance, Model, Network, Planned, S, World, exact_bucket, placed, poisson, worst_excess

from penstock.rate import FixedWindow, SlidingWindow, TokenBucket

QUICK = 40
SOAK = 1_000
PHASES = [Phase.reuse, Phase.generate, Phase.shrink]
"""Not to explain a failure: its worlds are slow, and the smallest one says enough."""


class Scenario(NamedTuple):
    """One world: instances; the limit; how its callers behave; what goes wrong."""

    seed: int
    instances: int
    rate: int
    burst_s: float
    load: str
    demand: float
    costs: int
    kappa: float
    every_ms: int
    loss: float
    twice: float
    delay_ms: float
    accidents: int
    seconds: float


scenarios = st.builds(
    Scenario,
    seed=st.integers(0, 2**32),
    instances=st.integers(1, 32),
    rate=st.sampled_from([5, 20, 100, 400, 2000]),
    burst_s=st.sampled_from([0.1, 0.5, 1.0, 3.0]),
    load=st.sampled_from(["even", "skewed", "waves", "flash", "turns"]),
    demand=st.sampled_from([0.5, 0.95, 1.5, 5.0]),
    costs=st.sampled_from([1, 1, 3, 20]),
    kappa=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    every_ms=st.sampled_from([5, 20, 50, 200]),
    loss=st.sampled_from([0.0, 0.0, 0.02, 0.2]),
    twice=st.sampled_from([0.0, 0.1]),
    delay_ms=st.sampled_from([0.2, 2.0, 15.0]),
    accidents=st.integers(0, 3),
    seconds=st.just(4.0),
)


def traffic(case: Scenario, most: int) -> list[Hit]:
    """The calls of a scenario, at most `most` of them, in order."""
    chance = random.Random(case.seed)
    mean_cost = (1 + case.costs) / 2
    per_s = case.demand * case.rate / mean_cost
    length = min(case.seconds, most / per_s)
    hits = []
    for _ in range(round(per_s * length)):
        at, one = placed(case.load, chance, case.instances, length)
        hits.append(Hit(round(at * S), one, "k", chance.randint(1, case.costs)))
    return sorted(hits)


def play(
    case: Scenario, limit: Any, engine_class: type, most: int, driver: type[Instance] = Model
) -> tuple[World, float]:
    """Runs a scenario; the world after it, and units that crashes have taken with them at most."""
    network = Network(round(case.delay_ms * MS / 4), round(case.delay_ms * MS / 4), case.loss, case.twice)
    world = World(
        [limit],
        case.instances,
        seed=case.seed,
        kappa=case.kappa,
        every_ns=case.every_ms * MS,
        network=network,
        engine_class=engine_class,
        instance_class=driver,
    )
    below_cap(world)
    hits = traffic(case, most)
    end = hits[-1].at + S
    lost = [0.0]

    def note(one: Instance) -> None:
        lost[0] += one.cap()

    world.befall(random.Random(case.seed + 1), case.accidents, end, note)
    world.run(hits, end)
    return world, lost[0]


def below_cap(world: World) -> None:
    """From now on, no admission may leave more than the cap unsettled, but for what there was before the cap fell."""
    before: Counter[int] = Counter()

    def check(one: Instance) -> None:
        x, fly, _ = one.engine.unsettled()
        assert x + fly <= max(one.cap(), before[one.number])
        before[one.number] = x + fly

    world.unsettled = check


def hold(case: Scenario, engine_class: type, most: int = 2_500, driver: type[Instance] = Model) -> float:
    """Asserts the bound over all intervals; which part of what may come on top of the burst has come."""
    burst = max(case.costs, round(case.rate * case.burst_s))
    world, lost = play(case, TokenBucket(case.rate, 1, burst), engine_class, most, driver)
    interval_s = world.interval_ns / S
    allowance = 3 * case.rate * interval_s + 2 * world.most_caps + lost
    if case.kappa == 0:
        allowance += len(world.instances)  # each may have a lease of one unit, however small its part
    excess = worst_excess(world.admitted, case.rate) - burst
    assert excess <= allowance
    return excess / allowance


@settings(max_examples=QUICK, phases=PHASES)
@given(case=scenarios)
def test_no_interval_admits_more_than_is_promised(engine_class: type, case: Scenario) -> None:
    part = hold(case, engine_class)
    event("of the allowance: " + ("none" if part <= 0 else f"up to {int(part * 5) + 1} fifths"))


@settings(max_examples=QUICK // 4, phases=PHASES)
@given(case=scenarios)
def test_nor_does_it_under_the_plan_of_real_drivers(engine_class: type, case: Scenario) -> None:
    """With few instances, as each of them asks its engine a few hundred times a second."""
    hold(case._replace(instances=min(case.instances, 6)), engine_class, 1_500, Planned)


@pytest.mark.soak
@settings(max_examples=SOAK, phases=PHASES)
@given(case=scenarios, driver=st.sampled_from([Model, Planned]))
def test_no_interval_admits_more_than_is_promised_for_long(
    engine_class: type, case: Scenario, driver: type[Instance]
) -> None:
    hold(case, engine_class, 20_000, driver)


# ---- in the long run ----


@pytest.mark.parametrize("load", ["even", "skewed", "turns"])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_overuse_is_repaid(engine_class: type, load: str, loss: float) -> None:
    """A saturated limit admits its rate: what was too much once is missing later."""
    case = Scenario(7, 8, 200, 0.5, load, 2.0, 1, 0.5, 50, loss, 0.0, 0.5, 0, seconds=20.0)
    world, _ = play(case, TokenBucket(200, 1, 100), engine_class, 10**6)
    admitted = sum(hit.cost for at, hit in world.admitted if at >= 5 * S)
    assert admitted == pytest.approx(200 * 15, rel=0.02)


def refused_wrongly(case: Scenario, engine_class: type, burst: int) -> float:
    """The part of its calls that one exact bucket would have admitted, and these instances have not."""
    world, _ = play(case, TokenBucket(case.rate, 1, burst), engine_class, 10**6)
    hits = traffic(case, 10**6)
    return (len(exact_bucket(hits, case.rate, burst)) - len(world.admitted)) / len(hits)


@pytest.mark.parametrize(("rate", "burst", "most"), [(1000, 1000, 0.001), (100, 100, 0.001), (10, 10, 0.03)])
def test_below_the_limit_nobody_is_refused(engine_class: type, rate: int, burst: int, most: float) -> None:
    """Goal 5: at eight tenths of the rate, at most so few."""
    case = Scenario(11, 16, rate, 1.0, "even", 0.8, 1, 0.5, 50, 0.0, 0.0, 0.5, 0, seconds=8.0 if rate > 10 else 120.0)
    assert refused_wrongly(case, engine_class, burst) <= most


def test_a_burst_at_one_instance_is_not_cut_to_its_share(engine_class: type) -> None:
    """Goal 6: nine tenths of a full bucket, taken at one instance of sixteen in a fiftieth of the time to fill it."""
    world = World([TokenBucket(1000)], 16, engine_class=engine_class)
    world.run([Hit(6 * S + round(i * S / 45_000), 0) for i in range(900)], 7 * S)
    assert len(world.admitted) >= 0.95 * 900


def test_those_who_wait_for_a_small_limit_are_served_exactly(engine_class: type) -> None:
    """Goal 7: sixteen instances that acquire from a limit of ten."""
    world = World([TokenBucket(10)], 16, engine_class=engine_class)
    world.run(poisson(8, [2.0] * 16, 15, wait_ns=S), 17 * S)
    assert worst_excess(world.admitted, 10) < 10 + 1
    assert sum(5 * S <= at < 15 * S for at, _ in world.admitted) >= 0.97 * 10 * 10


def test_an_empty_key_costs_no_updates(engine_class: type) -> None:
    """Goal 8: callers who are refused again and again tell Redis nothing."""
    world = World([TokenBucket(1, 3600, 100)], 16, engine_class=engine_class)
    world.run([Hit(0, 0, "k", 100)], S)
    hits = [Hit(S + i * MS, i % 16) for i in range(3000)]
    world.run(hits[:500], hits[500].at)
    before = world.updates, len(world.admitted)
    world.run(hits[500:], 4 * S)
    assert (world.updates, len(world.admitted)) == before


# ---- when Redis forgets ----


@pytest.mark.parametrize("forget", ["flush", "replica"])
def test_what_redis_forgets_is_told_again(engine_class: type, forget: str) -> None:
    """Goal 11: after lost writes the instances' views restore the level; a quarter of the burst at most is lost."""
    limit, rate, burst = TokenBucket(200, 1, 1000), 200, 1000
    world = World([limit], 8, engine_class=engine_class)
    hits = poisson(5, [50.0] * 8, 12)
    kept = {}
    world.after(6 * S, lambda: kept.update(world.server.snapshot()))
    world.after(7 * S, lambda: world.server.flush() if forget == "flush" else world.server.revert(kept))
    world.run(hits, 12 * S)
    assert world.lost >= 8
    exact = exact_bucket(hits, rate, burst)
    assert len(world.admitted) - len(exact) <= 0.25 * burst


# ---- several limits, keys and partitions ----


def test_several_limits_hold_at_once(engine_class: type) -> None:
    limits = [TokenBucket(100), FixedWindow(150, 2), SlidingWindow(1000, 10)]
    world = World(limits, 8, engine_class=engine_class)
    world.run(poisson(3, [40.0] * 8, 20), 21 * S)
    assert worst_excess(world.admitted, 100) <= 100 + 3 * 100 * 0.05 + 2 * world.most_caps
    counts = Counter(world.server_us(at) // 2_000_000 for at, _ in world.admitted)
    assert max(counts.values()) <= 150 + 150
    assert min(list(counts.values())[1:-1]) >= 0.9 * 150


@pytest.mark.parametrize("partitions", [1, 5])
def test_keys_are_told_apart(engine_class: type, partitions: int) -> None:
    """More keys than a batch has entries: each keeps its own account."""
    keys = 500
    world = World([TokenBucket(10, 60)], 4, partitions=partitions, engine_class=engine_class)
    chance = random.Random(2)
    hits = sorted(Hit(round(chance.uniform(0, 3) * S), chance.randrange(4), f"k{i % keys}") for i in range(30 * keys))
    world.run(hits, 5 * S)
    counts = Counter(hit.key for _, hit in world.admitted)
    assert len(counts) == keys
    assert all(9 <= count <= 10 + 4 for count in counts.values())


# ---- one engine and the other ----


@settings(max_examples=QUICK // 2, phases=PHASES)
@given(case=scenarios)
def test_engines_play_alike(both: None, case: Scenario) -> None:
    """The same world on either engine: the same admissions, to the nanosecond, and the same batches."""
    from penstock._core import Engine as Native
    from penstock._reference import Engine as Reference

    limit = TokenBucket(case.rate, 1, max(case.costs, round(case.rate * case.burst_s)))
    one, other = (play(case, limit, engine, 1_500)[0] for engine in (Reference, Native))
    assert one.admitted == other.admitted
    assert one.server.snapshot() == other.server.snapshot()


# ---- windows ----


def window_cases() -> st.SearchStrategy[Scenario]:
    """Windows are of a second: what counts is what one of them admits."""
    return scenarios.map(lambda case: case._replace(rate=max(case.rate, 20), burst_s=1.0, demand=max(case.demand, 1.5)))


@settings(max_examples=QUICK // 2, phases=PHASES)
@given(case=window_cases())
def test_no_window_of_the_servers_admits_more_than_is_promised(engine_class: type, case: Scenario) -> None:
    """L + Q, and what arrives within half a round trip of the window's edges; a strict one is exact."""
    world, lost = play(case, FixedWindow(case.rate, 1), engine_class, 2_500)
    counts: Counter[int] = Counter()
    way_us = case.delay_ms * 1000 if case.kappa else 0
    for at, hit in world.admitted:
        into_us = world.server_us(at) % 1_000_000
        if way_us <= into_us <= 1_000_000 - way_us:
            counts[(world.server_us(at)) // 1_000_000] += hit.cost
    assert max(counts.values(), default=0) <= case.rate + world.most_caps + lost


@settings(max_examples=QUICK // 2, phases=PHASES)
@given(case=window_cases())
def test_a_sliding_window_admits_its_limit_and_little_more(engine_class: type, case: Scenario) -> None:
    world, lost = play(case, SlidingWindow(case.rate, 1), engine_class, 2_500)
    admitted, first, total, worst = world.admitted, 0, 0, 0
    for at, hit in admitted:
        total += hit.cost
        while admitted[first][0] <= at - S:
            total -= admitted[first][1].cost
            first += 1
        worst = max(worst, total)
    assert worst <= 2 * case.rate + 2 * world.most_caps + lost
