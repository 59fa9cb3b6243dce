"""Bad input of every kind: a clear error before anything changes, or the right answer; no crash, no wrap, no hang."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest

import penstock
from penstock import (
    Concurrency,
    CostTooLarge,
    FixedWindow,
    Limiter,
    RateSyntaxError,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from penstock.clock import ManualClock

LONG = "x" * (10**7 if penstock.native else 10**5)


@contextmanager
def nothing_changes(limiter: Any) -> Iterator[None]:
    """What is counted, held and known before the block is so after it."""

    def everything() -> tuple[Any, ...]:
        return limiter.stats(), limiter.top(1000), limiter.peek("held"), limiter.peek("fresh"), repr(limiter)

    assert limiter.hit("held", 2)
    before = everything()
    yield
    assert everything() == before
    assert limiter.refund("held", 2) is None


@pytest.fixture
def limiter(limiter_class: Any, clock: ManualClock) -> Any:
    return limiter_class("5/minute", Concurrency(5), clock=clock, capacity=64)


# ---- costs ----

COST_TYPES = [True, False, None, 1.0, 1.5, float("nan"), "1", b"1", 1j, [1], Decimal(1), Fraction(1), object()]
COST_TYPES += [numpy.int64(1), numpy.uint8(1), numpy.float64(1), numpy.bool_(True), numpy.array(1)]
COST_VALUES = [0, -1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63), -(2**64) + 1, 10**5000]

CALLS: dict[str, Callable[[Any, Any], object]] = {
    "hit": lambda limiter, cost: limiter.hit("held", cost),
    "hit=": lambda limiter, cost: limiter.hit("held", cost=cost),
    "check": lambda limiter, cost: limiter.check("held", cost),
    "peek": lambda limiter, cost: limiter.peek("held", cost),
    "refund": lambda limiter, cost: limiter.refund("held", cost),
    "release": lambda limiter, cost: limiter.release("held", cost),
    "force": lambda limiter, cost: limiter.force("held", cost),
    "reserve": lambda limiter, cost: limiter.reserve("held", cost),
    "acquire": lambda limiter, cost: limiter.acquire("held", cost, 0),
    "acquire_async": lambda limiter, cost: asyncio.run(limiter.acquire_async("held", cost, 0)),
    "hold": lambda limiter, cost: limiter.hold("held", cost),
    "limit": lambda limiter, cost: limiter.limit("held", cost)(int)(),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
@pytest.mark.parametrize("cost", COST_TYPES, ids=lambda cost: f"{type(cost).__name__}")
def test_costs_of_other_types(limiter: Any, call: Callable[[Any, Any], object], cost: Any) -> None:
    with nothing_changes(limiter), pytest.raises(TypeError, match=f"^cost must be an int, not {type(cost).__name__}$"):
        call(limiter, cost)


@every_call
@pytest.mark.parametrize("cost", COST_VALUES, ids=lambda cost: f"{cost.bit_length()}bits{cost > 0}")
def test_costs_out_of_range(limiter: Any, call: Callable[[Any, Any], object], cost: int) -> None:
    with (
        nothing_changes(limiter),
        pytest.raises(ValueError, match=r"^cost=(-?[0-9]+|an int of [0-9]+ bits) must be between 1 and 2\*\*53$"),
    ):
        call(limiter, cost)


@pytest.mark.parametrize("cost", [6, 2**31, 2**32, 2**32 + 1, 2**53])
def test_costs_that_never_fit_are_refused_and_not_wrapped(limiter: Any, cost: int) -> None:
    assert not limiter.hit("a", cost)
    assert limiter.check("a", cost).retry_after == float("inf")
    assert not limiter.peek("a", cost)
    assert not limiter.hit_many(["a"], cost)
    with pytest.raises(CostTooLarge):
        limiter.acquire("a", cost)
    limiter.refund("a", cost)
    assert limiter.peek("a", 5)


@pytest.mark.parametrize(
    "limit",
    [
        TokenBucket(5, 1),
        SlidingWindow(5, 1),
        SlidingLog(5, 1),
        FixedWindow(5, 1),
        FixedWindow(5, 1, "first"),
        Concurrency(5),
    ],
    ids=repr,
)
def test_the_largest_costs_again_and_again_do_not_wrap(limiter_class: Any, clock: ManualClock, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    for _ in range(5):
        limiter.force("a", 2**53)
        assert not limiter.hit("a")
        assert limiter.peek("a").remaining == 0
    for _ in range(10):
        limiter.refund("a", 2**53)
    assert limiter.check("a", 5)
    assert not limiter.hit("a")


# ---- keys ----

KEY_TYPES: list[Any] = [None, 1.0, float("nan"), 1j, ["a"], {"a"}, {}, object(), bytearray(b"a"), memoryview(b"a")]
KEY_TYPES += [object, frozenset(), numpy.int64(1), numpy.array(["a"]), Ellipsis]
ITEM_TYPES: list[Any] = [(None,), ("a", 1.0), (("a",),), ((),), (["a"],), (1, (2, (3,))), ("a", bytearray())]

KEY_CALLS: dict[str, Callable[[Any, Any], object]] = {
    "hit": lambda limiter, key: limiter.hit(key),
    "check": lambda limiter, key: limiter.check(key),
    "peek": lambda limiter, key: limiter.peek(key),
    "refund": lambda limiter, key: limiter.refund(key),
    "release": lambda limiter, key: limiter.release(key),
    "force": lambda limiter, key: limiter.force(key),
    "reset": lambda limiter, key: limiter.reset(key),
    "reserve": lambda limiter, key: limiter.reserve(key, 1),
    "acquire": lambda limiter, key: limiter.acquire(key),
    "acquire_async": lambda limiter, key: asyncio.run(limiter.acquire_async(key)),
    "hold": lambda limiter, key: limiter.hold(key),
    "fingerprint": lambda limiter, key: limiter.fingerprint(key),
    "hit_many": lambda limiter, key: limiter.hit_many(["held", key]),
    "check_many": lambda limiter, key: limiter.check_many(("held", key)),
}
every_key_call = pytest.mark.parametrize("call", KEY_CALLS.values(), ids=KEY_CALLS)


@every_key_call
@pytest.mark.parametrize("key", KEY_TYPES, ids=lambda key: type(key).__name__)
def test_keys_of_other_types(limiter: Any, call: Callable[[Any, Any], object], key: Any) -> None:
    said = f"^key must be str, bytes, int or a tuple of these, not {type(key).__name__}$"
    with nothing_changes(limiter), pytest.raises(TypeError, match=said):
        call(limiter, key)


@every_key_call
@pytest.mark.parametrize("key", ITEM_TYPES, ids=repr)
def test_tuples_of_other_things(limiter: Any, call: Callable[[Any, Any], object], key: Any) -> None:
    said = "^an item of a tuple key must be str, bytes or int, not [a-zA-Z]+$"
    with nothing_changes(limiter), pytest.raises(TypeError, match=said):
        call(limiter, key)


@pytest.mark.parametrize(
    "key",
    [LONG, LONG.encode(), LONG[:-1] + "é", (LONG, LONG), 1 << 8 * len(LONG), ("x",) * 10**5],
    ids=["str", "bytes", "not ASCII", "tuple", "int", "long tuple"],
)
def test_enormous_keys(key: Any) -> None:
    limiter = Limiter("2/minute")
    assert [limiter.hit(key) for _ in range(3)] == [True, True, False]
    assert limiter.hit_many([key]).tolist() == [False]
    other = key[:-1] if not isinstance(key, int) else key - 1
    assert limiter.hit(other)


@pytest.mark.parametrize("key", ["", b"", (), 0, "\0", b"\0", ("",), (b"",), (0,), ("", ""), "\ud800", "\udcff\ud800"])
def test_keys_at_the_edge_of_nothing_are_keys(limiter_class: Any, clock: ManualClock, key: Any) -> None:
    limiter = limiter_class("1/minute", clock=clock)
    assert limiter.hit(key)
    assert not limiter.hit(key)
    assert limiter.hit_many([key, "other"]).tolist() == [False, True]
    limiter.reset(key)
    assert limiter.hit(key)


def test_wrong_numbers_of_arguments(limiter: Any) -> None:
    wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        (("a", 1, None, 1), {}),
        (("a",), {"key": "a"}),
        (("a",), {"costs": 1}),
    ]
    for call in (limiter.hit, limiter.check, limiter.peek, limiter.refund):
        with nothing_changes(limiter):
            for arguments, settings in wrong:
                with pytest.raises(TypeError):
                    call(*arguments, **settings)


# ---- rates and limits: more in test_rate.py ----


@pytest.mark.parametrize(
    "rate",
    ["", "10/0 seconds", "1e9/second", "-5/second", "5/minute;;", LONG, "5" * 10**6, "\ud800", "5/minute\n\nx"],
    ids=lambda rate: ascii(rate[:20]),
)
def test_rates_that_are_none(limiter_class: Any, rate: str) -> None:
    with pytest.raises(RateSyntaxError) as caught:
        limiter_class(rate)
    assert len(str(caught.value)) < 1000
    with pytest.raises(RateSyntaxError):
        limiter_class("5/minute", tiers={"pro": rate})


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ([], ValueError, "a limiter has 1 to 8 limits, not 0"),
        (["5/minute"] * 9, ValueError, "a limiter has 1 to 8 limits, not 9"),
        (["5/minute;" * 100_000], RateSyntaxError, "a limiter has at most 8 limits"),
        (["5/minute; 5/minute"] * 5, ValueError, "a limiter has 1 to 8 limits, not 10"),
        ([5], TypeError, "limits must be rate strings or limits such as TokenBucket.10., not int"),
        ([None], TypeError, "limits must be .* not NoneType"),
        ([b"5/minute"], TypeError, "limits must be .* not bytes"),
        ([["5/minute"]], TypeError, "limits must be .* not list"),
        ([TokenBucket], TypeError, "limits must be .* not type"),
        (["10000000000/second"], ValueError, "limit=10000000000 per 1 is more than one token per nanosecond"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_limits_that_are_none(limiter_class: Any, limits: list[Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        limiter_class(*limits)


# ---- what a limiter is made with ----


class WithoutWall:
    def now_ns(self) -> int:
        return 0


class NotCallable:
    now_ns = wall_ns = 5


def clock_of(now: Any, wall: Any = 0) -> Any:
    """A clock that answers so."""

    class Clock:
        def now_ns(self) -> Any:
            return now

        def wall_ns(self) -> Any:
            return wall

    return Clock()


WRONG_SETTINGS: list[tuple[dict[str, Any], type[BaseException], str]] = [
    ({"capacity": 0}, ValueError, r"capacity=0 must be between 1 and 2\*\*53"),
    ({"capacity": -1}, ValueError, r"capacity=-1 must be between 1 and 2\*\*53"),
    ({"capacity": 2**70}, ValueError, r"capacity=[0-9]+ must be between 1 and 2\*\*53"),
    ({"capacity": 10**5000}, ValueError, r"capacity=an int of [0-9]+ bits must be between 1 and 2\*\*53"),
    ({"capacity": True}, TypeError, "capacity must be an int, not bool"),
    ({"capacity": 1e6}, TypeError, "capacity must be an int, not float"),
    ({"capacity": "many"}, TypeError, "capacity must be an int, not str"),
    ({"capacity": 2**40}, MemoryError, "capacity=1099511627776 needs [0-9]+ bytes of tables"),
    ({"capacity": 2**53}, MemoryError, "capacity=9007199254740992 needs [0-9]+ bytes of tables"),
    ({"on_full": "drop"}, ValueError, 'on_full=\'drop\' must be "evict" or "deny"'),
    ({"on_full": None}, ValueError, 'on_full=None must be "evict" or "deny"'),
    ({"on_full": []}, ValueError, r'on_full=\[\] must be "evict" or "deny"'),
    ({"on_full": LONG}, ValueError, 'on_full=.* must be "evict" or "deny"'),
    ({"on_full": numpy.array(["evict", "deny"])}, ValueError, "(?s)on_full=.* must be"),
    ({"name": 5}, TypeError, "name must be a str, not int"),
    ({"name": b"api"}, TypeError, "name must be a str, not bytes"),
    ({"secret": b"short"}, ValueError, "secret has 5 bytes; at least 16 are needed"),
    ({"secret": b""}, ValueError, "secret has 0 bytes; at least 16 are needed"),
    ({"secret": "0123456789abcdef"}, TypeError, "secret must be bytes, not str"),
    ({"secret": bytearray(16)}, TypeError, "secret must be bytes, not bytearray"),
    ({"algorithm": "leaky"}, ValueError, "algorithm='leaky' must be one of 'token-bucket'"),
    ({"algorithm": None}, ValueError, "algorithm=None must be one of"),
    ({"algorithm": ["token-bucket"]}, ValueError, r"algorithm=\['token-bucket'\] must be one of"),
    ({"tiers": 5}, TypeError, "tiers must map names to rates, not int"),
    ({"tiers": "pro"}, TypeError, "tiers must map names to rates, not str"),
    ({"tiers": {None: "5/minute"}}, TypeError, "tiers: a name must be a str, not NoneType"),
    ({"tiers": {"pro": None}}, TypeError, r"tiers\['pro'\] must be rate strings or limits .* not NoneType"),
    ({"tiers": {"pro": []}}, ValueError, "same algorithms in the same order"),
    ({"tiers": {"pro": Concurrency(5)}}, ValueError, "same algorithms in the same order"),
    ({"clock": 5}, TypeError, r"clock must be an object with now_ns\(\) and wall_ns\(\), not 5"),
    ({"clock": ManualClock}, TypeError, r"clock must be an object with now_ns\(\) and wall_ns\(\), not <class"),
    ({"clock": WithoutWall()}, TypeError, r"clock must be an object with now_ns\(\) and wall_ns\(\), not "),
    ({"clock": NotCallable()}, TypeError, r"clock must be an object with now_ns\(\) and wall_ns\(\), not "),
    ({"clock": clock_of(1.0)}, TypeError, r"clock.now_ns\(\) must return nanoseconds as an int, not 1.0"),
    ({"clock": clock_of(None)}, TypeError, r"clock.now_ns\(\) must return nanoseconds as an int, not None"),
    ({"clock": clock_of(True)}, TypeError, r"clock.now_ns\(\) must return nanoseconds as an int, not True"),
    ({"clock": clock_of(0, 1.0)}, TypeError, r"clock.wall_ns\(\) must return nanoseconds as an int, not 1.0"),
    ({"clock": clock_of(0, "0")}, TypeError, r"clock.wall_ns\(\) must return nanoseconds as an int, not '0'"),
    ({"colour": "red"}, TypeError, "colour"),
]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    WRONG_SETTINGS,
    ids=[f"{next(iter(row[0]))}-{number}" for number, row in enumerate(WRONG_SETTINGS)],
)
def test_a_limiter_is_not_made_of(
    limiter_class: Any, settings: dict[str, Any], error: type[BaseException], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        limiter_class("5/minute", **settings)
    assert len(str(caught.value)) < 500


def test_a_log_that_needs_more_than_there_is(limiter_class: Any) -> None:
    with pytest.raises(MemoryError, match=r"capacity=10000000 needs [0-9]+ bytes of tables"):
        limiter_class(SlidingLog(65_536, 3600), capacity=10_000_000)


def test_a_clock_that_fails_while_a_limiter_is_made_leaves_nothing_behind(limiter_class: Any) -> None:
    class Failing:
        def now_ns(self) -> int:
            raise OSError("no time")

        wall_ns = now_ns

    for _ in range(100):
        with pytest.raises(OSError, match="no time"):
            limiter_class("5/minute", clock=Failing())


@pytest.mark.parametrize("capacity", [1, 2, 63, 64, 65])
def test_small_capacities_are_kept(limiter_class: Any, clock: ManualClock, capacity: int) -> None:
    limiter = limiter_class("1/minute", capacity=capacity, clock=clock)
    assert limiter.capacity == capacity
    assert all(limiter.hit(number) for number in range(500))
    assert not limiter.hit(499)


# ---- clocks that go wrong later ----


class Turning(ManualClock):
    """A clock that answers with `answer` once that is set, or raises it."""

    answer: Any = None

    def now_ns(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return super().now_ns() if self.answer is None else self.answer


TIMED: dict[str, Callable[[Any], object]] = {
    "hit": lambda limiter: limiter.hit("held"),
    "check": lambda limiter: limiter.check("held"),
    "peek": lambda limiter: limiter.peek("held"),
    "refund": lambda limiter: limiter.refund("held"),
    "release": lambda limiter: limiter.release("held"),
    "force": lambda limiter: limiter.force("held"),
    "reset": lambda limiter: limiter.reset("held"),
    "hit_many": lambda limiter: limiter.hit_many(["held"]),
    "check_many": lambda limiter: limiter.check_many(["held"]),
    "acquire": lambda limiter: limiter.acquire("held"),
    "stats": lambda limiter: limiter.stats(),
    "top": lambda limiter: limiter.top(),
    "now_ns": lambda limiter: limiter.now_ns(),
    "replace": lambda limiter: limiter.replace("9/minute", Concurrency(9)),
}


@pytest.mark.parametrize("call", TIMED.values(), ids=TIMED)
@pytest.mark.parametrize(
    "answer", [1.5, float("nan"), "0", b"0", [0], 1j, OSError("no time"), KeyboardInterrupt()], ids=repr
)
def test_a_clock_that_goes_wrong(call: Callable[[Any], object], answer: Any) -> None:
    clock = Turning()
    limiter = Limiter("5/minute", Concurrency(5), clock=clock, capacity=64)
    error = type(answer) if isinstance(answer, BaseException) else TypeError
    with nothing_changes(limiter):
        clock.answer = answer
        with pytest.raises(error) as caught:
            call(limiter)
        clock.answer = None
    if error is TypeError:
        assert str(caught.value) == f"clock.now_ns() must return nanoseconds as an int, not {answer!r}"


@pytest.mark.parametrize("answer", [-1, -(2**63), -(2**64), -(10**100), 2**63, 2**64, 10**100])
def test_a_clock_far_off(limiter_class: Any, answer: int) -> None:
    clock = Turning(1000)
    limiter = limiter_class("5/minute", clock=clock)
    assert limiter.hit("a", 5)
    clock.answer = answer
    assert limiter.hit("a", 5) is (answer > 0)
    assert not limiter.hit("a")
    assert limiter.now_ns() == (2**57 if answer > 0 else 0)
    assert limiter.peek("a").retry_after == pytest.approx(12)


# ---- batches ----

BATCH_KEYS: list[tuple[str, Any, type[Exception], str]] = [
    ("a str", "abc", TypeError, "keys must be several keys, not one str"),
    ("bytes", b"abc", TypeError, "keys must be several keys, not one bytes"),
    ("None", None, TypeError, "NoneType"),
    ("an int", 5, TypeError, "int"),
    ("floats", numpy.array([1.0, 2.0]), TypeError, "key must be str, bytes, int or a tuple of these, not float"),
    ("complex", numpy.array([1j]), TypeError, "key must be str, bytes, int or a tuple of these, not complex"),
    ("dates", numpy.array(["2026-01-01"], dtype="M8[s]"), TypeError, "key must be .* not datetime"),
    ("objects", numpy.array(["a", None], dtype=object), TypeError, "key must be .* not NoneType"),
    ("2-D ints", numpy.zeros((2, 2), dtype=int), ValueError, "keys must have one dimension, not 2"),
    ("2-D text", numpy.full((2, 2), "a"), ValueError, "keys must have one dimension, not 2"),
    ("0-D int", numpy.array(5), ValueError, "keys must have one dimension, not 0"),
    ("0-D text", numpy.array("abc"), ValueError, "keys must have one dimension, not 0"),
    ("numpy scalars", [numpy.int64(1)], TypeError, "key must be .* not int64"),
    ("lists", [["a"]], TypeError, "key must be .* not list"),
    ("masked", numpy.ma.array([1, 2], mask=[False, True]), TypeError, "key must be .* not NoneType"),
]


@pytest.mark.parametrize(("what", "keys", "error", "words"), BATCH_KEYS, ids=[row[0] for row in BATCH_KEYS])
@pytest.mark.parametrize("method", ["hit_many", "check_many"])
def test_batches_of_no_keys(
    limiter: Any, method: str, what: str, keys: Any, error: type[Exception], words: str
) -> None:
    with nothing_changes(limiter), pytest.raises(error, match=words):
        getattr(limiter, method)(keys)


@pytest.mark.parametrize(
    "array", [numpy.array("abc", dtype=object), numpy.full((2, 2), "a", dtype=object)], ids=["0-D", "2-D"]
)
def test_arrays_of_objects_have_one_dimension(array: Any) -> None:
    limiter = Limiter("5/minute", clock=ManualClock())
    with nothing_changes(limiter), pytest.raises(ValueError, match=f"keys must have one dimension, not {array.ndim}"):
        limiter.hit_many(array)


def test_a_generator_that_fails_takes_nothing(limiter: Any) -> None:
    def failing() -> Iterator[str]:
        yield "held"
        raise OSError("no more")

    with nothing_changes(limiter), pytest.raises(OSError, match="no more"):
        limiter.hit_many(failing())


BATCH_COSTS: list[tuple[str, Any, type[Exception], str]] = [
    ("0", 0, ValueError, r"costs?=0 must be between 1 and 2\*\*53"),
    ("-1", -1, ValueError, "costs?=-1 must be between"),
    ("2**63", 2**63, ValueError, "costs?=9223372036854775808 must be between"),
    ("True", True, TypeError, "costs? must be an int, not bool"),
    ("1.0", 1.0, TypeError, "costs? must be an int, not float"),
    ("None", None, TypeError, "costs? must be an int, not NoneType"),
    ("a generator", (1 for _ in range(3)), TypeError, "costs? must be an int, not generator"),
    ("a str", "111", TypeError, "costs must be integers, not <U3"),
    ("too few", [1, 1], ValueError, r"costs must be one int or as many as there are keys \(3\), not of shape \(2,\)"),
    ("too many", [1] * 4, ValueError, r"costs must be one int or as many as there are keys \(3\), not of shape \(4,\)"),
    ("none", [], TypeError, "costs must be integers, not float64"),
    ("no ints", numpy.array([], dtype=int), ValueError, r"not of shape \(0,\)"),
    ("2-D", [[1, 1, 1]], ValueError, r"not of shape \(1, 3\)"),
    ("0-D", numpy.array(1), ValueError, r"not of shape \(\)"),
    ("ragged", [[1], [1, 2], 1], ValueError, "inhomogeneous"),
    ("a zero", [1, 0, 1], ValueError, r"costs has 0; each must be between 1 and 2\*\*53"),
    ("a negative", numpy.array([1, 1, -5], dtype="i1"), ValueError, "costs has -5; each must be between"),
    ("too large", [1, 1, 2**53 + 1], ValueError, "costs has 9007199254740993; each must be between"),
    (
        "unsigned and too large",
        numpy.array([1, 1, 2**64 - 1], dtype="u8"),
        ValueError,
        "costs has 18446744073709551615;",
    ),
    ("larger than 64 bits", [1, 1, 2**64], TypeError, "costs must be integers, not object"),
    ("floats", [1.0, 1.0, 1.0], TypeError, "costs must be integers, not float64"),
    ("nan", [1, 1, float("nan")], TypeError, "costs must be integers, not float64"),
    ("bools", [True, True, True], TypeError, "costs must be integers, not bool"),
    ("objects", [1, 1, None], TypeError, "costs must be integers, not object"),
]


@pytest.mark.parametrize(("what", "costs", "error", "words"), BATCH_COSTS, ids=[row[0] for row in BATCH_COSTS])
@pytest.mark.parametrize("method", ["hit_many", "check_many"])
def test_batches_of_wrong_costs(
    limiter: Any, method: str, what: str, costs: Any, error: type[Exception], words: str
) -> None:
    with nothing_changes(limiter), pytest.raises(error, match=words):
        getattr(limiter, method)(["held", "held", "other"], costs)


# ---- the object itself ----


def test_a_limiter_that_was_never_made() -> None:
    empty = Limiter.__new__(Limiter)
    calls: list[Callable[[], object]] = [
        lambda: empty.hit("a"),
        lambda: empty.check("a"),
        lambda: empty.peek("a", 1, "x"),
        lambda: empty.refund("a"),
        lambda: empty.release("a"),
        lambda: empty.force("a"),
        lambda: empty.reset("a"),
        empty.clear,
        lambda: empty.hit_many(["a"]),
        lambda: empty.hit_many(numpy.arange(3)),
        lambda: empty.check_many(["a"], tier="x"),
        lambda: empty.fingerprint("a"),
        empty.counters,
        empty.live,
        empty.stats,
        empty.top,
        empty.denied_keys,
        lambda: empty.spending(5),
        lambda: empty.bytes,
        lambda: empty.replace("5/minute"),
        lambda: empty.reserve("a", 1),
        lambda: empty.acquire("a"),
        lambda: asyncio.run(empty.acquire_async("a")),
        lambda: empty.hold("a"),
        lambda: empty.limit("a"),
        empty.close,
        lambda: repr(empty),
        lambda: pickle.dumps(empty),
        lambda: copy.copy(empty),
    ]
    for call in calls:
        with pytest.raises((RuntimeError, AttributeError, TypeError)) as caught:
            call()
        assert str(caught.value)
    with pytest.raises(RuntimeError, match="this limiter was never made: __init__ was not called"):
        empty.hit("a")


def test_a_limiter_that_could_not_be_made_can_be_made_then() -> None:
    limiter = Limiter.__new__(Limiter)
    with pytest.raises(RateSyntaxError):
        limiter.__init__("nonsense")  # type: ignore[misc]
    with pytest.raises(MemoryError):
        limiter.__init__("5/minute", capacity=2**45)  # type: ignore[misc]
    limiter.__init__("5/minute")  # type: ignore[misc]
    assert limiter.hit("a", 5)
    assert not limiter.hit("a")


def test_a_limiter_is_made_once(limiter: Any) -> None:
    with (
        nothing_changes(limiter),
        pytest.raises(RuntimeError, match="a limiter is made once: __init__ was called again"),
    ):
        limiter.__init__("9/second", capacity=5)


def test_what_an_engine_is_not_made_of() -> None:
    core = pytest.importorskip("penstock._core")
    from penstock.policy import compile_policies

    policies = compile_policies([[TokenBucket(5)]], 0)
    good: dict[str, Any] = {
        "capacity": 100,
        "evict": True,
        "secret": bytes(16),
        "clock": None,
        "remember": False,
    }
    assert core.Engine(policies, {None: 0}, **good).hit("a")
    for wrong in (
        {"capacity": 0},
        {"capacity": -5},
        {"capacity": 2**40},
        {"capacity": 2**62},
        {"secret": b"short"},
        {"secret": bytes(17)},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            core.Engine(policies, {None: 0}, **{**good, **wrong})
    shapes: list[Any] = [[], [[]], policies * 17, [policies[0] * 9], [policies[0], []]]
    for shape in shapes:
        with pytest.raises(ValueError, match="policies must be of"):
            core.Engine(shape, {None: 0}, **good)
    for kind in (None, "secret of 16 byt"):
        with pytest.raises(TypeError):
            core.Engine(policies, {None: 0}, **{**good, "secret": kind})
    with pytest.raises(AttributeError):
        core.Engine([[None]], {None: 0}, **good)


def test_what_adopt_does_not_take() -> None:
    core = pytest.importorskip("penstock._core")

    class Own(core.Engine):  # type: ignore[misc,name-defined]
        pass

    for name in ("capacity", "bytes", "__init__", "__doc__"):
        with pytest.raises(TypeError, match=f"names must be of methods of Engine, not '{name}'"):
            core.adopt(Own, name)
    with pytest.raises(AttributeError):
        core.adopt(Own, "nothing")
    for cls in (int, type):
        with pytest.raises(TypeError, match="cls must be a subclass of Engine"):
            core.adopt(cls, "hit")
    with pytest.raises(TypeError):
        core.adopt(5, "hit")


@pytest.mark.skipif(not penstock.native, reason="a method of Python's does not look at what it is called with")
def test_a_fast_method_of_another_object() -> None:
    with pytest.raises(TypeError):
        Limiter.hit(object(), "a")  # type: ignore[arg-type]


# ---- looking in ----


@pytest.mark.parametrize("n", [0, -1, 2**53 + 1, 2**70])
def test_so_many_of_the_top(limiter: Any, n: int) -> None:
    with pytest.raises(ValueError, match=r"^n=-?[0-9]+ must be between 1 and 2\*\*53$"):
        limiter.top(n)


@pytest.mark.parametrize("n", [True, 1.0, None, "5"])
def test_the_top_of_another_type(limiter: Any, n: Any) -> None:
    with pytest.raises(TypeError, match=f"^n must be an int, not {type(n).__name__}$"):
        limiter.top(n)


# ---- waiting ----


@pytest.mark.parametrize("timeout", [-1, -1e-9, float("nan"), float("inf"), 1e300, 10**13], ids=str)
@pytest.mark.parametrize(
    "how",
    [
        lambda limiter, timeout: limiter.acquire("a", timeout=timeout),
        lambda limiter, timeout: asyncio.run(limiter.acquire_async("a", timeout=timeout)),
        lambda limiter, timeout: limiter.hold("a", timeout=timeout),
    ],
    ids=["acquire", "acquire_async", "hold"],
)
def test_timeouts_out_of_range(limiter: Any, how: Callable[[Any, float], object], timeout: float) -> None:
    with (
        nothing_changes(limiter),
        pytest.raises(ValueError, match=r"^timeout=.* must be finite, not negative and at most"),
    ):
        how(limiter, timeout)


@pytest.mark.parametrize("timeout", [True, "1", 1j, [1]], ids=repr)
def test_timeouts_of_another_type(limiter: Any, timeout: Any) -> None:
    said = f"^timeout must be a number of seconds, not {type(timeout).__name__}$"
    with nothing_changes(limiter), pytest.raises(TypeError, match=said):
        limiter.acquire("a", timeout=timeout)


def test_the_longest_timeouts_are_waits(limiter_class: Any) -> None:
    limiter = limiter_class("500/second burst 1")
    assert limiter.hit("a")
    assert limiter.acquire("a", timeout=10**12)
    assert asyncio.run(limiter.acquire_async("a", timeout=10**12))
