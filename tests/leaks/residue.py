"""What a call leaves behind: references, objects, and memory, counted before and after many calls of it.

No one count sees every leak: a reference too many to an object that lives anyway allocates nothing; what C code keeps
is no Python object. So all of these are taken, in one process that does nothing else:

references  sys.getrefcount of everything that goes into the call, and of what answers are made of
blocks      sys.getallocatedblocks: objects of every kind, and what they hold
objects     what the garbage collector knows of
malloced    bytes in use of the C library's heap (glibc's mallinfo2; 0 elsewhere)
resident    bytes of the process in memory (Linux; 0 elsewhere); too coarse for a few calls, decisive for a million
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from array import array
from collections.abc import Callable, Sequence
from operator import sub
from pathlib import Path
from typing import NamedTuple

from penstock.decision import Decision

STATM = Path("/proc/self/statm")
PARTS_OF_ANSWERS: tuple[object, ...] = (True, False, None, 0, 1, 0.0, "", (), float, int, Decision)


class Residue(NamedTuple):
    """What is there at one moment, or how much more than at another. references: of the object with most new ones."""

    references: int
    blocks: int
    objects: int
    malloced: int
    resident: int


class _MallInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _mallinfo() -> Callable[[], _MallInfo] | None:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):  # not glibc, or one older than 2.33
        return None
    function.restype = _MallInfo
    return function  # type: ignore[no-any-return]


mallinfo = _mallinfo()


def malloced() -> int:
    """Bytes that malloc has given out and not got back, large ones too."""
    if mallinfo is None:
        return 0
    info = mallinfo()
    return int(info.uordblks) + int(info.hblkhd)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0


def growth(work: Callable[[int], object], calls: int, watched: Sequence[object] = (), rounds: int = 8) -> Residue:
    """How much more there is after work(calls) than before; of up to `rounds` such, the least of each.

    work does its call so often. What a call keeps once, a cache say, is there after some calls and not counted; what
    rises and falls, as the reference's heaps do, falls in some round: a leak is what grows in every one. watched:
    objects whose references are counted beside those of what answers are made of.
    """
    watched = (*watched, *PARTS_OF_ANSWERS)
    work(max(20, calls // 10))
    least: Residue | None = None
    for _ in range(rounds):
        gc.collect()
        references = array("q", map(sys.getrefcount, watched))  # as no objects, which would be references themselves
        before = sys.getallocatedblocks(), len(gc.get_objects()), malloced(), resident()
        work(calls)
        gc.collect()
        after = sys.getallocatedblocks(), len(gc.get_objects()), malloced(), resident()
        grown = Residue(max(map(sub, map(sys.getrefcount, watched), references)), *map(sub, after, before))
        least = grown if least is None else Residue(*map(min, least, grown))
        if flat(least, calls):
            break
    assert least is not None
    return least


def flat(grown: Residue, calls: int) -> bool:
    """True when nothing grew by more than one thing in a thousand calls, beside a handful that any program's have."""
    slack = 16 + calls // 1000
    return (
        max(grown.references, grown.blocks, grown.objects) <= slack
        and grown.malloced <= 64 * slack
        and grown.resident <= 2 * 2**20
    )
