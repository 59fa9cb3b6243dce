"""Keys: what may be one, that no two share an encoding, and that their fingerprint is SipHash-1-3."""

from __future__ import annotations

import enum
from collections import namedtuple
from typing import Any

import pytest
from engines import SECRET
from hypothesis import given
from hypothesis import strategies as st

from penstock.keys import RESERVED, encode, fingerprint, siphash_1_3

MASK = 2**64 - 1


def plain_siphash(secret: bytes, data: bytes, rounds: int, finish: int) -> int:
    """SipHash-c-d as its paper has it, word by word; for the test alone."""

    def rotate(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & MASK

    def mix(v: list[int]) -> None:
        v[0], v[2] = (v[0] + v[1]) & MASK, (v[2] + v[3]) & MASK
        v[1], v[3] = rotate(v[1], 13) ^ v[0], rotate(v[3], 16) ^ v[2]
        v[0] = rotate(v[0], 32)
        v[2], v[0] = (v[2] + v[1]) & MASK, (v[0] + v[3]) & MASK
        v[1], v[3] = rotate(v[1], 17) ^ v[2], rotate(v[3], 21) ^ v[0]
        v[2] = rotate(v[2], 32)

    k0, k1 = (int.from_bytes(secret[i : i + 8], "little") for i in (0, 8))
    letters = b"somepseudorandomlygeneratedbytes"
    v = [int.from_bytes(letters[i : i + 8], "big") ^ (k1 if i % 16 else k0) for i in (0, 8, 16, 24)]
    whole = len(data) // 8 * 8
    words = [data[i : i + 8] for i in range(0, whole, 8)]
    words.append(data[whole:].ljust(7, b"\0") + bytes([len(data) % 256]))
    for word in words:
        v[3] ^= int.from_bytes(word, "little")
        for _ in range(rounds):
            mix(v)
        v[0] ^= int.from_bytes(word, "little")
    v[2] ^= 0xFF
    for _ in range(finish):
        mix(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_plain_siphash_is_siphash() -> None:
    """The vector worked out in the paper (appendix A): SipHash-2-4 of the bytes 0..14 under the key 0..15."""
    assert plain_siphash(bytes(range(16)), bytes(range(15)), 2, 4) == 0xA129CA6149BE45E5
    assert plain_siphash(bytes(range(16)), b"", 2, 4) == 0x726FDB47DD0E0E31


def test_every_length_up_to_several_blocks() -> None:
    for length in range(70):
        data = bytes(range(length))
        assert siphash_1_3(SECRET, data) == plain_siphash(SECRET, data, 1, 3)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=600))
def test_siphash(secret: bytes, data: bytes) -> None:
    assert siphash_1_3(secret, data) == plain_siphash(secret, data, 1, 3)


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
edges = [sign * 2**bits + d for sign in (1, -1) for bits in (0, 7, 8, 63, 64, 71, 72, 79, 80) for d in (-1, 0, 1)]
numbers = st.integers() | st.integers(-(2**130), 2**130) | st.sampled_from(edges)
scalars = texts | st.binary(max_size=12) | numbers
keys = scalars | st.lists(scalars, max_size=4).map(tuple)


def typed(key: Any) -> Any:
    """The key with its types told apart, as Python's `==` does not: 1 and True are one key, 1 and b"1" are not."""
    if isinstance(key, tuple):
        return ("tuple", *map(typed, key))
    return ("int" if isinstance(key, int) else type(key).__name__), key


@given(keys, keys)
def test_different_keys_are_encoded_differently(a: Any, b: Any) -> None:
    kind, payload = encode(a)
    assert (encode(b) == (kind, payload)) == (typed(a) == typed(b))
    other_kind, other_payload = encode(b)
    assert (payload + kind == other_payload + other_kind) == (typed(a) == typed(b)), "what is hashed"


@given(keys)
def test_an_encoding_can_be_read_back(key: Any) -> None:
    assert typed(decode(*encode(key))) == typed(key)


def decode(kind: bytes, payload: bytes) -> Any:
    if kind == b"s":
        return payload.decode("utf-8", "surrogatepass")
    if kind == b"b":
        return payload
    if kind == b"i":
        return int.from_bytes(payload, "little", signed=True)
    assert kind == b"t"
    items = []
    while payload:  # from the end
        length = int.from_bytes(payload[-8:], "little")
        begin = len(payload) - 9 - length
        items.append(decode(payload[-9:-8], payload[begin : begin + length]))
        payload = payload[:begin]
    return tuple(reversed(items))


def test_neighbours_are_different_keys() -> None:
    near: list[Any] = ["", b"", (), "1", b"1", 1, ("1",), (b"1",), (1,), -1, 2**63, -(2**63), -(2**63) - 1, 2**64]
    near += [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), ("a", b"bc"), "a\0", "a", ("a", ""), ("", "a")]
    near += ["\ud800", "\ud800\udc00", "\U00010000", 1 << 71, -(1 << 71), (1 << 71) - 1, (1 << 71,)]
    near += [256, b"\x00\x01", b"\x00\x01\x00\x00\x00\x00\x00\x00", (256,), (-(2**63),)]
    prints = {fingerprint(SECRET, key) for key in near}
    assert len(prints) == len(near)
    assert len({fingerprint(bytes(16), key) for key in near} | prints) == 2 * len(near), "under another secret"


@pytest.mark.parametrize(
    ("number", "size"),
    [
        *((0, 8), (-1, 8), (2**63 - 1, 8), (-(2**63), 8), (2**63, 9), (-(2**63) - 1, 9)),
        *((2**71 - 1, 9), (2**71, 10), (-(2**71), 10), (2**799, 101)),
    ],
    ids=str,
)
def test_size_of_an_int(number: int, size: int) -> None:
    kind, payload = encode(number)
    assert (kind, len(payload)) == (b"i", size)
    assert payload == number.to_bytes(size, "little", signed=True)


class Colour(enum.IntEnum):
    RED = 3


class Name(str):
    __slots__ = ()

    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        raise AssertionError("a key's own methods are not asked")


def test_subclasses_count_as_what_they_derive_from() -> None:
    pair = namedtuple("pair", "user path")
    for key, plain in [
        (True, 1),
        (False, 0),
        (Colour.RED, 3),
        (Name("ada"), "ada"),
        (type("Raw", (bytes,), {})(b"x"), b"x"),
        (pair("ada", 7), ("ada", 7)),
        (("a", True), ("a", 1)),
    ]:
        assert fingerprint(SECRET, key) == fingerprint(SECRET, plain)


@pytest.mark.parametrize("key", [None, 1.5, ["a"], {"a"}, bytearray(b"a"), memoryview(b"a"), object(), 1j], ids=repr)
def test_what_is_no_key(key: object) -> None:
    kind = type(key).__name__
    with pytest.raises(TypeError, match=rf"^key must be str, bytes, int or a tuple of these, not {kind}$"):
        fingerprint(SECRET, key)
    with pytest.raises(TypeError, match=rf"^an item of a tuple key must be str, bytes or int, not {kind}$"):
        fingerprint(SECRET, ("a", key))


def test_tuples_are_one_level_deep() -> None:
    with pytest.raises(TypeError, match=r"^an item of a tuple key must be str, bytes or int, not tuple$"):
        encode(("a", ("b",)))


def test_reserved_values_are_moved_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, expected in [(0, 2), (1, 3), (2, 2), (3, 3), (MASK, MASK)]:
        monkeypatch.setattr("penstock.keys.siphash_1_3", lambda *_, found=found: found)
        assert fingerprint(SECRET, "a") == expected >= RESERVED


@pytest.mark.parametrize("key", ["a", "a\ud800", b"\0", -(2**63), ("a", -(2**63)), (2**63, b""), (), True], ids=repr)
def test_every_engine_has_the_same_fingerprints(engine: Any, key: Any) -> None:
    assert engine("1/second").fingerprint(key) == fingerprint(SECRET, key)
