# The types of the compiled module; what each call does is told in penstock.guard.scan and ext/_scan.pyx.
KINDS: tuple[str, ...]
RULES: tuple[tuple[str, str, int, int], ...]
SCAN_BYTES: int

_Row = tuple[str, int, str, int, int]

def scan(value: str | bytes, paranoia: int = 1) -> tuple[_Row, ...]: ...
def scan_pairs(
    query: str | bytes, paranoia: int = 1, limit: int = ...
) -> tuple[tuple[bytes, bytes, tuple[_Row, ...], tuple[_Row, ...]], ...]: ...
