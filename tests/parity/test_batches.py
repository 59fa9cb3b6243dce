"""Batches of every kind through native and reference: the same answers, the same errors, the same keys meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from engines import make_engine, manual_clock
from hypothesis import given
from hypothesis import strategies as st

from penstock.rate import TokenBucket

pytestmark = pytest.mark.usefixtures("both")


@pytest.fixture
def twins() -> tuple[Any, Any]:
    return make_twins()


def make_twins() -> tuple[Any, Any]:
    """Two engines on one clock that remember names."""
    clock = manual_clock()
    native, reference = (
        make_engine(
            backend, tiers={None: [TokenBucket(3, 60)], "pro": [TokenBucket(9, 60)]}, clock=clock, remember=True
        )
        for backend in ("native", "reference")
    )
    return native, reference


def outcomes(twins: tuple[Any, Any], name: str, *arguments: Any) -> list[Any]:
    """What each answers, or its error; then what each holds and remembers."""
    seen = []
    for engine in twins:
        try:
            answer = getattr(engine, name)(*arguments)
            outcome: Any = (answer.dtype, answer.shape, answer.tolist())
        except (TypeError, ValueError) as error:
            outcome = type(error), str(error)
        spending = engine.spending(1000)
        seen.append((outcome, spending, [engine.name_of(found) for found, _, _ in spending], engine.denied_keys()))
    return seen


def check(twins: tuple[Any, Any], *arguments: Any) -> Any:
    for name in ("hit_many", "check_many"):
        native, reference = outcomes(twins, name, *arguments)
        assert native == reference
    return native


COLUMNS: dict[str, Callable[[], Any]] = {
    "list": lambda: ["a", b"a", 1, ("a", 1), "a", True, 2**70],
    "tuple": lambda: ("a", "b", "a"),
    "dict": lambda: {"a": 1, "b": 2},
    "set of one": lambda: {"a"},
    "range": lambda: range(5),
    "empty": list,
    "empty array": lambda: numpy.array([], dtype="U3"),
    "no width": lambda: numpy.array(["", ""], dtype="U0"),
    "int64": lambda: numpy.array([1, -1, 2**63 - 1, -(2**63), 1]),
    "uint64": lambda: numpy.array([1, 2**63, 2**64 - 1, 1], dtype="u8"),
    "int8": lambda: numpy.array([-128, 127, 0], dtype="i1"),
    "uint8": lambda: numpy.array([255, 128, 0], dtype="u1"),
    "int16": lambda: numpy.array([-(2**15), 1], dtype="i2"),
    "uint16": lambda: numpy.array([2**16 - 1, 1], dtype="u2"),
    "int32": lambda: numpy.array([-(2**31), 1], dtype="i4"),
    "uint32": lambda: numpy.array([2**32 - 1, 1], dtype="u4"),
    "the other byte order": lambda: numpy.array([1, -2, 3], dtype="i8").astype(numpy.dtype("i8").newbyteorder()),
    "str of the other byte order": lambda: numpy.array(["ж", "b"]).astype(numpy.dtype("U2").newbyteorder()),
    "every other": lambda: numpy.arange(20)[::2],
    "backwards": lambda: numpy.array(["a", "bb", "ccc"])[::-1],
    "bytes": lambda: numpy.array([b"a", b"a\0b", b"", b"abc"]),
    "str": lambda: numpy.array(["a", "жук", "", "a\0b", "\U0001f600", "\ud800"]),
    "objects": lambda: numpy.array(["a", 1, b"a", None][:3], dtype=object),
    "bool": lambda: numpy.array([True, False, True]),
    "read only": lambda: numpy.frombuffer(b"\1\2\3\1", dtype="u1"),
    "float": lambda: numpy.array([1.0]),
    "two dimensions": lambda: numpy.zeros((2, 2), dtype="i8"),
    "no dimension": lambda: numpy.array(5),
    "a wrong one in it": lambda: ["a", None],
    "one str": lambda: "abc",
    "one bytes": lambda: b"abc",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_keys(twins: tuple[Any, Any], column: str) -> None:
    for _ in range(2):
        check(twins, COLUMNS[column]())
    check(twins, COLUMNS[column](), 2, "pro")


def test_generators(twins: tuple[Any, Any]) -> None:
    native, reference = (engine.hit_many(key for key in "abcaaa").tolist() for engine in twins)
    assert native == reference == [True] * 5 + [False]


@pytest.mark.parametrize(
    "costs",
    [
        *(1, 2, [1, 2, 3], (1, 2, 3), numpy.array([3, 1, 2]), numpy.array([1, 2, 3], dtype="u1"), numpy.int32(2)),
        *([1], [1, 2, 3, 4], [], 0, -1, 2**53 + 1, True, 1.5, None, "1", [1, 0, 2], [1, 2, 2**53 + 1], [1.0, 2.0, 3.0]),
        *([True, False, True], ["1", "2", "3"], numpy.ones((3, 1), "i8"), numpy.array([1, 2, 2**64 - 1], "u8")),
        *([1, 2, 2**70], numpy.uint64(2**63), numpy.float64(1), {1: 1, 2: 2, 3: 3}, numpy.bool_(True), numpy.array(3)),
    ],
    ids=repr,
)
def test_costs(twins: tuple[Any, Any], costs: Any) -> None:
    check(twins, ["a", "b", "a"], costs)
    check(twins, ["a", "b", "a"], costs, "pro")


@pytest.mark.parametrize("tier", ["gold", 1, ["pro"], ""])
def test_tiers(twins: tuple[Any, Any], tier: Any) -> None:
    check(twins, ["a"], 1, tier)


def test_nothing_is_decided_when_something_is_wrong(twins: tuple[Any, Any]) -> None:
    for arguments in [(["a", 1.5],), (["a", "b"], [1, 0]), (["a"], 1, "gold")]:
        assert check(twins, *arguments)[1] == []
    for engine in twins:
        assert engine.counters() == (0, 0, 0)


def test_arrow(twins: tuple[Any, Any]) -> None:
    arrow = pytest.importorskip("pyarrow")
    for column in [
        *(arrow.array(["a", "жук", "", "a"]), arrow.array([b"a", b"\0"]), arrow.array(["a", "b", "a"])[1:]),
        *(arrow.array([1, -1, 2**63 - 1]), arrow.array([2**64 - 1], arrow.uint64()), arrow.array([1, 2], arrow.int8())),
        *(arrow.array(["a"], arrow.large_string()), arrow.array([b"a"], arrow.large_binary())),
        *(arrow.array(["a", None, "b"]), arrow.array([None, 1]), arrow.array([], arrow.string())),
        *(arrow.chunked_array([["a", "b"], [], ["a"]]), arrow.chunked_array([[1], [2, None]])),
    ]:
        check(twins, column)


ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)


@given(st.lists(ANY_TEXT.filter(lambda text: text[-1:] != "\0")))
def test_columns_mean_the_keys_that_they_show(texts: list[str]) -> None:
    """A column of str, its list, and the reference's list: one meaning."""
    native, reference = make_twins()
    column = numpy.array(texts, dtype=f"U{max(map(len, texts), default=0) or 1}")
    answers = native.hit_many(column).tolist()
    assert answers == reference.hit_many(texts).tolist()
    assert native.spending(1000) == reference.spending(1000)
