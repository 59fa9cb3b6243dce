"""The goals that the suite measures itself against; they are reported, never asserted."""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """One bound. Where a goal was measured in several ways, the worst of them counts."""

    what: str
    bound: float
    unit: str
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def worse(self, one: float, other: float) -> float:
        return min(one, other) if self.at_least else max(one, other)

    def __str__(self) -> str:
        return f"at {'least' if self.at_least else 'most'} {self.bound:g} {self.unit}"


GET = "dict.get"

TIMES_FASTER = {"floodgate-rs": 3, "token-bucket": 10, "limits": 50, "throttled-py": 50, "pyrate-limiter": 50}

GOALS = {
    "hit one key": Goal("hit(str), one hot key", 2.0, GET),
    "hit 100k": Goal("hit(str), 100,000 keys in random order", 1.8, GET),
    "hit fresh": Goal("hit(str), fresh strings", 1.8, GET),
    "refused": Goal("a refused hit", 1.6, GET),
    "c admitted": Goal("from C, 1,000 str keys, beyond one clock read", 3.5, "exchanges"),
    "c refused": Goal("from C, refused, beyond one clock read", 2.0, "exchanges"),
    "batch in cache": Goal("hit_many, NumPy uint64, table in cache", 3.0, "exchanges"),
    "batch in memory": Goal("hit_many, NumPy uint64, 8 million keys", 6.0, "exchanges"),
    "bucket bytes": Goal("memory per key, token bucket", 32, "bytes"),
    "window bytes": Goal("memory per key, sliding window of 6", 96, "bytes"),
    "threads apart": Goal("two threads without the GIL, distinct keys", 1.8, "of one thread", at_least=True),
    "threads refused": Goal("two threads without the GIL, one refused key", 1.8, "of one thread", at_least=True),
    "threads admitted": Goal("two threads without the GIL, one admitted key", 0.5, "of one thread", at_least=True),
    "shared": Goal("a hit on a shared segment, the worst of three cases", 1.15, "of a private one"),
    "processes apart": Goal("two processes on one segment, distinct keys", 1.8, "of one process", at_least=True),
    "middleware": Goal("ASGI middleware over a bare Starlette application", 5, "us"),
    "import": Goal("import penstock, beyond an empty interpreter", 20, "ms"),
    "filling": Goal("cost at 95 % of the rated capacity", 1.5, "of that at 10 %"),
    "overfull": Goal("cost with ten times more keys than it holds", 3.0, "of that at 10 %"),
    "set free": Goal("keys under limit set free by those", 0, "keys"),
    "drop in for memory": Goal("limits' frameworks, penstock:// added", 1.0, "of what memory:// adds"),
    "drop in for redis": Goal("limits' frameworks, redis:// added", 3.0, "times penstock+shm://", at_least=True),
}
for _name, _times in TIMES_FASTER.items():
    GOALS[f"over {_name}"] = Goal(f"faster than {_name}, one hot key", _times, "times", at_least=True)
for _name, _times in TIMES_FASTER.items():
    GOALS[f"always over {_name}"] = Goal(f"faster than {_name}, the worst of all cases", _times, "times", at_least=True)
