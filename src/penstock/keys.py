"""Keys: what may be one, its canonical bytes, and its 64-bit fingerprint; ext/table/fingerprint.h in plain Python."""

from __future__ import annotations

from struct import unpack

Key = str | bytes | int | tuple[str | bytes | int, ...]

STR, BYTES, INT, TUPLE = b"s", b"b", b"i", b"t"

RESERVED = 2
"""Fingerprints below this mean no key to the native table; a hash that lands there is moved up by as many."""

_MASK = 2**64 - 1
_FINISH = (0, 0, 0)


def encode(key: object) -> tuple[bytes, bytes]:
    """The type byte and the payload of a key: equal for equal keys of one type, and for no two others.

    str      its UTF-8, lone surrogates included (surrogatepass)
    bytes    as they are
    int      two's complement, lowest byte first: 8 bytes where they are enough, else value.bit_length() // 8 + 1
    tuple    each item's payload, type byte and length in 8 bytes: read from its end it can be parsed in one way only

    A bool is the int it equals; instances of subclasses count as what they derive from. Raises TypeError for others.
    """
    if isinstance(key, tuple):
        return TUPLE, b"".join([_item(item) for item in tuple.__iter__(key)])
    encoded = _scalar(key)
    if encoded is None:
        raise TypeError(f"key must be str, bytes, int or a tuple of these, not {type(key).__name__}")
    return encoded


def fingerprint(secret: bytes, key: object) -> int:
    """The 64-bit fingerprint of a key under a secret of 16 bytes, never below RESERVED. TypeError as `encode`."""
    kind, payload = encode(key)
    found = siphash_1_3(secret, payload + kind)
    return found if found >= RESERVED else found + RESERVED


def _scalar(key: object) -> tuple[bytes, bytes] | None:
    if isinstance(key, str):
        return STR, str.encode(key, "utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return BYTES, key
    if isinstance(key, int):
        value = int.__index__(key)  # an int itself: a subclass may compare as it likes
        size = 8 if -(2**63) <= value < 2**63 else value.bit_length() // 8 + 1
        return INT, value.to_bytes(size, "little", signed=True)
    return None


def _item(item: object) -> bytes:
    encoded = _scalar(item)
    if encoded is None:
        raise TypeError(f"an item of a tuple key must be str, bytes or int, not {type(item).__name__}")
    kind, payload = encoded
    return payload + kind + len(payload).to_bytes(8, "little")


def siphash_1_3(secret: bytes, data: bytes) -> int:
    """SipHash with one round a block and three to finish (Aumasson and Bernstein, 2012); secret lowest byte first."""
    k0: int
    k1: int
    k0, k1 = unpack("<QQ", secret)
    v0 = k0 ^ 0x736F6D6570736575
    v1 = k1 ^ 0x646F72616E646F6D
    v2 = k0 ^ 0x6C7967656E657261
    v3 = k1 ^ 0x7465646279746573
    count = len(data)
    padded = data + bytes(7 - count % 8) + bytes((count & 255,))
    for blocks in unpack(f"<{len(padded) // 8}Q", padded), _FINISH:
        for block in blocks:
            v3 ^= block
            v0 = (v0 + v1) & _MASK
            v2 = (v2 + v3) & _MASK
            v1 = ((v1 << 13 | v1 >> 51) & _MASK) ^ v0
            v3 = ((v3 << 16 | v3 >> 48) & _MASK) ^ v2
            v0 = (v0 << 32 | v0 >> 32) & _MASK
            v2 = (v2 + v1) & _MASK
            v0 = (v0 + v3) & _MASK
            v1 = ((v1 << 17 | v1 >> 47) & _MASK) ^ v2
            v3 = ((v3 << 21 | v3 >> 43) & _MASK) ^ v0
            v2 = (v2 << 32 | v2 >> 32) & _MASK
            v0 ^= block
        v2 ^= 0xFF  # what the finish begins with; the one after it is taken back below
    return v0 ^ v1 ^ v2 ^ v3 ^ 0xFF
