"""Calls the entry points of one backend over and over and says which of them leave anything behind; exit status 1 then.

    python leak.py native|reference [calls] [part of a name]

calls: for each variant (default 120). With 10,000 or more, the variants of an entry point take turns, so many calls in
all, or as many as 40 seconds allow: a million of everything is `leak.py native 1000000`. A plant ("reference",
"object", "block", "malloc") as the part of a name calls something that leaks just that.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent)]
from entry_points import CASES, Variant, loop  # noqa: E402
from lives import LIVES  # noqa: E402
from residue import flat, growth  # noqa: E402

TOGETHER = 10_000
AGAIN = 8
"""Where anything grew, so many times the calls decide: a leak grows with them, what an interpreter keeps of the first
thousand (CPython 3.14's event loops do) does not."""
PATIENCE = 40
"""Seconds after which a long run of one entry point is cut short: some calls read whole tables, or start threads."""


class Slotted:
    """An object that the garbage collector does not know of."""

    __slots__ = ()


_kept: list[object] = []
_incref = ctypes.pythonapi.Py_IncRef
_incref.argtypes, _incref.restype = (ctypes.py_object,), None
_watched = object()
PLANTS: dict[str, Callable[[], object]] = {
    "reference": lambda: _incref(_watched),
    "object": lambda: _kept.append([]),
    "block": lambda: _kept.append(Slotted()),
    "malloc": lambda: ctypes.CDLL(None).malloc(100),
}
"""Each leaks in its own way, every call."""


def jobs(backend: str, calls: int, wanted: str) -> Iterator[tuple[str, Callable[[int], object], Sequence[object]]]:
    """(name, what does so many calls, objects to watch)."""
    if wanted in PLANTS:
        yield wanted, Variant(wanted, PLANTS[wanted]).repeat, (_watched,)
        return
    seen = set()
    for entry, make in {**CASES, **LIVES}.items():
        if make in seen or wanted not in entry:
            continue  # several names may be one story
        seen.add(make)
        variants = list(make(backend))
        if calls >= TOGETHER:

            def turns(count: int, variants: Sequence[Variant] = variants) -> None:
                end = time.monotonic() + PATIENCE
                for number in range(100):
                    for each in variants:
                        each.repeat(max(1, count // (100 * len(variants))))
                    if time.monotonic() > end:
                        print(f"({number + 1} % of the calls in {PATIENCE} s)", end=" ")
                        break

            yield entry, turns, [thing for each in variants for thing in each.watched]
        else:
            for each in variants:
                yield f"{entry}: {each.name}", each.repeat, each.watched


def main(backend: str, calls: int = 120, wanted: str = "") -> int:
    warnings.simplefilter("error")
    started, count, found = time.monotonic(), 0, []
    for name, work, watched in jobs(backend, calls, wanted):
        count += 1
        gc.collect()
        gc.freeze()  # what is there already need not be gone through each time
        begun = time.monotonic()
        print(f"{name} ...", end=" ", flush=True)  # so that a crash has a name
        try:
            made, grown = calls, growth(work, calls, watched)
            if not flat(grown, made) and calls < TOGETHER:
                made = AGAIN * calls
                grown = growth(work, made, watched)
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
            print("failed")
            continue
        if not flat(grown, made):
            found.append(f"{name}: grown by {grown} in {made} calls")
        print(f"{time.monotonic() - begun:.2f} s, grown by {tuple(grown)}")
    gc.unfreeze()
    loop.close()
    print(f"{count} stories on {backend}, {calls} calls each, {time.monotonic() - started:.1f} s", *found, sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:3]), *sys.argv[3:4]))
