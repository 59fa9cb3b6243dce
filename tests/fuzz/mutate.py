"""Random inputs for the targets where there is no fuzzer that sees the coverage: known ones, turned about."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def corpus(target: str) -> list[bytes]:
    """The inputs that are kept for a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def mutations(known: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without end: one of the known with some bytes changed, cut, doubled or taken from another."""
    draw = random.Random(seed)
    known = known or [b""]
    while True:
        data = bytearray(draw.choice(known))
        for _ in range(draw.choice((1, 1, 2, 4, 8))):
            at, other = draw.randint(0, len(data)), draw.choice(known)
            match draw.randint(0, 6):
                case 0:
                    data[at : at + 1] = bytes([draw.randrange(256)])
                case 1:
                    data[at:at] = draw.randbytes(draw.randint(1, 6))
                case 2:
                    del data[at : at + draw.choice((1, 1, 2, 8))]
                case 3:
                    data[at:at] = data[at : at + draw.randint(1, 16)]
                case 4 if other:
                    begin = draw.randrange(len(other))
                    data[at:at] = other[begin : begin + draw.randint(1, 24)]
                case 5 if data:
                    data[at % len(data)] ^= 1 << draw.randrange(8)
                case _:
                    data[at:at] = draw.choice((b"0", b"\n", b'"', b"\0", b"\xff\xff", b"9" * 20))
        yield bytes(data[:4_000])
