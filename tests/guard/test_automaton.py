"""The literal automaton against plain search: every literal in any text, anchors, case, and its bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("penstock._match", reason="the guard needs the compiled modules")

from penstock._match import Automaton

ANY = st.binary(max_size=60)
WORDS = st.binary(min_size=1, max_size=6) | st.text("abAB", min_size=1, max_size=5).map(str.encode)
LITERALS = st.lists(st.tuples(WORDS, st.booleans(), st.booleans()), max_size=40)


def folded(text: bytes) -> bytes:
    """A to Z as a to z, and nothing else."""
    return bytes(byte | 0x20 if 65 <= byte <= 90 else byte for byte in text)


def by_search(literals: tuple[tuple[bytes, bool, bool], ...], text: bytes, fold: bool) -> set[int]:
    found = set()
    text = folded(text) if fold else text
    for number, (literal, begins, ends) in enumerate(literals):
        one = folded(literal) if fold else literal
        if begins and ends:
            there = text == one
        elif begins or ends:
            there = text.startswith(one) if begins else text.endswith(one)
        else:
            there = one in text
        if there:
            found.add(number)
    return found


@given(LITERALS, st.lists(ANY | st.text("abABc", max_size=30).map(str.encode), max_size=6), st.booleans())
def test_every_literal_is_found_and_no_other(
    literals: list[tuple[bytes, bool, bool]], texts: list[bytes], fold: bool
) -> None:
    made = Automaton(tuple(literals), fold=fold)
    assert len(made) == len(literals)
    for text in [*texts, b"".join(texts), b"".join(literal for literal, *_ in literals)]:
        found = made.find(text)
        assert len(found) == len(set(found))
        expected = by_search(tuple(literals), text, fold)
        assert set(found) == expected or (len(found) == 256 and set(found) <= expected)


def test_many_literals_that_share_beginnings_and_endings() -> None:
    draw = random.Random(3)
    words = sorted({"".join(draw.choice("abcde") for _ in range(draw.randint(1, 9))) for _ in range(4_000)})
    literals = tuple((word.encode(), draw.random() < 0.1, draw.random() < 0.1) for word in words)
    made = Automaton(literals)
    for _ in range(300):
        text = "".join(draw.choice("abcdefgh") for _ in range(draw.randint(0, 40))).encode()
        assert set(made.find(text)) == by_search(literals, text, False)


def test_the_order_is_that_of_their_ends_and_the_number_is_bounded() -> None:
    made = Automaton(((b"she", False, False), (b"he", False, False), (b"hers", False, False), (b"x", False, False)))
    assert made.find("ushers x") == (0, 1, 2, 3)
    numbers = Automaton(tuple((b"%03d" % i, False, False) for i in range(400)))
    assert len(numbers.find("".join(f"{i:03}" for i in range(400)))) == 256


@pytest.mark.parametrize("text", ["\ud800bot", "é" * 50_000 + "bot", "bot\0bot", "b" * 131_072 + "ot"])
def test_any_text(text: str) -> None:
    made = Automaton(((b"bot", False, False), ("é".encode(), False, False), (b"\0", False, False)))
    encoded = text.encode("utf-8", "surrogatepass")
    there = [one in encoded for one in (b"bot", "é".encode(), b"\0")]
    assert set(made.find(text)) == {number for number in range(3) if there[number]}
    assert made.find(text) == made.find(encoded)


def test_a_text_made_to_go_back_often() -> None:
    """Each of its characters leads to the deepest place, and the last one of each run all the way back."""
    made = Automaton(tuple((b"a" * count + b"b", False, False) for count in range(1, 250)))
    assert set(made.find("a" * 131_000 + "c" + "a" * 3 + "b")) == {0, 1, 2}


@pytest.mark.parametrize(
    ("literals", "told"),
    [
        (((b"", False, False),), "1 to 255"),
        (((b"x" * 256, False, False),), "1 to 255"),
        (tuple((b"x", False, False) for _ in range(32_769)), "32768"),
        (((bytes(range(128)), False, False), (bytes(range(128, 254)), False, False)), "253 different"),
        (tuple((bytes([i % 200]) * 250, False, False) for i in range(5_000)), "1048576"),
    ],
    ids=["empty", "long", "many", "bytes", "total"],
)
def test_what_is_refused(literals: tuple[tuple[bytes, bool, bool], ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Automaton(literals)


def test_wrong_types() -> None:
    with pytest.raises(TypeError):
        Automaton((("text", False, False),))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="text="):
        Automaton(()).find(5)  # type: ignore[arg-type]
    assert Automaton(()).find("anything") == ()
