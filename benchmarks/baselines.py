"""The limiters that are compared, ours first, and one policy for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock import Limiter, TokenBucket
from penstock.cli._peers import PEERS, Peer, Quota, Subject

PLENTY: Quota = (10_000_000, 100_000_000)
"""Nothing is refused, and a key owes something for 10 s after each hit: no slot of a key in use is free meanwhile."""
SPENT: Quota = (1, 3600)
"""Everything but the first hit is refused."""
SEVERAL: tuple[Quota, Quota] = (PLENTY, (11_000_000, 120_000_000))


def _ours(quotas: Sequence[Quota], keys: int) -> Subject:
    limiter = Limiter(*(TokenBucket(limit, per=seconds) for limit, seconds in quotas), capacity=max(keys, 1000))
    return Subject(limiter.hit, bool)


OURS = Peer("penstock", "token bucket", True, _ours)
SUBJECTS = (OURS, *PEERS)


def make(peer: Peer, quotas: Sequence[Quota], keys: int) -> Subject:
    """The peer's limiter, for about `keys` keys; skips the test where the library is not installed."""
    try:
        return peer.make(quotas, keys)
    except ImportError as error:
        pytest.skip(f"{peer.name} is not installed here ({error})")
