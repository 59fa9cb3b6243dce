"""Both engines through the same history of a shared limiter: the same decisions, to the bit, and the same batches."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from engines import BACKENDS, SECRET, engine_of, manual_clock

from penstock.clock import NS
from penstock.policy import SHARED_HELD, compile_shared
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingWindow, TokenBucket
from penstock.sync.wire import DUP, ENTRY_BYTES, LOST, OK, Answer, Entry, Reply, pack_reply, unpack_entries

MS = 1_000_000
STEPS = [1000, 300_000, 1_900_000, 2_100_000, 20 * MS, 51 * MS, 210 * MS, 3 * NS]
KEYS = ["a", "b", "c", "d", "e"]
TIERS: list[list[list[Limit]]] = [
    [[TokenBucket(100)]],
    [[TokenBucket(1000, 1, 50)], [TokenBucket(7, 0.3)]],
    [[FixedWindow(60, 0.25)]],
    [[SlidingWindow(60, 0.25)], [SlidingWindow(9, 0.25)]],
    [[TokenBucket(40), FixedWindow(30, 1), SlidingWindow(500, 7)]],
    [[Concurrency(30)], [Concurrency(9)]],
    [[TokenBucket(40), Concurrency(200)]],
]

Batch = dict[tuple[int, int], Entry]


def batch_of(packed: bytes) -> tuple[list[tuple[int, int]], Batch]:
    """The (rule, fingerprint)s in their order, and the entries by them."""
    cut = len(packed) // (ENTRY_BYTES + 8) * ENTRY_BYTES
    entries = unpack_entries(packed[:cut])
    found = [fp for (fp,) in struct.iter_unpack("<Q", packed[cut:])]
    order = [(entry.rule, fp) for entry, fp in zip(entries, found, strict=True)]
    return order, dict(zip(order, entries, strict=True))


class Pair:
    """Two engines that are told the same; every call's answers are compared."""

    def __init__(self, tiers: list[list[Limit]], kappa: float, chance: random.Random) -> None:
        self.chance = chance
        self.clock = manual_clock()
        self.policies = compile_shared(tiers, 50 * MS, kappa)
        self.tiers = {(None, "gold")[i]: i for i in range(len(tiers))}
        self.engines = [
            engine_of(backend)(
                self.policies, self.tiers, capacity=1000, evict=True, secret=SECRET, clock=self.clock, remember=False
            )
            for backend in BACKENDS
        ]
        self.orders: list[list[tuple[int, int]]] = [[], []]
        self.sent_ns = 0

    def both(self, name: str, *arguments: Any) -> Any:
        one, other = (getattr(engine, name)(*arguments) for engine in self.engines)
        assert one == other, (name, arguments)
        return one

    def batch(self, name: str, *arguments: Any) -> Batch:
        """A call that returns a batch, of which the order may differ."""
        parsed = [batch_of(getattr(engine, name)(0, *arguments)) for engine in self.engines]
        self.orders = [order for order, _ in parsed]
        assert parsed[0][1] == parsed[1][1], (name, arguments)
        return parsed[0][1]

    def answer(self, batch: Batch, status: int) -> None:
        """An answer that Redis might give, or not: the engines do not ask."""
        chance = self.chance
        now_us = 6e13 + self.clock.now_ns() % (10**15) / 1000 + chance.randrange(3)
        answers = {}
        for at in batch:
            policy = self.policies[at[0] // len(self.policies[0])][at[0] % len(self.policies[0])]
            a = chance.choice([chance.uniform(-1, 1), float(chance.randrange(-10, 10))]) * policy.limit
            demand = chance.choice([0.0, 1.5, 100.0, chance.uniform(0, 5000)])
            (demand,) = struct.unpack("<f", struct.pack("<f", demand))
            b = float(chance.randrange(12)) if policy.kind == SHARED_HELD else chance.uniform(0, 1e13)
            answers[at] = Answer(a, b, chance.choice([0, 0, 3, 200]), demand)
        woken = [
            engine.applied(0, pack_reply(Reply(status, 1, now_us, tuple(answers[at] for at in order))), self.sent_ns)
            for engine, order in zip(self.engines, self.orders, strict=True)
        ]
        assert sorted(woken[0]) == sorted(woken[1])

    def step(self) -> None:
        """One random call."""
        chance = self.chance
        key = chance.choice(KEYS)
        tier = chance.choice(list(self.tiers))
        cost = chance.choice([1, 1, 1, 2, 5, 40])
        kind = chance.random()
        if kind < 0.55:
            self.both(chance.choice(["hit", "check", "check", "peek", "claim"]), key, cost, tier)
        elif kind < 0.75:
            self.clock.set_ns(self.clock.now_ns() + chance.choice(STEPS))
        elif kind < 0.78:
            self.both(chance.choice(["refund", "release", "release", "force"]), key, cost, tier)
        elif kind < 0.80:
            self.both("reset", key)
        elif kind < 0.82:
            self.both("share", chance.choice([1, 2, 7, 40]), (chance.choice([0, 0, 0, 2, 3]),))
        else:
            self.exchange()
        self.both("early")
        self.both("unsettled")
        self.both("counters")
        self.both("largest")

    def exchange(self) -> None:
        """A batch, and what becomes of it; calls go on meanwhile."""
        chance = self.chance
        wants = {}
        if chance.random() < 0.3:
            limit = chance.randrange(len(self.policies[0]))
            wants[limit, self.both("fingerprint", chance.choice(KEYS))] = chance.choice([1, 7])
        batch = self.batch("drain", 200, chance.random() < 0.6, wants)
        self.sent_ns = self.both("now_ns")
        for _ in range(chance.randrange(3)):
            self.both("hit", chance.choice(KEYS))
            self.clock.set_ns(self.clock.now_ns() + chance.choice(STEPS[:6]))
        if not batch:
            return
        fate = chance.random()
        if fate < 0.1:
            self.both("failed", 0)
            return
        if fate < 0.2:
            batch = self.batch("restore")
        self.answer(batch, chance.choice([OK, OK, OK, DUP]))


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tiers", TIERS, ids=repr)
def test_the_same_history(both: None, tiers: list[list[Limit]], kappa: float) -> None:
    for seed in range(8):
        pair = Pair(tiers, kappa, random.Random(seed))
        for _ in range(250):
            pair.step()


@pytest.mark.soak
@pytest.mark.parametrize("tiers", TIERS, ids=repr)
def test_the_same_history_for_long(both: None, tiers: list[list[Limit]]) -> None:
    for seed in range(600):
        pair = Pair(tiers, seed % 5 / 4, random.Random(seed))
        for _ in range(600):
            pair.step()


def test_neither_takes_a_lost_reply_for_an_answer(both: None) -> None:
    pair = Pair([[TokenBucket(100)]], 0.5, random.Random(0))
    pair.both("hit", "a")
    pair.batch("drain", 200, True, {})
    for engine in pair.engines:
        with pytest.raises(ValueError, match="reply"):
            engine.applied(0, pack_reply(Reply(LOST, 1, 6e13, ())), 0)
