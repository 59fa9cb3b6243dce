"""Batches for tests: sent to a server by hand, drawn at random, and compared with the merge in plain Python."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import redis
from simulation.merge import Holder, Holders, MergeServer

from penstock.sync.wire import (
    BUCKET,
    FIXED,
    HELD,
    SLIDING,
    Entry,
    Header,
    Reply,
    Rule,
    pack_entries,
    pack_header,
    unpack_reply,
)

INSTANCE = b"0123456789abcdef"
PREFIX = "t:{0}:"


class Batch(NamedTuple):
    """One batch before it is packed. names: of the entries' keys, without the prefix."""

    header: Header
    rules: Sequence[Rule]
    entries: Sequence[Entry]
    names: Sequence[str]
    instance: bytes = INSTANCE

    @property
    def keys(self) -> list[bytes]:
        """KEYS of the script call."""
        own = [f"{PREFIX}s{self.instance.decode()}", f"{PREFIX}m", f"{PREFIX}r"]
        ours = [*own, *(PREFIX + name for name in self.names)]
        return [key.encode() for key in ours]

    @property
    def arguments(self) -> tuple[bytes, bytes, bytes]:
        """ARGV of the script call."""
        return pack_header(self.header, self.rules, len(self.entries)), pack_entries(self.entries), self.instance


@functools.cache
def script() -> str:
    """The text of merge.lua."""
    return (resources.files("penstock.sync") / "merge.lua").read_text()


def send(client: redis.Redis, batch: Batch) -> Reply:
    """Run the script on a batch."""
    reply = client.evalsha(client.script_load(script()), len(batch.keys), *batch.keys, *batch.arguments)
    assert isinstance(reply, bytes)
    return unpack_reply(reply, len(batch.entries))


def model(oracle: MergeServer, batch: Batch) -> Reply:
    """Run the merge in plain Python on a batch."""
    return unpack_reply(oracle.call(batch.keys, *batch.arguments), len(batch.entries))


def contents(client: redis.Redis) -> dict[bytes, bytes | None]:
    """Every key with its serialized value, the members aside."""
    return {key: client.dump(key) for key in sorted(client.keys()) if not key.endswith(b":m")}


def random_rule(rng: random.Random) -> Rule:
    """A rule at least some of whose state changes within a test's milliseconds."""
    kind = rng.choice([BUCKET, BUCKET, FIXED, SLIDING, HELD, HELD])
    burst = float(rng.choice([1, 3, 10, 100, 1000, 10**6]))
    length_us = float(rng.choice([500, 5_000, 100_000, 10**6, 86_400 * 10**6]))
    tau_us = 10 ** rng.uniform(-1, 6) if kind == BUCKET else length_us
    return Rule(kind, tau_us, burst, burst * rng.choice([0.0, 0.5, 1.0, 2.0]), burst / 2)


def random_entry(rng: random.Random, rules: Sequence[Rule], now_us: float, restore: bool) -> Entry:
    """An entry with any of its fields zero or large; `known` near what the server may have."""
    index = rng.randrange(len(rules))
    rule = rules[index]

    def amount() -> int:
        return rng.choice([0, 0, 1, rng.randrange(10), int(rng.random() * rule.burst * 1.5)])

    known = 0.0
    if restore and rng.random() < 0.7:
        tat_us = now_us + rng.uniform(-1, 2) * rule.burst * rule.tau_us
        known = max(0.0, tat_us) if rule.kind == BUCKET else rng.random() * rule.burst * 1.5
    age_us = rng.choice([0, rng.randrange(1000), rng.randrange(10**5), rng.randrange(3 * 10**6)])
    back = rng.choice([0, amount()])
    return Entry(index, rng.randrange(2), amount(), back, amount(), age_us, amount(), known)


def random_state(rng: random.Random, rule: Rule, now_us: float) -> bytes:
    """What an earlier batch may have left, or one sent before the server's clock was set back."""
    demand, demand_ms = rng.choice([0.0, 10 ** rng.uniform(-3, 6)]), int(now_us / 1000) + rng.randrange(-5_000, 1_000)
    if rule.kind == BUCKET:
        tat = now_us + rng.uniform(-1.0, 2.5) * rule.burst * rule.tau_us
        return struct.pack("<dfI", tat, demand, demand_ms % 2**32)
    if rule.kind == HELD:
        holders = tuple(
            Holder(inst, rng.randrange(1 + int(rule.burst)), now_us / 1000 + rng.randrange(-100, 5_000))
            for inst in rng.sample([INSTANCE, b"fedcba9876543210", b"f" * 16, b"e" * 16], rng.randrange(4))
        )
        return Holders(demand, demand_ms % 2**32, holders).pack()
    number = (int(now_us // rule.tau_us) + rng.choice([-3, -1, -1, 0, 0, 0, 1, 7])) % 2**32
    counts = (float(int(rng.random() * 1.5 * rule.burst)), float(int(rng.random() * 1.5 * rule.burst)))
    return struct.pack("<IddfI", number, *counts, demand, demand_ms % 2**32)
