"""Every exception that penstock raises on its own account.

    PenstockError
    ├── RateSyntaxError (ValueError)   a rate string that cannot be read, with the place marked
    ├── CostTooLarge (ValueError)      waiting for this cost could never help
    ├── RateLimited                    refused; carries the Decision
    ├── SyncError                      the exchange with Redis
    ├── SegmentError                   a shared segment
    └── SnapshotError                  saving a limiter, or loading one

A wrong type is a TypeError, a value outside its rule a ValueError; both name the parameter, the value and the rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.decision import Decision


def shown(value: object) -> str:
    """`value` as an error message shows it: its repr, cut short; of a very long int, which has none, its length."""
    if isinstance(value, int) and int.bit_length(value) > 128:
        return f"an int of {int.bit_length(value)} bits"
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


class PenstockError(Exception):
    """The root of all errors that are penstock's own."""


class RateSyntaxError(PenstockError, ValueError):
    """A rate string that cannot be read.

    text: the whole string; position: the index in it where reading stopped; reason: what was expected there.
    """

    def __init__(self, text: str, position: int, reason: str) -> None:
        self.text = text
        self.position = position
        self.reason = reason
        quoted = text if len(text) <= 200 else text[:200] + "…"
        super().__init__(f"{reason}\n  {quoted!r}\n  {' ' * (1 + len(repr(quoted[:position])) - 2)}^")

    def __reduce__(self) -> tuple[type[RateSyntaxError], tuple[str, int, str]]:
        return type(self), (self.text, self.position, self.reason)


class CostTooLarge(PenstockError, ValueError):
    """A cost above what a limit ever admits at once, where the caller would have waited for it."""


class RateLimited(PenstockError):
    """A call was refused. decision: the Decision, with retry_after in seconds."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        hopeless = decision.retry_after == float("inf")
        wait = "no known wait ends it" if hopeless else f"retry in {decision.retry_after:.3g} s"
        super().__init__(f"limit of {decision.limit} reached, {decision.remaining} left; {wait}")

    def __reduce__(self) -> tuple[type[RateLimited], tuple[Decision]]:
        return type(self), (self.decision,)


class SyncError(PenstockError):
    """The exchange with Redis cannot be set up as asked."""


class SegmentError(PenstockError):
    """A shared segment cannot be opened as asked."""


class SnapshotError(PenstockError):
    """A limiter cannot be saved there, or what is there is no saved limiter that can be loaded."""
