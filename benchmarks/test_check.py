"""One decision: ours and the others' beside dict.get of the same keys, in the same loop, in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns

import pytest
from baselines import OURS, PLENTY, SEVERAL, SPENT, SUBJECTS, make
from conftest import Bench, address
from goals import GOALS

from penstock import Limiter, TokenBucket
from penstock.cli._peers import Peer, Subject
from penstock.cli._timing import Call, Loop, each_key, fresh_keys, one_key, then

Goal = Callable[[str, float], None]
KEY = address(7)
ONE_KEY = "one hot key"

each_subject = pytest.mark.parametrize("peer", SUBJECTS, ids=lambda peer: peer.name)


def calls_in(milliseconds: float, call: Call, key: str, most: int) -> int:
    """How many calls take about so long, at most `most`."""
    start = perf_counter_ns()
    for _ in range(100):
        call(key)
    return max(200, min(most, int(milliseconds * 1e6 / ((perf_counter_ns() - start) / 100))))


def settled(subject: Subject, loop: Loop) -> Loop:
    return then(loop, subject.settle) if subject.settle else loop


def compare(
    bench: Bench, goal: Goal, group: str, peer: Peer, loops: dict[str, Loop], goal_of_ours: str | None = None
) -> None:
    """Takes dict.get, ours and the peer's in turns; notes the goals that follow."""
    best = bench.turns(group, peer.name, loops)
    if peer is OURS and goal_of_ours:
        goal(goal_of_ours, best[OURS.name] / best["dict.get"])
    elif f"over {peer.name}" in GOALS:
        if group == ONE_KEY:
            goal(f"over {peer.name}", best[peer.name] / best[OURS.name])
        goal(f"always over {peer.name}", best[peer.name] / best[OURS.name])


def with_ours(peer: Peer, subject: Subject, quotas: Sequence[tuple[int, int]], keys: int) -> dict[str, Subject]:
    """The peer's subject, and ours beside it unless it is ours."""
    return {OURS.name: subject} if peer is OURS else {OURS.name: make(OURS, quotas, keys), peer.name: subject}


@each_subject
def test_one_key(bench: Bench, goal: Goal, peer: Peer) -> None:
    subject = make(peer, [PLENTY], 1000)
    assert subject.admitted(subject.hit(KEY))
    loops = {"dict.get": one_key({KEY: 1}.get, KEY, 10_000)}
    for name, each in with_ours(peer, subject, [PLENTY], 1000).items():
        loops[name] = settled(each, one_key(each.hit, KEY, calls_in(1, each.hit, KEY, 10_000)))
    compare(bench, goal, ONE_KEY, peer, loops, "hit one key")


@each_subject
def test_refused(bench: Bench, goal: Goal, peer: Peer) -> None:
    subject = make(peer, [SPENT], 1000)
    loops = {"dict.get": one_key({KEY: 1}.get, KEY, 10_000)}
    for name, each in with_ours(peer, subject, [SPENT], 1000).items():
        assert each.admitted(each.hit(KEY))
        assert not each.admitted(each.hit(KEY))
        loops[name] = settled(each, one_key(each.hit, KEY, calls_in(1, each.hit, KEY, 10_000)))
    compare(bench, goal, "one refused key", peer, loops, "refused")


@each_subject
def test_several_limits(bench: Bench, goal: Goal, peer: Peer) -> None:
    subject = make(peer, SEVERAL, 1000)
    assert subject.admitted(subject.hit(KEY))
    loops = {"dict.get": one_key({KEY: 1}.get, KEY, 10_000)}
    for name, each in with_ours(peer, subject, SEVERAL, 1000).items():
        loops[name] = settled(each, one_key(each.hit, KEY, calls_in(1, each.hit, KEY, 10_000)))
    compare(bench, goal, "two limits at once, one key", peer, loops)


def compare_many(
    bench: Bench, goal: Goal, group: str, peer: Peer, keys: list[str], goal_of_ours: str | None = None
) -> None:
    subject = make(peer, [PLENTY], len(keys))
    count = min(len(keys), 100_000)
    loops = {"dict.get": each_key(dict.fromkeys(keys, 1).get, keys, count)}
    for name, each in with_ours(peer, subject, [PLENTY], len(keys)).items():
        for key in keys:
            each.hit(key)
        loops[name] = settled(each, each_key(each.hit, keys, calls_in(20, each.hit, KEY, count)))
    compare(bench, goal, group, peer, loops, goal_of_ours)


@each_subject
def test_100k_keys(bench: Bench, goal: Goal, peer: Peer, keys_100k: list[str]) -> None:
    compare_many(bench, goal, "100,000 keys in random order", peer, keys_100k, "hit 100k")


@each_subject
def test_1m_keys(bench: Bench, goal: Goal, peer: Peer, keys_1m: list[str]) -> None:
    compare_many(bench, goal, "1,000,000 keys in random order", peer, keys_1m)


@each_subject
def test_fresh_strings(bench: Bench, goal: Goal, peer: Peer) -> None:
    """10,000 clients whose requests come in random order; each brings a str of its own."""
    clients = [address(number) for number in range(10_000)]
    names = [clients[number * 7919 % len(clients)].encode() for number in range(100_000)]
    subject = make(peer, [PLENTY], len(clients))
    loops = {"dict.get": fresh_keys(dict.fromkeys(clients, 1).get, names, 10_000)}
    for name, each in with_ours(peer, subject, [PLENTY], len(clients)).items():
        for key in clients:
            each.hit(key)
        loops[name] = settled(each, fresh_keys(each.hit, names, calls_in(5, each.hit, KEY, 10_000)))
    compare(bench, goal, "fresh strings of 10,000 clients", peer, loops, "hit fresh")


# ---- ours in other ways ----


@pytest.mark.parametrize("algorithm", ["token-bucket", "sliding-window", "sliding-log", "fixed-window"])
def test_algorithms(bench: Bench, algorithm: str) -> None:
    keys = [address(number) for number in range(1000)]
    limiter = Limiter("1000/30 days", algorithm=algorithm, capacity=2000)
    loops = {"dict.get": each_key(dict.fromkeys(keys, 1).get, keys, 1000), algorithm: each_key(limiter.hit, keys, 1000)}
    bench.turns("algorithms, 1,000 keys", algorithm, loops)


@pytest.mark.parametrize("call", ["check", "peek"])
def test_decisions(bench: Bench, call: str) -> None:
    limiter = Limiter(TokenBucket(PLENTY[0], per=PLENTY[1]))
    loops = {"dict.get": one_key({KEY: 1}.get, KEY, 10_000), "hit": one_key(limiter.hit, KEY, 10_000)}
    loops[call] = one_key(getattr(limiter, call), KEY, 10_000)
    bench.turns("Decision instead of bool, one key", call, loops)


def test_refused_100k(bench: Bench, goal: Goal, keys_100k: list[str]) -> None:
    limiter = Limiter(TokenBucket(SPENT[0], per=SPENT[1]), capacity=len(keys_100k))
    for key in keys_100k:
        limiter.hit(key)
    loops = {"dict.get": each_key(dict.fromkeys(keys_100k, 1).get, keys_100k, len(keys_100k))}
    loops["penstock"] = each_key(limiter.hit, keys_100k, len(keys_100k))
    best = bench.turns("100,000 refused keys in random order", "penstock", loops)
    goal("refused", best["penstock"] / best["dict.get"])


def test_recovered_100k(bench: Bench, keys_100k: list[str]) -> None:
    """Each key's bucket has filled up again before it comes back, so its slot was anybody's meanwhile."""
    limiter = Limiter(TokenBucket(600_000_000, per=60), capacity=len(keys_100k))
    loops = {"dict.get": each_key(dict.fromkeys(keys_100k, 1).get, keys_100k, len(keys_100k))}
    loops["penstock"] = each_key(limiter.hit, keys_100k, len(keys_100k))
    bench.turns("100,000 keys that were full again, in random order", "penstock", loops)
