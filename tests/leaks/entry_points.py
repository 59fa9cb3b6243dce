"""Every entry point of the public surface as calls to be repeated, with arguments of every kind, right and wrong.

`surface` finds the names by looking, `CASES` has the calls by those names: test_leaks.py compares the two, so that a
new entry point cannot be forgotten. A variant makes its own limiters, so that what one leaves behind is not another's.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import ctypes
import functools
import itertools
import os
import pickle
import shutil
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy
from engines import SECRET, engine_of, limiter_of

import penstock
import penstock.clock
from penstock import (
    Concurrency,
    CostTooLarge,
    Decision,
    FixedWindow,
    Hold,
    RateLimited,
    RateSyntaxError,
    Reservation,
    Segment,
    SegmentError,
    SlidingLog,
    SlidingWindow,
    Stats,
    Sync,
    TokenBucket,
    TopKey,
)
from penstock.clock import ManualClock, SystemClock
from penstock.policy import Policy, compile_policies, compile_shared, for_segment, replace_policies

try:
    import pyarrow
except ImportError:
    pyarrow = None

try:
    from penstock._records import LEAKY, PULSE, SCORE, WINDOW, Records, Rule, read_fields
except ImportError:
    Records = None  # without compiled modules there is no guard


class Variant(NamedTuple):
    """One way to call an entry point. fails: the errors it ends in, each time; none: it answers."""

    name: str
    call: Callable[[], object]
    fails: tuple[type[BaseException], ...] = ()
    watched: tuple[object, ...] = ()

    def repeat(self, calls: int) -> None:
        """Calls it so often; AssertionError when it does not end as it should."""
        call, fails = self.call, self.fails
        if not fails:
            for _ in range(calls):
                call()
            return
        for _ in range(calls):
            try:
                call()
            except fails:
                continue
            raise AssertionError(f"{self.name}: no error")


Make = Callable[[str], Iterable[Variant]]
"""The variants of an entry point on a backend."""

CASES: dict[str, Make] = {}
NATIVE_ONLY: set[str] = set()
"""Those of CASES that the reference does not have."""

# ---- the surface ----

FURNITURE = frozenset(
    {
        *("__module__", "__doc__", "__slots__", "__new__", "__dict__", "__weakref__", "__qualname__"),
        *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
        *("__conditional_annotations__", "__orig_bases__", "__match_args__", "__eq__", "__hash__", "__getattr__"),
        *("__getnewargs__", "__getstate__", "__setstate__", "__reduce__", "__replace__", "__classcell__"),
        *("__dataclass_params__", "__dataclass_fields__", "__post_init__", "__setattr__", "__delattr__"),
        *("__firstlineno__", "__static_attributes__"),
        *("__pyx_vtable__", "__reduce_cython__", "__setstate_cython__"),
    }
)
"""What Python, dataclasses and Cython put into a class; of copying and pickling test_copying.py tells more."""
OF_FIELDS = {"__repr__", "__init__"}
"""What named tuples and dataclasses write by themselves."""


def surface(backend: str) -> set[str]:
    """Every public name with code or a value behind it: "Limiter.hit", "Decision.headers", "adopt"."""
    engine = engine_of(backend)
    owners: dict[str, type] = {"Engine": engine, "Limiter": limiter_of(backend)}
    for module in (penstock, penstock.clock):
        for name, thing in vars(module).items():
            public = name in penstock.__all__ if module is penstock else not name.startswith("_")
            if public and isinstance(thing, type) and thing.__module__.startswith("penstock."):
                owners.setdefault(name, thing)
    names = {"adopt"}
    if backend == "native" and Records is not None:
        owners["Records"] = Records
        names.add("read_fields")
    for owner, cls in owners.items():
        if getattr(cls, "_is_protocol", False):
            continue
        names.add(f"{owner}.__init__")
        plain = issubclass(cls, tuple) or hasattr(cls, "__dataclass_fields__")
        for base in cls.__mro__:
            if base.__module__.startswith(("penstock", "limiter_on_")):
                for name, thing in vars(base).items():
                    own = name.startswith("__") and name.endswith("__") and name not in FURNITURE
                    method = own and callable(thing) and not (plain and name in OF_FIELDS)
                    value = not name.startswith("_") and not (plain and not callable(thing))
                    if method or value:
                        names.add(f"{owner}.{name}")
    return names


def case(*names: str) -> Callable[[Make], Make]:
    def put(make: Make) -> Make:
        CASES.update(dict.fromkeys(names, make))
        return make

    return put


# ---- arguments ----


class Boom(Exception):
    """Raised by arguments that are up to no good."""


def boom(*_: object, **__: object) -> Any:
    raise Boom


class Text(str):
    """A key of a class that has its own ideas."""

    __slots__ = ()
    encode = __hash__ = __eq__ = __len__ = boom  # type: ignore[assignment]


class Number(int):
    __index__ = __int__ = __hash__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = boom  # type: ignore[assignment]


class Row(tuple):
    __slots__ = ()
    __hash__ = __eq__ = boom  # type: ignore[assignment]


class WrongRow(tuple):
    __slots__ = ()
    __iter__ = boom


class Unhashable:
    __hash__ = __index__ = __eq__ = __str__ = __repr__ = boom  # type: ignore[assignment]


class FailingClock:
    """A clock that answers until it is told to fail, or to answer nonsense."""

    def __init__(self) -> None:
        self.answer: Callable[[], Any] = lambda: 10**18

    def now_ns(self) -> Any:
        return self.answer()

    wall_ns = now_ns


GOOD_KEYS = ("a" * 40, b"bytes", 7, -(2**63), 2**64 + 5, -(2**200), ("a", b"b", 3, 2**70), "ключ", "\ud800 lone", True)
GOOD_KEYS += (Text("text"), Number(12), Row(("a", 1)), (), "")
WRONG_KEYS = (1.5, None, ["list"], {"a": 1}, bytearray(b"a"), ("a", None), ("a", ("b",)), ("a", 2**70, 1.5))
WRONG_KEYS += (Unhashable(),)
WRONG_COSTS = (0, -1, 2**53 + 1, 2**80, -(2**80), True, 1.0, "1", None, Unhashable(), [1])
WRONG_TIERS = ("gold", "", 1, ["pro"], b"pro", 1.5)
WRONG = (TypeError, ValueError, Boom, OverflowError)
LIMITS: dict[str, list[Any]] = {
    "bucket": [TokenBucket(10**9, 1)],
    "window": [SlidingWindow(10**6, 3600)],
    "log": [SlidingLog(100, 3600)],
    "fixed": [FixedWindow(10**6, 3600)],
    "first": [FixedWindow(10**6, 3600, "first")],
    "held": [Concurrency(10**6)],
    "several": [TokenBucket(10**9, 1), FixedWindow(3, 3600), Concurrency(10**6)],
}
ENGINES = {
    **{name: {"limits": limits} for name, limits in LIMITS.items()},
    "system clock": {"limits": LIMITS["bucket"], "clock": None},
    "remembering": {"limits": LIMITS["bucket"], "remember": True},
    "refusing": {"limits": [FixedWindow(1, 3600)]},
    "crowded": {"limits": [FixedWindow(3, 3600)], "capacity": 1},
    "crowded, denying": {"limits": [FixedWindow(3, 3600)], "capacity": 1, "evict": False},
}


def make(owner: str, backend: str, limits: Any = (), clock: Any = "manual", **named: Any) -> Any:
    """An Engine or a Limiter with these limits, and tier "pro" with the same."""
    clock = ManualClock(10**9) if isinstance(clock, str) else clock
    limits = list(limits) or LIMITS["bucket"]
    capacity, evict, remember = named.pop("capacity", 8), named.pop("evict", True), named.pop("remember", False)
    if owner == "Limiter":
        on_full = "evict" if evict else "deny"
        return limiter_of(backend)(
            *limits, tiers={"pro": limits}, clock=clock, capacity=capacity, on_full=on_full, remember_names=remember
        )
    policies = compile_policies([limits, limits], 10**18)
    return engine_of(backend)(
        policies, {None: 0, "pro": 1}, capacity=capacity, evict=evict, secret=SECRET, clock=clock, remember=remember
    )


def shown(value: object) -> str:
    return type(value).__name__ if isinstance(value, (Unhashable, Text, Number, Row)) else repr(value)[:40]


def variant(name: str, function: Callable[..., object], /, *args: Any, fails: Any = (), **named: Any) -> Variant:
    """One whose references are watched: the method's object, and every argument with what is in it."""
    watched: list[object] = [function, getattr(function, "__self__", None)]
    for value in (*args, *named.values()):
        watched.append(value)
        if type(value) in (tuple, list):
            watched.extend(value)
    return Variant(name, functools.partial(function, *args, **named), fails, tuple(watched))


def broken_clocks(owner: str, backend: str, method: str, *args: Any) -> Iterator[Variant]:
    for name, answer in {"raises": boom, "of no number": lambda: "late", "far off": lambda: 2**90}.items():
        clock = FailingClock()
        bound = getattr(make(owner, backend, clock=clock), method)
        clock.answer = answer
        yield variant(f"clock {name}", bound, *args, fails=() if "far" in name else (Boom, TypeError))


# ---- one key ----


def keyed(owner: str, method: str, costs: bool = True) -> Make:
    def variants(backend: str) -> Iterator[Variant]:
        for name, settings in ENGINES.items():
            bound = getattr(make(owner, backend, **settings), method)
            keys = itertools.cycle(["one", "two", b"three", 4, ("five", 5)])
            yield variant(name, lambda bound=bound, keys=keys: bound(next(keys)))
        target = make(owner, backend, LIMITS["several"])
        bound = getattr(target, method)
        for key in GOOD_KEYS:
            yield variant(f"key {shown(key)}", bound, key)
        remembering = getattr(make(owner, backend, remember=True), method)
        for key in GOOD_KEYS:
            yield variant(f"remembered {shown(key)}", remembering, key)
        for key in WRONG_KEYS:
            yield variant(f"wrong key {shown(key)}", bound, key, fails=WRONG)
        yield variant("tuple that cannot be read", bound, WrongRow(("a",)), fails=() if backend else WRONG)
        yield variant("no arguments", bound, fails=(TypeError,))
        yield variant("too many arguments", bound, "a", 1, "pro", 4, fails=(TypeError,))
        yield variant("unknown argument", bound, "a", colour=1, fails=(TypeError,))
        yield variant("key by name", bound, key="a")
        unmade = engine_of("native").__new__(engine_of("native")) if backend == "native" else None
        if unmade is not None:
            yield variant("never made", getattr(unmade, method), "a", fails=(RuntimeError,))
        yield from broken_clocks(owner, backend, method, "a") if method != "fingerprint" else ()
        if not costs:
            return
        for arguments in [("a", 2), ("a", 10**6), ("a", 3, "pro"), ("a", 1, None), ("a", 2**53), (7, Number(3))]:
            yield variant(f"arguments {arguments}"[:60], bound, *arguments)
        yield variant("arguments by name", bound, "a", tier="pro", cost=3)
        yield variant("keyword cost", bound, "a", cost=1)
        for cost in WRONG_COSTS:
            yield variant(f"wrong cost {shown(cost)}", bound, "a", cost, fails=WRONG)
        for tier in WRONG_TIERS:
            yield variant(f"wrong tier {shown(tier)}", bound, "a", 1, tier, fails=WRONG)
        yield variant("wrong tier Unhashable", bound, "a", 1, Unhashable(), fails=WRONG)

    return variants


for _owner in ("Limiter", "Engine"):
    for _method in ("hit", "check", "peek", "refund", "release", "force"):
        CASES[f"{_owner}.{_method}"] = keyed(_owner, _method)
    for _method in ("reset", "fingerprint"):
        CASES[f"{_owner}.{_method}"] = keyed(_owner, _method, costs=False)


# ---- batches ----


INT, POINTER = ctypes.c_int64, ctypes.c_void_p


class ArrowSchema(ctypes.Structure):
    _fields_ = (
        *(("format", ctypes.c_char_p), ("name", POINTER), ("metadata", POINTER), ("flags", INT), ("n_children", INT)),
        *(("children", POINTER), ("dictionary", POINTER), ("release", POINTER), ("private_data", POINTER)),
    )


class ArrowArray(ctypes.Structure):
    _fields_ = (
        *(("length", INT), ("null_count", INT), ("offset", INT), ("n_buffers", INT), ("n_children", INT)),
        *(("buffers", POINTER), ("children", POINTER), ("dictionary", POINTER)),
        *(("release", POINTER), ("private_data", POINTER)),
    )


class ArrowStream(ctypes.Structure):
    _fields_ = (
        *(("get_schema", POINTER), ("get_next", POINTER), ("get_last_error", POINTER)),
        *(("release", POINTER), ("private_data", POINTER)),
    )


_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class ArrowColumn:
    """Arrow's C data by hand: an int64 column, as array or stream, that counts its releases and can go wrong.

    broken_at: the chunk at which a stream says that it cannot go on, -1 for its schema.
    """

    def __init__(self, kind: bytes = b"l", chunks: int = 2, broken_at: int | None = None) -> None:
        self.released = {"schema": 0, "array": 0}
        self.given = {"schema": 0, "array": 0}
        self._values = (ctypes.c_int64 * 4)(1, 2, 3, 4)
        self._buffers = (ctypes.c_void_p * 2)(None, ctypes.addressof(self._values))
        self._kind, self._chunks, self._broken_at, self._next = kind, chunks, broken_at, 0
        ends, gives = ctypes.CFUNCTYPE(None, POINTER), ctypes.CFUNCTYPE(ctypes.c_int, POINTER, POINTER)
        self._release = {name: ends(functools.partial(self._count, name)) for name in self.released}
        self._gives = gives(self._give_schema), gives(self._give_array)
        self.stream = ArrowStream(*(ctypes.cast(function, POINTER) for function in self._gives))

    def _count(self, name: str, _: int) -> None:
        self.released[name] += 1

    def _give_schema(self, _: int, out: int) -> int:
        if self._broken_at == -1:
            return 5
        self._next = 0
        self.given["schema"] += 1
        ctypes.memset(out, 0, ctypes.sizeof(ArrowSchema))
        schema = ArrowSchema.from_address(out)
        schema.format, schema.release = self._kind, ctypes.cast(self._release["schema"], POINTER).value
        return 0

    def _give_array(self, _: int, out: int) -> int:
        if self._next == self._broken_at:
            return 5
        ctypes.memset(out, 0, ctypes.sizeof(ArrowArray))
        if self._next < self._chunks:
            self._next += 1
            self.given["array"] += 1
            array = ArrowArray.from_address(out)
            array.length, array.n_buffers, array.buffers = 4, 2, ctypes.addressof(self._buffers)
            array.release = ctypes.cast(self._release["array"], POINTER).value
        return 0

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return _capsule(ctypes.addressof(self.stream), b"arrow_array_stream", None)

    def to_pylist(self) -> list[Any]:
        """For the reference, which asks the column itself."""
        if self._broken_at is not None:
            raise ValueError("broken off")
        return [1, 2, 3, 4] * self._chunks if self._kind == b"l" else [1.0, 2.0]


class Arrows:
    """What answers to __arrow_c_array__ with anything at all."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:
        return self._answer()

    def to_pylist(self) -> list[Any]:
        raise TypeError("no column")


class Iterating:
    """An iterable, or costs, that break off."""

    def __init__(self, good: int = 3) -> None:
        self._good = good

    def __len__(self) -> int:
        return self._good + 1

    def __getitem__(self, index: int) -> int:
        if index >= self._good:
            raise Boom
        return index + 1


class Arrayed:
    """Costs that NumPy asks in vain."""

    __len__ = __array__ = boom


def good_columns() -> dict[str, Any]:
    columns = {
        "list": ["a", b"b", 1, ("a", 1), 2**70, "a"],
        "tuple": ("a", "b", Text("c")),
        "dict": {"a": 1, "b": 2},
        "empty list": [],
        "int64": numpy.arange(6),
        "uint64": numpy.arange(2**64 - 4, 2**64 - 1, dtype="u8"),
        "int8": numpy.array([-1, 2], dtype="i1"),
        "S": numpy.array([b"a", b"bcd"]),
        "U": numpy.array(["a", "жук", "\ud800"]),
        "objects": numpy.array(["a", 1, b"a"], dtype=object),
        "bool": numpy.array([True, False]),
        "empty": numpy.array([], dtype="U3"),
        "no width": numpy.array(["", ""], dtype="U0"),
        "other byte order": numpy.array([1, 2, 3], dtype=numpy.dtype("i8").newbyteorder()),
        "every other": numpy.arange(10)[::2],
        "masked": numpy.ma.masked_array([1, 2, 3], [False] * 3),
        "arrow stream by hand": ArrowColumn(),
    }
    if pyarrow is not None:
        columns |= {
            "arrow int64": pyarrow.array([1, 2, 3]),
            "arrow utf8": pyarrow.array(["a", "жук"]),
            "arrow binary": pyarrow.array([b"a", b"\0"]),
            "arrow chunked": pyarrow.chunked_array([["a", "b"], [], ["a"]]),
        }
    return columns


def wrong_columns(backend: str) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "one str": "abc",
        "one bytes": b"abc",
        "no column": 5,
        "None": None,
        "two dimensions": numpy.zeros((2, 2), dtype="i8"),
        "no dimension": numpy.array(5),
        "float": numpy.array([1.0, 2.0]),
        "an object in it": numpy.array(["a", None], dtype=object),
        "a wrong key in it": ["a", b"b", 2**70, None],
        "a wrong tuple in it": [("a", 1.5)],
        "breaks off": Iterating(),
        "masked": numpy.ma.masked_array([1, 2], [False, True]),
        "arrow of floats by hand": ArrowColumn(b"g"),
        "arrow stream without schema": ArrowColumn(broken_at=-1),
        "arrow stream that breaks off": ArrowColumn(chunks=5, broken_at=2),
        "arrow raises": Arrows(boom),
        "arrow of three": Arrows(lambda: (1, 2, 3)),
        "arrow of None": Arrows(lambda: None),
        "arrow of no capsules": Arrows(lambda: ("a", "b")),
        "arrow of other capsules": Arrows(lambda: (_capsule(1, b"other", None), _capsule(1, b"other", None))),
    }
    if pyarrow is not None:
        columns |= {
            "arrow null": pyarrow.array(["a", None]),
            "arrow null in the second chunk": pyarrow.chunked_array([[1], [2, None]]),
            "arrow floats": pyarrow.array([1.0]),
            "arrow lists": pyarrow.array([[1], [2]]),
        }
        if backend == "native":
            columns["arrow dictionary"] = pyarrow.array(["a", "b"]).dictionary_encode()
    return columns


def batches(owner: str, method: str) -> Make:
    def variants(backend: str) -> Iterator[Variant]:
        several = getattr(make(owner, backend, LIMITS["several"]), method)
        remembering = getattr(make(owner, backend, remember=True), method)
        for name, column in good_columns().items():
            yield variant(f"column {name}", several, column)
            yield variant(f"remembered {name}", remembering, column)
        yield variant("iterator", lambda: several(iter("abc")))
        for name, column in wrong_columns(backend).items():
            yield variant(f"wrong column {name}", several, column, fails=(*WRONG, AttributeError))
        for costs in [2, [1, 2, 3], (1, 2, 3), numpy.array([3, 1, 2]), numpy.array([1, 2, 3], "u1"), numpy.int32(2)]:
            yield variant(f"costs {costs!r}", several, ["a", "b", "a"], costs)
        wrong: list[Any] = [*WRONG_COSTS[:-1], [1], [1, 2, 3, 4], [], [1, 0, 2], [1.0, 2.0, 3.0], [1, 2, 2**70]]
        wrong += [numpy.ones((3, 1), "i8"), numpy.uint64(2**63), Iterating(), Arrayed(), {1: 1, 2: 2, 3: 3}]
        for costs in wrong:
            yield variant(f"wrong costs {shown(costs)}", several, ["a", "b", "a"], costs, fails=WRONG)
        for tier in WRONG_TIERS:
            yield variant(f"wrong tier {shown(tier)}", several, ["a"], 1, tier, fails=WRONG)
        yield variant("tier", several, ["a", "b"], 1, "pro")
        yield from broken_clocks(owner, backend, method, ["a", "b"])
        yield from broken_clocks(owner, backend, method, numpy.arange(3), [1, 2, 3])

    return variants


for _owner in ("Limiter", "Engine"):
    for _method in ("hit_many", "check_many"):
        CASES[f"{_owner}.{_method}"] = batches(_owner, _method)


# ---- the whole limiter ----


def used(owner: str, backend: str, **settings: Any) -> Any:
    """With some keys in it, some of them refused."""
    target = make(owner, backend, **{"limits": [FixedWindow(2, 3600)], **settings})
    for key in ("a", "b", b"c", 4, ("d", 5)) * 3:
        target.hit(key)
    return target


def whole(owner: str, method: str, *arguments: Any) -> Make:
    """Methods without arguments that matter."""

    def variants(backend: str) -> Iterator[Variant]:
        for name, settings in {"used": {}, "remembering": {"remember": True}, "crowded": {"capacity": 1}}.items():
            target = used(owner, backend, **settings)
            yield variant(name, getattr(target, method), *arguments)
        yield variant("too many arguments", getattr(target, method), *arguments, 2, 3, 4, 5, fails=(TypeError,))

    return variants


# ---- what is exchanged with other instances ----

MISFITS = (TypeError, ValueError, RuntimeError)


def sharing(backend: str) -> Any:
    """An engine of limits that instances share, with keys that have something to tell."""
    tiers = [[TokenBucket(50), Concurrency(20)], [TokenBucket(80), Concurrency(30)]]
    policies = compile_shared(tiers, 50_000_000, 0.5)
    engine = engine_of(backend)(
        policies, {None: 0, "pro": 1}, capacity=8, evict=True, secret=SECRET, clock=ManualClock(10**9), remember=False
    )
    engine.share(2, [0])
    return engine


def reply(batch: bytes, status: int = 0) -> bytes:
    """What Redis might say to a batch."""
    entries = len(batch) // 40
    return struct.pack("<BBHId", status, 1, entries, 2, 6e13) + entries * struct.pack("<ddIf", 40.0, 6e13, 3, 5.0)


def exchange(engine: Any, end: Callable[[Any, bytes], object]) -> object:
    engine.hit("a")
    engine.hit("b", 2, "pro")
    engine.release("b", 1)
    batch = engine.drain(0, 200, True, {(0, engine.fingerprint("a")): 2})
    assert batch
    return end(engine, batch)


def ring(engine: Any) -> None:
    """A decision that writes into a pipe."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    engine.wake(into)
    engine.hit("a", 30)
    engine.early()
    engine.wake(None)
    os.close(out)
    os.close(into)


@case("Engine.share", "Engine.drain", "Engine.applied", "Engine.failed", "Engine.restore", "Engine.early",
      "Engine.largest", "Engine.unsettled", "Engine.claim", "Engine.wake", "Engine.unlearn",
      "Engine.abandon")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    def applied(engine: Any, batch: bytes) -> object:
        return engine.applied(0, reply(batch), 0)

    def failed(engine: Any, batch: bytes) -> object:
        return engine.failed(0)

    def restored(engine: Any, batch: bytes) -> object:
        return engine.applied(0, reply(engine.restore(0)), 0)

    def abandoned(engine: Any, batch: bytes) -> object:
        return engine.abandon()

    ends = {"applied": applied, "failed": failed, "restored": restored, "abandoned": abandoned}
    for name, end in ends.items():
        yield Variant(f"a batch {name}", functools.partial(exchange, sharing(backend), end))
    for wrong in (b"", b"x" * 18, reply(b"", 0), reply(bytes(80), 2), reply(bytes(400))):
        engine = sharing(backend)
        exchange(engine, lambda *_: None)
        yield variant(f"wrong reply of {len(wrong)} bytes", engine.applied, 0, wrong, 0, fails=MISFITS)
    engine = sharing(backend)
    exchange(engine, lambda *_: None)
    yield variant("drained twice", engine.drain, 0, 200, True, {}, fails=(RuntimeError,))
    engine = sharing(backend)
    modes = itertools.cycle([[0], [2], [3], [0] * 16])
    yield Variant("modes and partitions", lambda: engine.share(3, next(modes)))
    for method in ("early", "largest", "unsettled"):
        yield variant(method, getattr(engine, method))
    for found in (None, 12345, engine.fingerprint("a")):
        yield variant(f"unlearn {found}", engine.unlearn, found)
    yield Variant("a bell", lambda: ring(engine), watched=(engine,))
    for fd in (-1, 2**31, "x", 1.5):
        yield variant(f"no bell {fd}", engine.wake, fd, fails=MISFITS)
    yield variant("a claim", engine.claim, "a", 1, "pro")
    yield variant("a claim of a wrong key", engine.claim, 1.5, fails=WRONG)
    yield variant("nobody there", engine.share, 0, [0], fails=MISFITS)


@case("Limiter.share", "Limiter.drain", "Limiter.applied", "Limiter.failed", "Limiter.restore", "Limiter.early",
      "Limiter.largest", "Limiter.unsettled", "Limiter.claim", "Limiter.wake", "Limiter.guarantee",
      "Limiter.unlearn", "Limiter.abandon")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    limiter = used("Limiter", backend)
    yield variant("guarantee", limiter.guarantee)
    wrong: dict[str, tuple[Any, ...]] = dict.fromkeys(("early", "largest", "unsettled", "abandon"), ())
    wrong |= {"wake": (1,), "share": (1, [0]), "drain": (0, 1, True, {})}
    wrong |= {"unlearn": (None,), "applied": (0, b"", 0), "failed": (0,), "restore": (0,)}
    for name, arguments in wrong.items():
        yield variant(f"{name} of limits of its own", getattr(limiter, name), *arguments, fails=MISFITS)


# ---- segments ----

SEGMENTS = tempfile.TemporaryDirectory()
"""Where the segments are."""
atexit.register(SEGMENTS.cleanup)
CAN_SHARE = penstock.native and sys.platform == "linux"
OF_SEGMENTS = ("fd", "rejoin", "seats", "holders", "clear_dead", "ring", "listen", "heard", "sleep")
OF_HOSTS = ("lead", "fleet", "wait_here", "waited_elsewhere", "leave_forgotten", "forgotten", "urge", "rest")
NATIVE_ONLY.update(f"{owner}.{name}" for owner in ("Engine", "Limiter") for name in (*OF_SEGMENTS, *OF_HOSTS))


def on_segment(name: str, *limits: Any, hosts: bool = False) -> Any:
    """An engine on the segment of this name; hosts: of limits that are shared through Redis, too."""
    from penstock.segment.file import join
    from penstock.segment.header import Header, boottime_ns

    rates = [TokenBucket(50)] if hosts else list(limits) or LIMITS["several"]
    policies = compile_shared([rates], 50_000_000, 0.5) if hosts else for_segment(compile_policies([rates], 0))
    header = Header({None: rates}, policies, 8, "evict", SECRET, "the system's", "no", boottime_ns(), time.time_ns())
    opened = join(Segment(path=os.path.join(SEGMENTS.name, name)), lambda: header, lambda _: None)
    return engine_of("native")(
        policies, {None: 0}, capacity=8, evict=True, secret=SECRET, clock=None, remember=False, segment=opened
    )


def rejoined(engine: Any) -> None:
    """What a forked child does."""
    engine.rejoin(os.open(f"/proc/self/fd/{engine.fd}", os.O_RDWR | os.O_CLOEXEC))
    assert engine.hit("a")
    engine.release("a")


@case(*(f"{owner}.{name}" for owner in ("Engine", "Limiter") for name in OF_SEGMENTS))
def _(backend: str) -> Iterator[Variant]:
    if backend == "reference" or not CAN_SHARE:
        return
    for name, limits in LIMITS.items():
        engine = on_segment(name, *limits)
        for method in ("hit", "release", "refund", "check", "peek", "reset", "force"):
            yield variant(f"{method} of {name}", getattr(engine, method), "a")
    engine = on_segment("many")
    for method, arguments in {"seats": (), "clear_dead": (), "heard": (), "ring": (7,), "sleep": (2**40, 1)}.items():
        yield variant(method, getattr(engine, method), *arguments)
    holder = on_segment("holder", Concurrency(9))
    holder.hit("a", 5)
    yield variant("holders", holder.holders)
    yield variant("fd", getattr, engine, "fd")
    yield variant("to and fro", lambda: [engine.listen(on) for on in (True, True, False, False)])
    yield Variant("rejoined", functools.partial(rejoined, on_segment("rejoined", Concurrency(9))))
    yield variant("no descriptor", engine.rejoin, "x", fails=(TypeError,))
    yield variant("no number", engine.ring, "x", fails=(TypeError,))
    private = used("Engine", backend)
    for method, arguments in {"rejoin": (None,), "heard": (), "sleep": (0, 1)}.items():
        yield variant(f"{method} without a segment", getattr(private, method), *arguments, fails=(RuntimeError,))
    for method in ("seats", "holders", "clear_dead"):
        yield variant(f"{method} of one process", getattr(private, method))


@case(*(f"{owner}.{name}" for owner in ("Engine", "Limiter") for name in OF_HOSTS))
def _(backend: str) -> Iterator[Variant]:
    if backend == "reference" or not CAN_SHARE:
        return
    engine, other = on_segment("host", hosts=True), on_segment("host", hosts=True)
    calls: dict[str, tuple[Any, ...]] = {"lead": (), "fleet": (), "waited_elsewhere": (), "forgotten": (), "urge": (7,)}
    calls |= {"wait_here": ({7: 3, 2**63: 1},), "leave_forgotten": (7,), "rest": (2**40, 1)}
    for method, arguments in calls.items():
        yield variant(method, getattr(engine, method), *arguments)
    yield variant("all is forgotten", lambda: (engine.leave_forgotten(None), other.forgotten()))
    yield variant("waited for elsewhere", lambda: (engine.wait_here({9: 1}), other.waited_elsewhere()))
    yield variant("no number", engine.urge, "x", fails=(TypeError,))
    yield variant("no dict", engine.wait_here, [], fails=(TypeError,))
    yield variant("no units", engine.wait_here, {7: "x"}, fails=(TypeError,))
    for private in (used("Engine", backend), sharing(backend)):
        for method, arguments in calls.items():
            if method != "fleet":
                yield variant(f"{method} without a segment", getattr(private, method), *arguments, fails=MISFITS)


@case("Segment.__init__", "Segment.__repr__", "Segment.path", "Segment.group", "Limiter.shared")
def _(backend: str) -> Iterator[Variant]:
    for named in ({"name": "a"}, {"path": "a"}, {"path": "a", "group": True}, {"path": b"a"}):
        yield variant(f"{named}", lambda named=named: [getattr(Segment(**named), name) for name in ("path", "group")])
        yield variant(f"repr of {named}", repr, Segment(**named))
    for wrong in ({}, {"name": 5}, {"name": ""}, {"name": "a", "path": "a"}, {"path": 5}, {"path": "a", "group": 1}):
        yield variant(f"wrong {wrong}", Segment, **wrong, fails=(TypeError, ValueError))
    yield variant("of its own", getattr, used("Limiter", backend), "shared")
    if backend == "reference" or not CAN_SHARE:
        return
    cls, path = limiter_of(backend), Segment(path=os.path.join(SEGMENTS.name, "limiter"))
    yield variant("opened and dropped", lambda: cls("5/minute", shared=path).hit("a"))
    stays = cls("5/minute", shared=path)
    yield variant("shared", getattr, stays, "shared")
    yield variant("others", lambda: cls("6/minute", shared=path), fails=(SegmentError,))
    yield variant("replaced", stays.replace, "6/minute", fails=(SegmentError,))
    made = Segment(path=os.path.join(SEGMENTS.name, "made"))

    def anew() -> None:
        cls("5/minute", Concurrency(3), shared=made, capacity=64).hit("a")
        os.unlink(made.path)

    yield Variant("made and removed", anew)
    os.mkdir(os.path.join(SEGMENTS.name, "folder"))
    folder = Segment(path=os.path.join(SEGMENTS.name, "folder"))
    yield variant("a folder", lambda: cls("5/minute", shared=folder), fails=(SegmentError,))


@case("Sync.__init__")
def _(backend: str) -> Iterator[Variant]:
    yield Variant("its values", lambda: [getattr(Sync("redis://x"), name) for name in ("every_ns", "kappa", "target")])
    for named in ({"url": 5}, {"url": "x"}, {"every": 5}, {"every": "x"}, {"strict": 5}, {"on_outage": "x"},
                  {"fleet_hint": 0}, {"secret": b"x"}, {"secret": "x"}):  # fmt: skip
        yield variant(f"wrong {named}", Sync, **{"url": "redis://x", **named}, fails=(TypeError, ValueError))


for _owner in ("Limiter", "Engine"):
    for _method in ("counters", "live", "denied_keys", "now_ns", "clear"):
        CASES[f"{_owner}.{_method}"] = whole(_owner, _method)
    CASES[f"{_owner}.spending"] = whole(_owner, "spending", 3)
    CASES[f"{_owner}.spent"] = whole(_owner, "spent", 2**64 - 1)
    CASES[f"{_owner}.name_of"] = whole(_owner, "name_of", 12345)
for _method in ("stats", "close", "__repr__", "__enter__"):
    CASES[f"Limiter.{_method}"] = whole("Limiter", _method)
CASES["Limiter.__exit__"] = whole("Limiter", "__exit__", None, None, None)


@case("Engine.rows", "Engine.fill", "Engine.remembered", "Limiter.rows", "Limiter.fill", "Limiter.remembered")
def _(backend: str) -> Iterator[Variant]:
    rows = used("Engine", backend).rows()
    for owner in ("Limiter", "Engine"):
        target = used(owner, backend)
        yield variant(f"{owner}.rows", target.rows)
        yield variant(f"{owner}.remembered", target.remembered)
        yield variant(f"{owner}.fill", target.fill, rows, {5: "a"})
        yield variant(f"{owner}.fill with too much", target.fill, [*rows, b""], {}, fails=(ValueError,))
        yield variant(f"{owner}.fill with nonsense", target.fill, [b"x" * 9] * len(rows), {}, fails=(ValueError,))
        yield variant(f"{owner}.fill with no bytes", target.fill, [5] * len(rows), {}, fails=(TypeError,))


@case("Limiter.save", "Limiter.load")
def _(backend: str) -> Iterator[Variant]:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    cls, limiter, path = limiter_of(backend), used("Limiter", backend), os.path.join(folder, "state")
    limiter.save(path)
    damaged = os.path.join(folder, "damaged")
    with open(path, "rb") as file, open(damaged, "wb") as other:
        other.write(file.read()[:-1] + b"x")
    yield variant("save", limiter.save, path)
    yield variant("load", cls.load, path)
    yield variant("smaller", cls.load, path, capacity=1, name="n")
    yield variant("nowhere to save", limiter.save, os.path.join(folder, "no", "x"), fails=(penstock.SnapshotError,))
    yield variant("no path", limiter.save, 5, fails=(TypeError,))
    for wrong in (folder, damaged, os.path.join(folder, "nothing")):
        yield variant(f"nothing to load in {wrong[-8:]}", cls.load, wrong, fails=(penstock.SnapshotError,))
    yield variant("other limits", cls.load, path, "7/minute", fails=(ValueError,))
    yield variant("wrong limits", cls.load, path, 5, fails=(TypeError,))


@case("Limiter.top")
def _(backend: str) -> Iterator[Variant]:
    yield from whole("Limiter", "top", 3)(backend)
    yield variant("none", used("Limiter", backend).top, 0, fails=(ValueError,))
    yield variant("no number", used("Limiter", backend).top, "3", fails=(TypeError,))


@case("Limiter.bytes", "Engine.bytes", "Limiter.capacity", "Engine.capacity", "Limiter.name")
def _(backend: str) -> Iterator[Variant]:
    for owner in ("Limiter", "Engine"):
        target = used(owner, backend)
        for name in ("bytes", "capacity", *(["name"] if owner == "Limiter" else [])):
            yield variant(f"{owner}.{name}", getattr, target, name)


@case("Engine.replace")
def _(backend: str) -> Iterator[Variant]:
    engine = used("Engine", backend, remember=True)
    old = [FixedWindow(2, 3600)]
    first = compile_policies([old, old], 10**18)
    other = replace_policies(first, old, [[FixedWindow(5, 3600)]] * 2)
    turns = itertools.cycle([other, first])
    yield variant("to and fro", lambda: engine.replace(next(turns)))
    yield variant("nothing", engine.replace, [[]], fails=(IndexError, ValueError))
    yield variant("nonsense", engine.replace, [[object()]], fails=(AttributeError, ValueError))


@case("Limiter.replace")
def _(backend: str) -> Iterator[Variant]:
    limiter = used("Limiter", backend)
    turns = itertools.cycle([FixedWindow(3, 3600), FixedWindow(4, 3600)])
    yield variant("to and fro", lambda: limiter.replace(next(turns)))
    yield variant("a tier", lambda: limiter.replace(tiers={"pro": next(turns)}))
    for name, arguments in {
        "algorithm": ("5/minute",),
        "number": (FixedWindow(1, 3600),) * 2,
        "per": (FixedWindow(1, 60),),
        "type": (5,),
        "syntax": ("5/fortnight",),
    }.items():
        yield variant(f"another {name}", limiter.replace, *arguments, fails=(ValueError, TypeError))
    yield variant("unknown tier", limiter.replace, tiers={"gold": "5/minute"}, fails=(ValueError,))
    yield variant("tiers of a wrong type", limiter.replace, tiers=5, fails=(TypeError,))
    yield variant("algorithm", limiter.replace, algorithm="leaky", fails=(ValueError,))


@case("Limiter.__init__")
def _(backend: str) -> Iterator[Variant]:
    limiter = limiter_of(backend)
    for name, limits in LIMITS.items():
        yield variant(name, limiter, *limits, capacity=8)
    yield variant("as usual", limiter, "5/minute; 100/day")
    yield variant("large", limiter, "5/minute", capacity=10**6)
    yield variant("everything", limiter, "5/minute", tiers={"pro": ["6/minute"]}, capacity=9, on_full="deny", name="n",
                  secret=b"s" * 20, clock=ManualClock(), remember_names=True)  # fmt: skip
    clock = FailingClock()
    clock.answer = boom
    wrong: dict[str, dict[str, Any]] = {
        "algorithm": {"algorithm": "leaky"}, "tiers": {"tiers": 5}, "a tier": {"tiers": {"pro": 5}},
        "a tier's name": {"tiers": {5: "1/minute"}}, "capacity": {"capacity": 0}, "no capacity": {"capacity": "x"},
        "much capacity": {"capacity": 2**52}, "on_full": {"on_full": "drop"}, "name": {"name": 5},
        "no secret": {"secret": "x"}, "secret": {"secret": b"x"}, "no clock": {"clock": 5},
        "clock": {"clock": clock}, "argument": {"colour": 1},
    }  # fmt: skip
    for name, named in wrong.items():
        yield variant(f"wrong {name}", limiter, "5/minute", fails=(*WRONG, MemoryError), **named)
    for limits in [("5",), (5,), ("5/minute",) * 9, (None,), ()]:
        yield variant(f"wrong limits {limits}"[:50], limiter, *limits, fails=WRONG)
    yield variant("twice", limiter("5/minute").__init__, "5/minute", fails=(RuntimeError,))
    yield variant("pickled", pickle.dumps, limiter("5/minute"), fails=(TypeError,))
    yield variant("copied", copy.deepcopy, [limiter("5/minute"), "a"], fails=(TypeError,))
    yield variant("in a cycle", functools.partial(_in_a_cycle, limiter))
    subclass = type("Sub", (limiter,), {})
    yield variant("subclass", lambda: setattr(subclass("5/minute", capacity=8), "friend", []))


def _in_a_cycle(limiter: Any) -> None:
    """Two that hold one another: by a clock, and by a decorated function."""
    clock: Any = ManualClock()
    clock.mine = made = limiter("5/minute", clock=clock, capacity=8)
    clock.function = made.limit(key="a")(lambda: clock)
    clock.function()


@case("Engine.__init__")
def _(backend: str) -> Iterator[Variant]:
    engine, policies = engine_of(backend), compile_policies([LIMITS["several"]], 0)
    right: dict[str, Any] = {"capacity": 8, "evict": True, "secret": SECRET, "clock": None, "remember": True}
    yield variant("right", engine, policies, {None: 0}, **right)
    clock = FailingClock()
    clock.answer = boom
    uneven = [policies[0], policies[0][:1]]
    huge = [[Policy(0, 2**70)]]
    cases: list[tuple[str, Any, Any]] = [
        ("clock", policies, {"clock": clock}), ("evict", policies, {"evict": Unhashable()}),
        ("nothing", [], {}), ("no limits", [[]], {}), ("policy", [[5]], {}),
    ]  # fmt: skip
    if backend == "native":  # what Limiter has checked before the plain one is asked
        cases += [("capacity", policies, {"capacity": 0}), ("secret", policies, {"secret": b"x"})]
        cases += [("uneven", uneven, {})]
        cases += [("too large a number", huge, {}), ("negative number", [[Policy(0, -1)]], {})]
        cases += [("late", [[policies[0][0], Policy(3, 1, per_ns=-5)]], {}), ("type", policies, {"capacity": "x"})]
    errors = (*WRONG, AttributeError, IndexError)
    for name, given, named in cases:
        if (backend, name) != ("reference", "evict"):
            good = name == "evict" and backend == "native"
            yield variant(f"wrong {name}", engine, given, {None: 0}, fails=() if good else errors, **{**right, **named})
    if backend == "native":
        made = engine(policies, {None: 0}, **right)
        yield variant("twice", made.__init__, policies, {None: 0}, fails=(RuntimeError,), **right)

        def too_large() -> None:
            with contextlib.suppress(MemoryError):  # unless the system promises memory that it does not have
                engine(policies, {None: 0}, **{**right, "capacity": 2**40 - 1})

        yield variant("too large", too_large)
        yield variant("never made", lambda: engine.__new__(engine))


@case("adopt")
def _(backend: str) -> Iterator[Variant]:
    engine = engine_of(backend)
    adopt = __import__(engine.__module__, fromlist=["adopt"]).adopt
    subclass = type("Sub", (engine,), {})
    yield variant("again and again", adopt, subclass, "hit", "check", "peek")
    yield variant("new classes", lambda: adopt(type("Sub", (engine,), {}), "hit"))
    yield variant("another class", adopt, int, "hit", fails=(TypeError,))
    yield variant("no class", adopt, 5, "hit", fails=(TypeError,))
    yield variant("no method", adopt, subclass, "capacity", fails=(TypeError,))
    yield variant("unknown method", adopt, subclass, "hits", fails=(AttributeError,))


# ---- waiting, holding, reserving ----

loop = asyncio.new_event_loop()


def awaited(function: Callable[..., Any], *args: Any, **named: Any) -> object:
    return loop.run_until_complete(function(*args, **named))


def empty_limiter(backend: str, *limits: Any) -> Any:
    """On the system's clock, with nothing left of the key "a" for a day."""
    limiter = make("Limiter", backend, limits or [TokenBucket(1, 86_400)], clock=None)
    limiter.hit("a")
    return limiter


WRONG_WAITS: list[dict[str, Any]] = [
    {"key": 1.5}, {"cost": 0}, {"cost": "x"}, {"tier": "gold"}, {"tier": ["x"]}, {"timeout": -1}, {"timeout": "x"},
    {"timeout": float("nan")}, {"cost": 2**53}, {"colour": 1},
]  # fmt: skip


@case("Limiter.acquire")
def _(backend: str) -> Iterator[Variant]:
    free = make("Limiter", backend, clock=None).acquire
    taken = empty_limiter(backend)
    yield variant("at once", free, "a")
    yield variant("all arguments", free, ("a", 2**70), cost=3, timeout=5, tier="pro")
    yield variant("no patience", taken.acquire, "a", timeout=0)
    yield variant("a moment's patience", taken.acquire, "a", timeout=1e-6)
    soon = empty_limiter(backend, TokenBucket(10**5, 1, 1)).acquire
    yield variant("waits its turn", soon, "a")
    for named in WRONG_WAITS:
        yield variant(f"wrong {named}", free, fails=(*WRONG, CostTooLarge), **{"key": "a", **named})
    clock = FailingClock()
    limiter = make("Limiter", backend, clock=clock)
    clock.answer = boom
    yield variant("clock raises", limiter.acquire, "a", fails=(Boom,))
    closed = empty_limiter(backend)
    closed.close()
    yield variant("closed", closed.acquire, "a")

    def in_line() -> None:
        thread = threading.Thread(target=taken.acquire, args=("a",), kwargs={"timeout": 0.001})
        thread.start()
        taken.acquire("a", timeout=0.0005)
        thread.join()

    yield variant("two in line", in_line)


@case("Limiter.acquire_async")
def _(backend: str) -> Iterator[Variant]:
    free, taken = make("Limiter", backend, clock=None), empty_limiter(backend)
    yield variant("at once", awaited, free.acquire_async, "a")
    yield variant("no patience", awaited, taken.acquire_async, "a", timeout=0)
    yield variant("a moment's patience", awaited, taken.acquire_async, "a", timeout=1e-6)
    wrong = (*WRONG, CostTooLarge)
    for named in WRONG_WAITS:
        yield variant(f"wrong {named}", awaited, free.acquire_async, fails=wrong, **{"key": "a", **named})

    async def cancelled() -> None:
        tasks = [asyncio.ensure_future(taken.acquire_async("a")) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def dropped() -> None:
        coroutine = taken.acquire_async("a")
        coroutine.close()

    def loop_closed() -> None:
        own = asyncio.new_event_loop()
        task = own.create_task(taken.acquire_async("a"))
        own.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        own.close()

    yield variant("cancelled in line", awaited, cancelled)
    yield variant("never awaited", dropped)
    yield variant("its loop closed", loop_closed)


@case("Limiter.__aenter__", "Limiter.__aexit__")
def _(backend: str) -> Iterator[Variant]:
    limiter = make("Limiter", backend)

    async def block(raises: bool = False) -> None:
        async with limiter:
            if raises:
                raise Boom

    yield variant("block", awaited, block)
    yield variant("block that raises", awaited, block, True, fails=(Boom,))


@case("Limiter.reserve", "Reservation.__init__", "Reservation.settle", "Reservation.__bool__", "Reservation.__repr__",
      "Reservation.cost", "Reservation.decision")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    limiter = make("Limiter", backend, [FixedWindow(10**6, 3600)])
    refusing = make("Limiter", backend, [FixedWindow(1, 3600)])
    settled = limiter.reserve("a", 1)
    settled.settle(1)
    for actual in (0, 3, 5, 2**53):
        settle = lambda actual=actual: (limiter.reserve("a", 3).settle(actual), limiter.reset("a"))  # noqa: E731
        yield variant(f"settled with {actual}", settle)
    yield variant("dropped", limiter.reserve, ("a", 2**70), 3, "pro")
    yield variant("refused", refusing.reserve, "a", 2)
    yield variant("refused and settled", lambda: refusing.reserve("a", 2).settle(1), fails=(RuntimeError,))
    yield variant("settled twice", settled.settle, 1, fails=(RuntimeError,))
    yield variant("settled with nonsense", settled.settle, "x", fails=(TypeError,))
    yield variant("settled with too much", settled.settle, 2**60, fails=(ValueError,))
    yield variant("wrong key", limiter.reserve, 1.5, 3, fails=(TypeError,))
    yield variant("wrong cost", limiter.reserve, "a", 0, fails=(ValueError,))
    yield variant("no cost", limiter.reserve, "a", fails=(TypeError,))
    yield variant("wrong tier", limiter.reserve, "a", 1, "gold", fails=(ValueError,))
    yield variant("looked at", lambda: (bool(settled), repr(settled), settled.cost, settled.decision))
    yield variant("copied", copy.copy, settled, fails=(TypeError,))
    yield variant("made by hand", Reservation, limiter, "a", 1, None, Decision(True, 1, 0, 0.0, 0.0, 0))


@case("Limiter.hold", "Hold.__init__", "Hold.__enter__", "Hold.__exit__", "Hold.__aenter__", "Hold.__aexit__",
      "Hold.__del__")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    limiter = make("Limiter", backend, [Concurrency(2), FixedWindow(2**46, 3600)], clock=None)
    full = make("Limiter", backend, [Concurrency(1)], clock=None)
    full.hit("a")

    def block(*arguments: Any, raises: bool = False, **named: Any) -> None:
        with limiter.hold(*arguments, **named):
            if raises:
                raise Boom

    async def block_async(limiter: Any, raises: bool = False, **named: Any) -> None:
        async with limiter.hold("a", **named):
            if raises:
                raise Boom

    def enter(hold: Any) -> None:
        hold.__enter__()

    inside = limiter.hold("b")
    inside.__enter__()

    async def cancelled() -> None:
        task = asyncio.ensure_future(block_async(full, timeout=None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    yield variant("block", block, "a")
    yield variant("block of two, all arguments", block, ("a", 2**70), cost=2, tier="pro", timeout=1)
    yield variant("block that raises", block, "a", raises=True, fails=(Boom,))
    yield variant("never entered", limiter.hold, "a")
    yield variant("dropped inside", lambda: enter(limiter.hold("a")))
    yield variant("refused", lambda: enter(full.hold("a")), fails=(RateLimited,))
    yield variant("waited in vain", lambda: enter(full.hold("a", timeout=1e-6)), fails=(RateLimited,))
    yield variant("entered twice", inside.__enter__, fails=(RuntimeError,))
    yield variant("async block", awaited, block_async, limiter)
    yield variant("async block that raises", awaited, block_async, limiter, True, fails=(Boom,))
    yield variant("async, refused", awaited, block_async, full, fails=(RateLimited,))
    yield variant("async, cancelled in line", awaited, cancelled)
    yield variant("no Concurrency", make("Limiter", backend).hold, "a", fails=(TypeError,))
    for named in WRONG_WAITS:
        yield variant(f"wrong {named}", limiter.hold, fails=(*WRONG, CostTooLarge), **{"key": "a", **named})
    yield variant("pickled", pickle.dumps, inside, fails=(TypeError,))
    yield variant("made by hand", Hold, limiter, "a", 1, None, 0.0)


@case("Limiter.limit")
def _(backend: str) -> Iterator[Variant]:
    limiter = make("Limiter", backend)
    refusing = empty_limiter(backend)
    holding = make("Limiter", backend, [Concurrency(2)])

    def function(name: str = "a", raises: bool = False) -> str:
        if raises:
            raise Boom
        return name

    async def coroutine(name: str = "a") -> str:
        return name

    decorated = limiter.limit(key=lambda name="a", raises=False: ("f", name), cost=lambda *_, **__: 2)(function)
    yield variant("called", decorated, "x")
    yield variant("called without a key", limiter.limit()(function))
    yield variant("called, and raises", decorated, raises=True, fails=(Boom,))
    yield variant("called, its key raises", limiter.limit(key=boom)(function), fails=(Boom,))
    yield variant("called, its cost is wrong", limiter.limit(cost=lambda *_: 0)(function), fails=(ValueError,))
    yield variant("called, its tier is wrong", limiter.limit(tier=lambda *_: "gold")(function), fails=(ValueError,))
    yield variant("called, refused", refusing.limit(key="a")(function), fails=(RateLimited,))
    yield variant("called, holding", holding.limit()(function))
    yield variant("called, holding, raises", holding.limit(key="a")(function), raises=True, fails=(Boom,))
    yield variant("awaited", awaited, limiter.limit()(coroutine))
    yield variant("awaited, holding", awaited, holding.limit(key="a")(coroutine))
    yield variant("awaited, refused", awaited, refusing.limit(key="a")(coroutine), fails=(RateLimited,))
    yield variant("made and dropped", lambda: limiter.limit(key="a")(function))
    yield variant("made on a limiter that goes", lambda: make("Limiter", backend).limit(key="a")(function)())
    yield variant("of no function", lambda: limiter.limit()(5), fails=(TypeError,))
    yield variant("wrong key", limiter.limit, key=1.5, fails=(TypeError,))
    yield variant("wrong cost", limiter.limit, cost=0, fails=(ValueError,))
    yield variant("wrong tier", limiter.limit, tier="gold", fails=(ValueError,))


# ---- values ----


@case("Decision.__init__", "Decision.__bool__", "Decision.headers", "Stats.__init__", "TopKey.__init__")
def _(backend: str) -> Iterator[Variant]:
    limiter = used("Limiter", backend)
    for name, decision in {"yes": limiter.peek("new"), "no": limiter.peek("a"), "never": limiter.peek("a", 99)}.items():
        yield variant(name, lambda d=decision: (bool(d), d.headers(), repr(d), hash(d), d == d._replace(limit=3)))
    told = [limiter.check("a"), limiter.stats(), limiter.top(2)]
    yield variant("round trip", lambda: pickle.loads(pickle.dumps(told)))
    for cls in (Decision, Stats, TopKey):
        yield variant(f"{cls.__name__} of nothing", cls, fails=(TypeError,))


@case("PenstockError.__init__", "RateSyntaxError.__init__", "CostTooLarge.__init__", "RateLimited.__init__",
      "SyncError.__init__", "SegmentError.__init__", "SnapshotError.__init__")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    decision = used("Limiter", backend).peek("a")
    own = penstock.SyncError, penstock.SegmentError, penstock.SnapshotError
    for cls in (penstock.PenstockError, CostTooLarge, *own):
        yield variant(cls.__name__, lambda cls=cls: pickle.loads(pickle.dumps(cls("text"))))
    yield variant("RateSyntaxError", lambda: pickle.loads(pickle.dumps(RateSyntaxError("5/x" * 100, 2, "why"))))
    yield variant("RateLimited", lambda: pickle.loads(pickle.dumps(RateLimited(decision))))
    yield variant("RateLimited of nothing", RateLimited, fails=(TypeError,))


@case(*(f"{cls.__name__}.__init__" for cls in (TokenBucket, SlidingWindow, SlidingLog, FixedWindow, Concurrency)))
def _(backend: str) -> Iterator[Variant]:
    for cls in (TokenBucket, SlidingWindow, SlidingLog, FixedWindow):
        yield variant(cls.__name__, cls, 5, 60)
        for arguments in [(0, 60), ("x", 60), (5, 0), (5, "x"), (5, float("nan")), (2**60, 60), (5, 60, "x"), ()]:
            yield variant(f"{cls.__name__}{arguments}", cls, *arguments, fails=(TypeError, ValueError))
    yield variant("Concurrency", Concurrency, 5)
    yield variant("wrong Concurrency", Concurrency, 0, fails=(ValueError,))


@case("ManualClock.__init__", "ManualClock.now_ns", "ManualClock.wall_ns", "ManualClock.advance", "ManualClock.set_ns",
      "ManualClock.watch", "SystemClock.__init__", "SystemClock.now_ns", "SystemClock.wall_ns")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    clock, system = ManualClock(5.5), SystemClock()

    def move() -> None:
        unwatch = clock.watch(lambda: None)
        clock.advance(0.5)
        clock.set_ns(clock.now_ns() - clock.wall_ns() // 2)
        unwatch()

    def failing_watch() -> None:
        unwatch = clock.watch(boom)
        try:
            clock.advance(1)
        finally:
            unwatch()

    yield variant("moved", move)
    yield variant("watched by what raises", failing_watch, fails=(Boom,))
    yield variant("made", ManualClock, 3)
    yield variant("made wrong", ManualClock, "x", fails=(TypeError,))
    yield variant("moved back", clock.advance, -1, fails=(ValueError,))
    yield variant("set to nonsense", clock.set_ns, 1.5, fails=(TypeError,))
    yield variant("the system's", lambda: (SystemClock(), system.now_ns(), system.wall_ns()))


# ---- what guards count ----

FACTS = ("ip:192.0.2.1", b"bytes", 2**70, None, "\u043a\u043b\u044e\u0447", "\ud800")
FACTS += ("x" * 5_000, "\u043a" * 5_000, True)
WRONG_FACTS: tuple[Any, ...] = ((1.5,), (["list"],), (Unhashable(),), ("a",) * 25, ["a"], None, "a")


def records(**named: Any) -> Any:
    rules = [
        Rule(WINDOW, (0,), capacity=100, span_ns=10**9),
        Rule(LEAKY, (0, 1), capacity=3, span_ns=10**9, distinct=2, member_ns=10**10, of=((0, 1, 0),)),
        Rule(PULSE, (4,), capacity=4, span_ns=10**9, share=6_000),
        Rule(SCORE, (0,), half_life=60.0),
        Rule(LEAKY, (), capacity=1, span_ns=10**9),
    ]
    return Records(named.pop("rules", rules), named.pop("capacity", 64), named.pop("bans", 16), SECRET, **named)


def of_records(*names: str) -> Callable[[Make], Make]:
    """Those of the compiled module alone."""
    NATIVE_ONLY.update(names if Records is not None else ())
    return case(*names) if Records is not None else lambda make: make


@of_records("Records.__init__")
def _(backend: str) -> Iterator[Variant]:
    one = records()
    yield variant("made", records)
    for name, wrong in {
        "no rules": {"rules": 5},
        "a rule that is none": {"rules": ["x"]},
        "kind": {"rules": [Rule(9, (0,), span_ns=1)]},
        "no places": {"capacity": 0},
        "too many": {"capacity": 2**40},
        "no bans": {"bans": "x"},
        "opened": {"opened": 5},
    }.items():
        fails = (TypeError, ValueError, MemoryError, AttributeError)
        yield variant(name, lambda wrong=wrong: records(**wrong), fails=fails)
    yield variant("of nothing", Records, fails=(TypeError,))
    yield variant("not made", lambda: Records.__new__(Records), fails=(TypeError,))
    yield variant("copied", copy.copy, one, fails=(TypeError,))


@of_records("Records.feed", "Records.counts", "Records.score", "Records.forget", "Records.check")
def _(backend: str) -> Iterator[Variant]:
    one = records()
    yield variant("fed", one.feed, 0, 5, FACTS, 0, 10**9)
    yield variant("counted", one.counts, 0, 5, FACTS, 10**9)
    yield variant("scored", one.score, 3, FACTS, 10**9, -1.0)
    yield variant("forgotten", one.forget, FACTS)
    yield variant("checked", one.check)
    yield variant("in use", lambda: (one.used(), one.counters(), one.evicted, one.bytes, one.generation, one.emergency))
    for number, wrong in enumerate(WRONG_FACTS):
        yield variant(f"fed what is wrong {number}", one.feed, 0, 5, wrong, 0, 10**9, fails=(TypeError, ValueError))
        yield variant(f"counts of it {number}", one.counts, 0, 5, wrong, 10**9, fails=(TypeError, ValueError))
        yield variant(f"score of it {number}", one.score, 3, wrong, 10**9, fails=(TypeError, ValueError))
        yield variant(f"to forget {number}", one.forget, wrong, fails=(TypeError, ValueError))
    yield variant("rules that are not there", one.feed, 0, 99, FACTS, 0, 10**9, fails=(ValueError,))
    yield variant("times that are none", one.feed, 0, 5, FACTS, 0, -1, fails=(OverflowError,))
    yield variant("late in a feed", one.feed, 0, 3, ("a", "b", 1.5), 0, 10**9, fails=(TypeError,))


@of_records("Records.banned", "Records.ban", "Records.ban_key", "Records.ban_of", "Records.unban", "Records.bans",
            "Records.watch")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    one = records()
    key = one.ban_key(0, FACTS[0])
    yield variant("keyed", one.ban_key, 0, "a" * 5_000)
    yield variant("banned", one.ban, key, 10**9, 10**9, 1, 2, bytes(16))
    yield variant("asked", one.banned, FACTS, 0xFF, 10**9)
    yield variant("watched", one.watch, FACTS, 0xFF, 0x100, 10**9)
    yield variant("known", one.ban_of, key)
    yield variant("listed", one.bans, 10**9)
    yield variant("lifted and placed", lambda: (one.unban(key, 10**9), one.ban(key, 10**9, 10**9, 1, 2)))
    yield variant("a key that is none", one.ban, 0, 10**9, 10**9, 1, 2, fails=(ValueError,))
    yield variant("an address that is none", one.ban, key, 10**9, 10**9, 1, 2, b"short", fails=(ValueError,))
    yield variant("offences that are none", one.ban, key, 10**9, 10**9, -1, 2, fails=(OverflowError,))
    yield variant("key of what is none", one.ban_key, 0, 1.5, fails=(TypeError,))
    for number, wrong in enumerate(WRONG_FACTS[4:]):
        yield variant(f"asked of {number}", one.banned, wrong, 0xFF, 10**9, fails=(TypeError,))
        yield variant(f"watched of {number}", one.watch, wrong, 0xFF, 0, 10**9, fails=(TypeError,))
    yield variant("a fact that is none", one.banned, (1.5,), 1, 10**9, fails=(TypeError,))
    yield variant("a fact to watch that is none", one.watch, (1.5,), 1, 0, 10**9, fails=(TypeError,))


@of_records("Records.count", "Records.counters", "Records.evicted", "Records.emergency", "Records.prolong",
            "Records.override", "Records.generation", "Records.changed", "Records.bytes", "Records.used")  # fmt: skip
def _(backend: str) -> Iterator[Variant]:
    one = records()
    yield variant("counted", one.count, 7)
    yield variant("a counter that is none", one.count, 999, fails=(ValueError,))
    yield variant("told", lambda: (one.counters(), one.evicted, one.emergency, one.generation, one.bytes, one.used()))
    yield variant("changed", lambda: (one.changed(), one.prolong(10**18), one.override(1)))
    yield variant("prolonged by nothing", one.prolong, -1, fails=(OverflowError,))


@of_records("read_fields")
def _(backend: str) -> Iterator[Variant]:
    lines = [("A", "1"), (b"a", b"2"), ("\u043a", "x" * 70_000), (b"b", memoryview(b"c")), ("a" * 100, "\ud800")]
    yield variant("read", read_fields, lines, 128)
    yield variant("some", read_fields, lines, 2)
    for number, wrong in enumerate(([5], [("a",)], [("a", 5)], [(5, "a")], [([], "a")], 5)):
        yield variant(f"wrong {number}", read_fields, wrong, 128, fails=(TypeError, ValueError, AttributeError))
