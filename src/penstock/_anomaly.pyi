# The types of the compiled module; what each call does is told by penstock.guard.anomaly and ext/_anomaly.pyx.
from collections.abc import Collection
from typing import Final, NoReturn, Self, final

SHAPE_COLUMNS: Final[int]

def shape(
    path: str, query: str, agent: str, method: int, headers: int, expected: int, failures: float
) -> tuple[float, ...]: ...
@final
class Forest:
    memory: Final[int]
    def __new__(cls, columns: int, trees: int, height: int, window: int, seed: int) -> Self: ...
    def __reduce__(self) -> NoReturn: ...
    @property
    def trained(self) -> bool: ...
    @property
    def shown(self) -> int: ...
    @property
    def learned(self) -> int: ...
    def score(self, row: Collection[float], key: str | None = None, learn: bool = True) -> float: ...
    def score_request(
        self,
        path: str,
        query: str,
        agent: str,
        method: int,
        headers: int,
        expected: int,
        failures: float,
        key: str | None = None,
        learn: bool = True,
    ) -> float: ...
