"""Prints how many bytes of resident memory one key costs in one limiter; run in a process of its own.

python memory.py penstock 1000000            a token bucket, as the others' nearest to it
python memory.py penstock 1000000 window     a sliding window of 6
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from baselines import SUBJECTS
from conftest import address

from penstock import Limiter, SlidingWindow
from penstock.clock import ManualClock


def resident() -> int:
    """Bytes of memory that this process has now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status names no VmRSS")


def fill(name: str, keys: int) -> object:
    """One of the limiters after each key came once; the limiter itself is returned so that it stays."""
    subject = next(peer for peer in SUBJECTS if peer.name == name).make([(1000, 3600)], keys)
    for number in range(keys):
        subject.hit(address(number))
    return subject


def fill_windows(keys: int) -> object:
    """A limiter of which each key came in each of its six sub-windows and once more, so that every ring is in use."""
    clock = ManualClock()
    limiter = Limiter(SlidingWindow(1000, per=60, resolution=6), capacity=keys, clock=clock)
    for _ in range(7):
        for number in range(keys):
            limiter.hit(address(number))
        clock.advance(10)
    return limiter


def main() -> None:
    name, keys = sys.argv[1], int(sys.argv[2])
    window = sys.argv[3:] == ["window"]
    small = fill_windows(1000) if window else fill(name, 1000)  # whatever is imported or started only then
    gc.collect()
    before = resident()
    large = fill_windows(keys) if window else fill(name, keys)
    gc.collect()
    print((resident() - before) / keys)
    del small, large


if __name__ == "__main__":
    main()
