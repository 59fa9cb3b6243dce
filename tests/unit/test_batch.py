"""Batches: whatever holds the keys, the answers are those of one call after another."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import Concurrency, Decision, Limiter, SlidingLog, SlidingWindow
from penstock.clock import ManualClock

SECRET = bytes(range(16))
TEXTS = ["a", "bb", "a", "", "ключ", "\ud800", "bb", "\U0001f600", "a", "日本語", "a b", "\udfff\ud800", "a"]
BYTES = [b"a", b"bb", b"a", b"", b"\xff\xfe", b"a\0b", b"bb", b"a"]


def limiters(limiter_class: Any, *limits: Any, **settings: Any) -> tuple[Any, Any]:
    """Two limiters that answer alike, on clocks of their own that agree."""
    limits = limits or ("2/minute",)
    one, other = (limiter_class(*limits, secret=SECRET, clock=ManualClock(5), **settings) for _ in range(2))
    return one, other


def same_as_hits(limiter_class: Any, keys: Any, rows: Iterable[Any], costs: Any = 1, *limits: Any) -> None:
    """hit_many and check_many over `keys` answer as hits of `rows` do."""
    rows = list(rows)
    each = [int(cost) for cost in costs] if hasattr(costs, "__len__") else [int(costs)] * len(rows)
    batch, single = limiters(limiter_class, *limits)
    answers = batch.hit_many(keys, costs)
    assert isinstance(answers, numpy.ndarray)
    assert answers.dtype == numpy.bool_
    assert answers.tolist() == [single.hit(row, cost) for row, cost in zip(rows, each, strict=True)]
    assert batch.stats()[:4] == single.stats()[:4]
    batch, single = limiters(limiter_class, *limits)
    table = batch.check_many(keys, costs)
    assert table.dtype.names == Decision._fields
    decisions = [Decision(*row) for row in table.tolist()]
    assert decisions == [single.check(row, cost) for row, cost in zip(rows, each, strict=True)]
    for row in rows:
        assert batch.peek(row) == single.peek(row)


# ---- Python's own ----


@pytest.mark.parametrize(
    "hold",
    [list, tuple, iter, lambda keys: (key for key in keys), lambda keys: dict(enumerate(keys)).values()],
    ids=["list", "tuple", "iterator", "generator", "view"],
)
def test_anything_that_can_be_iterated(limiter_class: Any, hold: Callable[[list[Any]], Any]) -> None:
    keys = ["a", b"a", 1, "a", ("a", 1), 1, "a", 2**80, ("a", 1), -5, "\ud800", b"a", "a", ("a", 1), True]
    batch, single = limiters(limiter_class)
    assert batch.hit_many(hold(keys)).tolist() == [single.hit(key) for key in keys]
    batch, single = limiters(limiter_class)
    rows = batch.check_many(hold(keys)).tolist()
    assert [Decision(*row) for row in rows] == [single.check(key) for key in keys]


@pytest.mark.skipif(not penstock.native, reason="the plain-Python engine answers with lists then")
def test_a_batch_without_numpy_says_what_to_install() -> None:
    program = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from penstock import Limiter
try:
    Limiter("2/minute").hit_many(["a"])
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert said.stdout == "hit_many and check_many need NumPy: pip install 'penstock[numpy]'\n"


def test_no_keys_no_answers(limiter_class: Any) -> None:
    limiter = limiter_class("2/minute")
    nothing: list[Any] = [
        [],
        (),
        iter(()),
        numpy.array([], dtype="u8"),
        numpy.array([], dtype="S3"),
        numpy.array([]),
        {},
    ]
    for empty in nothing:
        assert limiter.hit_many(empty).shape == (0,)
        table = limiter.check_many(empty, [] if hasattr(empty, "__len__") else 1)
        assert table.shape == (0,)
        assert table.dtype.names == Decision._fields
    assert limiter.stats()[:4] == (0, 0, 0, 0)


def test_a_list_that_lies_about_its_length_is_taken_as_it_is(limiter_class: Any) -> None:
    class Liar(list[Any]):
        def __len__(self) -> int:
            return 1

    assert limiter_class("2/minute").hit_many(Liar(range(5000))).tolist() == [True] * 5000


@pytest.mark.parametrize("count", [1, 31, 32, 33, 1000])
def test_lengths_around_the_block_that_is_fetched_ahead(limiter_class: Any, count: int) -> None:
    keys = [number % 7 for number in range(count)]
    same_as_hits(limiter_class, keys, keys)


@pytest.mark.parametrize(
    "limits", [("5/minute; 3/second",), (SlidingWindow(3, 60), Concurrency(2)), (SlidingLog(3, 60),)]
)
def test_every_algorithm_and_several_limits(limiter_class: Any, limits: tuple[Any, ...]) -> None:
    keys = ["a", "b", "a", "a", "c", "a", "b", "b", "a"]
    same_as_hits(limiter_class, keys, keys, 1, *limits)
    same_as_hits(limiter_class, keys, keys, [1, 2, 1, 3, 9, 1, 1, 1, 1], *limits)


@given(
    st.lists(
        st.tuples(
            st.text(max_size=3) | st.binary(max_size=3) | st.integers() | st.tuples(st.text(max_size=2), st.integers()),
            st.integers(1, 4) | st.just(2**53),
        ),
        max_size=60,
    )
)
def test_any_keys_and_costs(rows: list[tuple[Any, int]]) -> None:
    keys, costs = [key for key, _ in rows], [cost for _, cost in rows]
    same_as_hits(Limiter, keys, keys, costs, "5/minute")
    same_as_hits(Limiter, keys, keys, numpy.array(costs, dtype="i8"), "5/minute")


def test_tiers(limiter_class: Any) -> None:
    batch, single = limiters(limiter_class, "1/minute", tiers={"pro": "3/minute"})
    assert batch.hit_many(["a"] * 5, tier="pro").tolist() == [single.hit("a", 1, "pro") for _ in range(5)]
    assert batch.check_many(["a"], tier=None).tolist() == [tuple(single.check("a"))]


def test_names_are_remembered_of_keys_that_are_objects(limiter_class: Any) -> None:
    limiter = limiter_class("1/minute", remember_names=True)
    limiter.hit_many(["a", ("b", 1)])
    limiter.hit_many(numpy.array(["c"], dtype=object))
    assert {one.name for one in limiter.top()} == {"a", ("b", 1), "c"}


# ---- NumPy ----


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_integers_of_every_width_sign_and_byte_order(limiter_class: Any, kind: str, order: str) -> None:
    info = numpy.iinfo(kind)
    values = [info.min, info.max, 0, 1, info.max, info.max // 2, info.max, info.min, 1]
    keys = numpy.array(values, dtype=order + kind)
    same_as_hits(limiter_class, keys, values)
    same_as_hits(limiter_class, keys[::2], values[::2])
    same_as_hits(limiter_class, keys[::-1], values[::-1])
    wide = numpy.zeros((9, 3), dtype=order + kind)
    wide[:, 1] = values
    same_as_hits(limiter_class, wide[:, 1], values)
    same_as_hits(limiter_class, numpy.lib.stride_tricks.as_strided(keys[:1], (4,), (0,)), [info.min] * 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("width", [5, 40])
def test_fixed_width_text(limiter_class: Any, order: str, width: int) -> None:
    keys = numpy.array(TEXTS, dtype=f"{order}U{width}")
    assert keys.tolist() == TEXTS
    same_as_hits(limiter_class, keys, TEXTS)
    same_as_hits(limiter_class, keys[1::3], TEXTS[1::3])
    same_as_hits(limiter_class, keys[::-1], TEXTS[::-1])
    same_as_hits(limiter_class, numpy.array(["x\0y", "x", "\0x", "x\0\0"]), ["x\0y", "x", "\0x", "x"])


@pytest.mark.parametrize("width", [3, 40])
def test_fixed_width_bytes(limiter_class: Any, width: int) -> None:
    keys = numpy.array(BYTES, dtype=f"S{width}")
    assert keys.tolist() == BYTES
    same_as_hits(limiter_class, keys, BYTES)
    same_as_hits(limiter_class, keys[::-2], BYTES[::-2])


def test_width_zero(limiter_class: Any) -> None:
    for kind, empty in (("S", b""), ("U", "")):
        keys = numpy.array([empty] * 3, dtype=f"{kind}1")
        narrow = numpy.lib.stride_tricks.as_strided(keys.view(f"{kind}1"), (3,), (0,))
        same_as_hits(limiter_class, narrow, [empty] * 3)
        same_as_hits(limiter_class, numpy.zeros(3, dtype=f"{kind}0"), [empty] * 3)


def test_objects_and_what_else_becomes_python_objects(limiter_class: Any) -> None:
    keys = ["a", b"a", 1, ("a", 1), "a", ("a", 1), 1, "a"]
    array = numpy.empty(len(keys), dtype=object)
    array[:] = keys
    same_as_hits(limiter_class, array, keys)
    same_as_hits(limiter_class, numpy.array([True, False, True, True]), [True, False, True, True])
    same_as_hits(limiter_class, numpy.array(TEXTS[:5], dtype=numpy.dtypes.StringDType()), TEXTS[:5])


def test_a_subclass_of_array_counts_as_an_array(limiter_class: Any) -> None:
    class Odd(numpy.ndarray[Any, Any]):
        def __len__(self) -> int:
            return 1

    keys = numpy.arange(100).view(Odd)
    assert limiter_class("1/minute").hit_many(keys).tolist() == [True] * 100


def test_read_only_arrays(limiter_class: Any) -> None:
    keys, costs = numpy.arange(5), numpy.ones(5, dtype="i8")
    keys.setflags(write=False)
    costs.setflags(write=False)
    same_as_hits(limiter_class, keys, range(5), costs)


@pytest.mark.parametrize("kind", ["i1", "i4", ">i8", "u1", "u2", ">u4", "u8"])
def test_costs_of_every_integer_type(limiter_class: Any, kind: str) -> None:
    keys = ["a", "b", "a", "a"]
    costs = numpy.array([1, 5, 2, 9], dtype=kind)
    same_as_hits(limiter_class, keys, keys, costs, "5/minute")
    same_as_hits(limiter_class, keys, keys, numpy.repeat(costs, 2)[::2], "5/minute")
    same_as_hits(limiter_class, keys, keys, costs[1], "5/minute")


def test_costs_as_a_list_a_tuple_or_one_number(limiter_class: Any) -> None:
    keys = ["a", "b", "a", "a"]
    for costs in ([1, 5, 2, 9], (1, 5, 2, 9), 2, 2**53, [2**53] * 4):
        same_as_hits(limiter_class, keys, keys, costs, "5/minute")


def test_a_table_of_decisions_can_be_used_by_column(limiter_class: Any) -> None:
    table = limiter_class("1/minute", clock=ManualClock()).check_many(["a", "a", "b"])
    assert table["allowed"].tolist() == [True, False, True]
    assert table["allowed"].dtype == numpy.bool_
    assert table["retry_after"].tolist() == [0.0, 60.0, 0.0]
    assert table["limit"].dtype == table["remaining"].dtype == table["limit_index"].dtype == numpy.int64
    assert table.itemsize == 48
    assert table["retry_after"][table["allowed"]].sum() == 0


def test_a_cost_above_the_limit_waits_for_ever(limiter_class: Any) -> None:
    table = limiter_class("3/minute").check_many(["a", "a"], [4, 3])
    assert table["retry_after"].tolist() == [float("inf"), 0.0]
    assert table["allowed"].tolist() == [False, True]


# ---- Arrow ----


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow")


PLAIN_TEXTS = [text for text in TEXTS if text.isprintable()]


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_arrow_text(limiter_class: Any, arrow: Any, kind: str) -> None:
    keys = arrow.array(PLAIN_TEXTS, type=getattr(arrow, kind)())
    same_as_hits(limiter_class, keys, PLAIN_TEXTS)
    same_as_hits(limiter_class, keys[2:], PLAIN_TEXTS[2:])
    same_as_hits(limiter_class, keys[1:4], PLAIN_TEXTS[1:4])
    same_as_hits(limiter_class, keys[3:3], [])
    same_as_hits(limiter_class, keys[1:][1:], PLAIN_TEXTS[2:], [1] * len(PLAIN_TEXTS[2:]))


@pytest.mark.parametrize("kind", ["binary", "large_binary"])
def test_arrow_bytes(limiter_class: Any, arrow: Any, kind: str) -> None:
    keys = arrow.array(BYTES, type=getattr(arrow, kind)())
    same_as_hits(limiter_class, keys, BYTES)
    same_as_hits(limiter_class, keys[3:], BYTES[3:])


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_arrow_integers(limiter_class: Any, arrow: Any, kind: str) -> None:
    info = numpy.iinfo(kind)
    values = [int(info.min), int(info.max), 0, 1, int(info.max), int(info.max), 1]
    keys = arrow.array(values, type=getattr(arrow, kind)())
    same_as_hits(limiter_class, keys, values)
    same_as_hits(limiter_class, keys[2:6], values[2:6])
    same_as_hits(limiter_class, keys[:0], [])


@pytest.mark.parametrize("kind", ["string_view", "binary_view"])
def test_arrow_views(limiter_class: Any, arrow: Any, kind: str) -> None:
    values: list[Any] = ["a", "x" * 12, "x" * 13, "", "a", "ключ" * 20, "x" * 13]
    if kind == "binary_view":
        values = [value.encode() for value in values]
    keys = arrow.array(values, type=getattr(arrow, kind)())
    same_as_hits(limiter_class, keys, values)
    same_as_hits(limiter_class, keys[2:6], values[2:6])


def test_arrow_chunks(limiter_class: Any, arrow: Any) -> None:
    values = ["a", "bb", "a", "c", "bb", "a", "ключ"]
    for cuts in ([7], [3, 4], [0, 1, 0, 6], [1] * 7):
        chunks, at = [], 0
        for size in cuts:
            chunks.append(values[at : at + size])
            at += size
        keys = arrow.chunked_array(chunks, type=arrow.string())
        same_as_hits(limiter_class, keys, values)
        same_as_hits(limiter_class, keys[2:6], values[2:6])
    assert limiter_class("1/minute").hit_many(arrow.chunked_array([], type=arrow.int8())).tolist() == []


def test_arrow_nulls_in_a_later_chunk(arrow: Any) -> None:
    limiter = Limiter("1/minute")
    with pytest.raises(ValueError, match="keys must not be null: row 4 is"):
        limiter.hit_many(arrow.chunked_array([["a", "b", "c"], ["d", None]]))
    assert limiter.stats()[:4] == (0, 0, 0, 0)


def test_arrow_empty(limiter_class: Any, arrow: Any) -> None:
    for kind in (arrow.string(), arrow.large_binary(), arrow.int32()):
        assert limiter_class("1/minute").hit_many(arrow.array([], type=kind)).tolist() == []


@pytest.mark.parametrize("values", [["a", None, "b"], [None], [1, None], [b"x", None]])
def test_arrow_nulls(limiter_class: Any, arrow: Any, values: list[Any]) -> None:
    kind = arrow.string() if values == [None] else None
    limiter = limiter_class("1/minute")
    row = values.index(None)
    with pytest.raises(ValueError, match=f"keys must not be null: row {row} is"):
        limiter.hit_many(arrow.array(values, type=kind))
    assert limiter.stats()[:4] == (0, 0, 0, 0)


def test_arrow_nulls_outside_of_the_slice_do_not_count(limiter_class: Any, arrow: Any) -> None:
    keys = arrow.array([None, *["a", "b"] * 10, None])
    same_as_hits(limiter_class, keys[1:-1], ["a", "b"] * 10)
    with pytest.raises(ValueError, match="row 20 is"):
        limiter_class("1/minute").hit_many(keys[1:])


@pytest.mark.skipif(not penstock.native, reason="the reference takes whatever becomes a list of keys")
def test_arrow_of_other_types(arrow: Any) -> None:
    limiter = Limiter("1/minute")
    others = {
        "a dictionary": arrow.array(["a", "b"]).dictionary_encode(),
        "of format 'g'": arrow.array([1.0]),
        "of format 'b'": arrow.array([True]),
        "of format 'n'": arrow.array([None]),
        "of format 'tdD'": arrow.array([1], type=arrow.date32()),
        "of format '+l'": arrow.array([["a"]]),
        "of format '+s'": arrow.array([{"a": 1}]),
        "of format 'w:2'": arrow.array([b"ab"], type=arrow.binary(2)),
    }
    for what, keys in others.items():
        said = f"keys must be an Arrow array of integers, utf8 or binary, not {what}"
        with pytest.raises(TypeError, match=re.escape(said)):
            limiter.hit_many(keys)
    with pytest.raises(TypeError, match=r"keys must be an Arrow array.*'\+s'"):
        limiter.hit_many(arrow.record_batch({"a": ["x"]}))
    for keys in (arrow.chunked_array([[1.0], [2.0]]), arrow.table({"a": ["x"]})):
        with pytest.raises(TypeError, match="keys must be an Arrow array"):
            limiter.hit_many(keys)
    for scalars in (list(arrow.array(["a"])), iter(arrow.array([1]))):
        with pytest.raises(TypeError, match=r"key must be str, bytes, int or a tuple of these, not \w+Scalar"):
            limiter.hit_many(scalars)
    assert limiter.stats()[:4] == (0, 0, 0, 0)


def test_arrow_by_its_capsules_alone(limiter_class: Any, arrow: Any) -> None:
    class Producer:
        def __init__(self, values: list[str]) -> None:
            self.array = arrow.array(values)

        def __arrow_c_array__(self, requested_schema: object = None) -> Any:
            return self.array.__arrow_c_array__(requested_schema)

        def to_pylist(self) -> list[str]:
            values: list[str] = self.array.to_pylist()
            return values

    same_as_hits(limiter_class, Producer(["a", "b", "a", "a"]), ["a", "b", "a", "a"])


# ---- NumPy itself ----


def test_numpy_is_imported_by_the_first_batch_only() -> None:
    code = (
        "import sys, penstock; limiter = penstock.Limiter('5/minute'); limiter.hit('a'); limiter.check('a');"
        "limiter.stats(); limiter.top(); assert 'numpy' not in sys.modules; limiter.hit_many(['a']);"
        "assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_rows_of_a_new_key_are_judged_at_its_own_time(limiter_class: Any) -> None:
    """A batch has one time, and a key that is claimed moves on to a later one; by the system's clock, which goes on."""
    limiter = limiter_class("2/hour")
    answers = [limiter.hit_many([key] * 3).tolist() for key in range(200)]
    assert answers == [[True, True, False]] * 200
    assert limiter.check_many(["a", "b"] * 3)["allowed"].tolist() == [True] * 4 + [False] * 2
