"""Limits that instances share: both engines through random histories of calls, exchanges and answers.

Redis is not asked: answers are drawn at random, sensible and senseless ones, the same for both. A batch may list its
keys in another order; otherwise everything must be equal to the bit, errors included.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from engines import BACKENDS, SECRET, engine_of

from penstock import Concurrency, FixedWindow, SlidingWindow, TokenBucket
from penstock.clock import ManualClock
from penstock.policy import compile_shared
from penstock.rate import Limit

ENTRY, REPLY, ANSWER = struct.Struct("<HHIIIIId"), struct.Struct("<BBHId"), struct.Struct("<ddIf")
KEYS = 6
CAPACITY = 20_000
"""So many places that no key's is taken by another: what was learnt of a key goes with its place."""

Entry = tuple[int, ...]
"""Fingerprint, then the fields of an entry."""


def entries_of(batch: bytes) -> list[Entry]:
    count = len(batch) // (ENTRY.size + 8)
    fingerprints = struct.unpack(f"<{count}Q", batch[count * ENTRY.size :])
    return [(found, *ENTRY.unpack_from(batch, i * ENTRY.size)) for i, found in enumerate(fingerprints)]


class Pair:
    """One engine of each backend under the same clock, and the batches of theirs that are on their way."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.clock = ManualClock(1000.0)
        self.server_us = self.draw.uniform(0, 1e9)
        choose = self.draw.choice
        shapes = [
            (self.draw.randrange(4), choose([1, 3, 10, 100, 1000, 10**6]), choose([0.05, 1, 10, 60]))
            for _ in range(choose([1, 1, 2]))
        ]
        factors = [1, 3] if self.draw.random() < 0.3 else [1]
        tiers = [[limit_of(*shape, factor) for shape in shapes] for factor in factors]
        self.names = [None, "pro"][: len(tiers)]
        self.limits, self.partitions = len(shapes), self.draw.choice([1, 1, 3])
        every_ns = self.draw.choice([10, 50, 500]) * 10**6
        policies = compile_shared(tiers, every_ns, self.draw.choice([0.0, 0.1, 0.5, 1.0]))
        self.engines = [
            engine_of(backend)(
                policies, {name: i for i, name in enumerate(self.names)}, capacity=CAPACITY,
                evict=True, secret=SECRET, clock=self.clock, remember=False,
            )
            for backend in BACKENDS
        ]  # fmt: skip
        self.away: dict[int, tuple[list[list[Entry]], int]] = {}
        self.both(lambda engine: engine.share(1, [0] * self.partitions))

    def both(self, call: Callable[[Any], object]) -> object:
        """The answer of both engines, or the name of the error."""
        answers = []
        for engine in self.engines:
            try:
                answers.append(call(engine))
            except (ValueError, TypeError, RuntimeError) as error:
                answers.append(type(error).__name__)
        assert answers[0] == answers[1]
        return answers[0]

    def batches(self, call: Callable[[Any], bytes]) -> list[list[Entry]]:
        """What each engine tells, in its own order."""
        batches = [entries_of(call(engine)) for engine in self.engines]
        assert sorted(batches[0]) == sorted(batches[1])
        return batches

    def step(self) -> None:
        kind = self.draw.choices(
            ("decide", "give", "force", "reset", "unlearn", "abandon", "wait", "fleet", "look", "exchange"),
            (55, 9, 2, 1, 1, 0.2, 12, 2, 5, 18),
        )[0]
        getattr(self, kind)()

    def argument(self) -> tuple[int, int, str | None]:
        return self.draw.randrange(KEYS), self.draw.choice([1, 1, 1, 2, 5, 50]), self.draw.choice(self.names)

    def decide(self) -> None:
        name, arguments = self.draw.choice(["hit", "check", "peek", "claim", "check", "hit"]), self.argument()
        self.both(lambda engine: getattr(engine, name)(*arguments))

    def give(self) -> None:
        name, arguments = self.draw.choice(["refund", "release"]), self.argument()
        self.both(lambda engine: getattr(engine, name)(*arguments))

    def force(self) -> None:
        arguments = self.argument()
        self.both(lambda engine: engine.force(*arguments))

    def reset(self) -> None:
        key, all_of_them = self.draw.randrange(KEYS), self.draw.random() < 0.1
        self.both(lambda engine: engine.clear() if all_of_them else engine.reset(key))

    def unlearn(self) -> None:
        found = None if self.draw.random() < 0.1 else self.engines[0].fingerprint(self.draw.randrange(KEYS))
        self.both(lambda engine: engine.unlearn(found))

    def abandon(self) -> None:
        self.away.clear()
        self.both(lambda engine: engine.abandon())

    def wait(self) -> None:
        seconds = self.draw.choice([0.0001, 0.003, 0.02, 0.05, 0.3, 5])
        self.clock.advance(seconds)
        self.server_us += seconds * 1e6

    def fleet(self) -> None:
        instances = self.draw.choice([1, 2, 5, 16])
        modes = [self.draw.choice([0, 0, 0, 2, 3]) for _ in range(self.partitions)]
        self.both(lambda engine: engine.share(instances, modes))

    def look(self) -> None:
        self.both(lambda engine: (engine.early(), engine.unsettled(), engine.largest(), engine.counters()))

    def exchange(self) -> None:
        partition = self.draw.randrange(self.partitions)
        if partition not in self.away:
            found = self.engines[0].fingerprint(self.draw.randrange(KEYS))
            wanted, tick = self.draw.random() < 0.2, self.draw.random() < 0.7
            wants = {(self.draw.randrange(self.limits), found): self.draw.choice([1, 5])} if wanted else {}
            batches = self.batches(lambda engine: engine.drain(partition, 200, tick, wants))
            if batches[0]:
                self.away[partition] = batches, self.engines[0].now_ns()
            return
        batches, sent = self.away.pop(partition)
        end = self.draw.random()
        if end < 0.15:
            self.both(lambda engine: engine.failed(partition))
        elif end < 0.3:
            self.away[partition] = self.batches(lambda engine: engine.restore(partition)), sent
        else:
            self.answer(partition, batches, sent)

    def answer(self, partition: int, batches: list[list[Entry]], sent: int) -> None:
        head = REPLY.pack(self.draw.choice([0, 0, 0, 1]), 1, len(batches[0]), 3, self.server_us)
        answers = {
            entry[:2]: ANSWER.pack(
                self.draw.uniform(-5, 1000) if self.draw.random() < 0.5 else self.draw.uniform(0, 10),
                self.draw.uniform(0, 5), self.draw.choice([0, 0, 1, 10, 1000]), self.draw.choice([0.0, 1.0, 100.0]),
            )
            for entry in batches[0]
        }  # fmt: skip
        woken = [
            sorted(engine.applied(partition, head + b"".join(answers[entry[:2]] for entry in batch), sent))
            for engine, batch in zip(self.engines, batches, strict=True)
        ]
        assert woken[0] == woken[1]


def limit_of(kind: int, limit: int, per: float, factor: int) -> Limit:
    if kind == 0:
        return TokenBucket(limit * factor, per=per, burst=max(1, limit * factor // 2))
    if kind == 3:
        return Concurrency(limit * factor)
    return (FixedWindow if kind == 1 else SlidingWindow)(limit * factor, per=per)


def run(seed: int) -> None:
    pair = Pair(seed)
    for _ in range(pair.draw.choice([20, 100, 300])):
        pair.step()


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("block", range(8))
def test_histories(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        try:
            run(seed)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.soak
def test_many_histories() -> None:
    for seed in range(1000, 21_000):
        try:
            run(seed)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
