"""Memory per tracked key: what a fresh process grows by, divided by the keys it was shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from baselines import SUBJECTS, make

from penstock.cli._peers import Peer

MEMORY = Path(__file__).with_name("memory.py")
NATIVE_KEYS, KEYS = 1_000_000, 200_000

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")


def bytes_per_key(*arguments: str) -> float:
    done = subprocess.run([sys.executable, str(MEMORY), *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.parametrize("peer", SUBJECTS, ids=lambda peer: peer.name)
def test_token_bucket(fact: Callable[..., None], goal: Callable[[str, float], None], peer: Peer) -> None:
    make(peer, [(1000, 3600)], 1000)
    keys = NATIVE_KEYS if peer.native else KEYS
    least = min(bytes_per_key(peer.name, str(keys)) for _ in range(2))
    fact("memory per key", peer.name, f"bytes at {keys:,} keys", bytes=least)
    if peer.name == "penstock":
        goal("bucket bytes", least)


def test_sliding_window(fact: Callable[..., None], goal: Callable[[str, float], None]) -> None:
    least = min(bytes_per_key("penstock", str(NATIVE_KEYS), "window") for _ in range(2))
    fact("memory per key", "penstock, window of 6", f"bytes at {NATIVE_KEYS:,} keys", bytes=least)
    goal("window bytes", least)
