"""Anomaly: how rare a request's shape is among those of late, 0 to 1, learned as it goes and never trained anew.

    Request -> shape (16 numbers, FEATURES) -> half-space trees -> share of recent requests as rare -> score

The arithmetic is ext/records/half_space.h and shape.h; this checks arguments and reads requests.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from penstock._anomaly import SHAPE_COLUMNS, Forest, shape
from penstock.errors import shown
from penstock.guard.request import Request

FEATURES = (
    "path_length",
    "path_depth",
    "path_odd_signs",
    "query_length",
    "parameters",
    "longest_value",
    "odd_signs",
    "odd_share",
    "digit_share",
    "switches",
    "escapes",
    "blank_share",
    "method",
    "headers",
    "agent_length",
    "failure_share",
)
"""What a request's row is made of; each in 0 .. 1, lengths and counts by their logarithm. Odd signs quote, bracket or
join; switches are changes between letters, digits and signs; escapes are %XX and signs that are not ASCII."""
assert len(FEATURES) == SHAPE_COLUMNS

THRESHOLD = 0.7
"""Rarer than all but one in 631 of recent requests."""
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Learned(NamedTuple):
    """trained: whether there are scores other than 0. shown: rows that might have been learned; learned: those that
    were; both lossy where threads count at once. memory: bytes, which do not grow."""

    trained: bool
    shown: int
    learned: int
    memory: int


class Anomaly:
    """A streaming anomaly score over rows of `features` numbers, best scaled to about 0 .. 1.

    A score says how many recent rows were as rare: 0.25 one in 10, 0.5 one in 100, 0.7 one in 631, 0.75 one in 1,000, 1
    one in 10,000 or fewer. So it means the same every day, whatever is usual that day; of ordinary traffic about 0.1 %
    reaches 0.7, always, which is why it is evidence and no verdict. Until twice 256 rows (or windows, if shorter) are
    learned it is 0.

    features: 1 to 64; trees: 1 to 128 that look at several columns, beside one for each column alone; height: 1 to 12
    halvings in each tree; window: rows in which memory fades by an eighth, 64 to 65536; seed: equal seeds and rows give
    equal scores. Memory is bounded by these alone; a score is O(trees * height), one or two microseconds, and the
    upkeep O(trees * 2**height) a window, which counts where windows are much shorter than 1024.

    What it can be taught, and how slowly: the rarer a row, the less of its kind is learned in a window, from all keys
    and above all from one (half_space.h has the table). One client that sends one odd request without end keeps it odd;
    one that makes half of all traffic, of many odd shapes, brings them to about 0.5 within 20 windows; ten clients or
    more who do the same make it ordinary as fast, as they should where it is a new release and not an attack. What
    comes before there are scores is learned as ordinary. benchmarks/guard_anomaly.py has the numbers.

    Safe from any thread, without a lock; each process learns for itself.

    >>> anomaly = Anomaly(features=2, window=64)
    >>> for number in range(2_000):
    ...     score = anomaly.score((number % 10 / 10, 0.5))
    >>> score < 0.5, anomaly.score((0.5, 5.0)) > 0.7
    (True, True)
    """

    __slots__ = ("_forest", "features")

    def __init__(
        self,
        features: int = len(FEATURES),
        *,
        trees: int = 32,
        height: int = 10,
        window: int = 1024,
        seed: int = 0,
    ) -> None:
        self.features = _within("features", features, 1, 64)
        _within("trees", trees, 1, 128)
        _within("height", height, 1, 12)
        _within("window", window, 64, 1 << 16)
        _within("seed", seed, 0, (1 << 64) - 1)
        self._forest = Forest(features, trees, height, window, seed)

    def score(self, row: Collection[float], key: str | None = None, *, learn: bool = True) -> float:
        """How rare a row is, 0 to 1, and with `learn` a part of what later ones are compared with.

        row: as many numbers as there are features; NaN counts as 0, and what is beyond a million as that. key: whose
        row it is, which bounds what it teaches; rows of None are bounded all together only where they are odd. Raises
        ValueError for another number of values.
        """
        return self._forest.score(row, key, learn)

    def score_request(
        self, request: Request, failure_share: float = 0.0, key: str | None = None, *, learn: bool = True
    ) -> float:
        """`score` of `row_of(request, failure_share)`, in one call; for 16 features. key: the client's, by default its
        address."""
        found = _asked(request)
        return self._forest.score_request(*found, failure_share, request.address if key is None else key, learn)

    @property
    def learned(self) -> Learned:
        """How far it is."""
        forest = self._forest
        return Learned(forest.trained, forest.shown, forest.learned, forest.memory)


def row_of(request: Request, failure_share: float = 0.0) -> tuple[float, ...]:
    """A request's shape, a number for each of FEATURES.

    failure_share: of the client's answers so far, the part that were errors, 0 to 1. At most 4,096 signs of each text
    are looked at, with one layer of %XX undone; lengths are of the whole.
    """
    return shape(*_asked(request), failure_share)


def _asked(request: Request) -> tuple[str, str, str, int, int, int]:
    fields, method = request.fields, request.method
    browsers = ("accept" in fields) + ("accept-language" in fields) + ("accept-encoding" in fields)
    return (
        request.path,
        request.query,
        fields.get("user-agent", ""),
        0 if method in _READS else 1 if method in _WRITES else 2,
        len(fields),
        browsers + ("user-agent" in fields),
    )


def _within(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name}={shown(value)} must be from {least} to {most}")
    return value
