"""What a caller keeps between taking and giving back: a Reservation of units, a Hold on a Concurrency limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from penstock.decision import Decision
from penstock.errors import RateLimited
from penstock.rate import check_count

if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

    from penstock.limiter import Key, LimiterMethods


class Reservation:
    """Units taken before it is known how many will be used; true when they were taken.

    decision: the Decision of the taking; cost: the units reserved.
    """

    __slots__ = ("_key", "_limiter", "_settled", "_tier", "cost", "decision")

    def __init__(self, limiter: LimiterMethods, key: Key, cost: int, tier: str | None, decision: Decision) -> None:
        self.decision = decision
        self.cost = cost
        self._limiter = limiter
        self._key = key
        self._tier = tier
        self._settled = False

    def __bool__(self) -> bool:
        return self.decision.allowed

    def __repr__(self) -> str:
        state = "refused" if not self.decision else "settled" if self._settled else "open"
        return f"<Reservation of {self.cost}, {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Reservation cannot be copied or pickled: it is settled once, with its own limiter")

    def settle(self, actual: int) -> None:
        """Charge what was really used: give the difference back, or take it even if it does not fit (then it is owed).

        actual: units, 0 .. 2**53. Once for each reservation: RuntimeError for a second time, or when it was refused.
        """
        check_count("actual", actual, least=0)
        if not self.decision:
            raise RuntimeError("settle() on a reservation that was refused: nothing was taken")
        if self._settled:
            raise RuntimeError("settle() on a reservation that is settled already")
        self._settled = True
        if actual > self.cost:
            self._limiter.force(self._key, actual - self.cost, self._tier)
        elif actual < self.cost:
            self._limiter.refund(self._key, self.cost - actual, self._tier)


class Hold:
    """Units of a Concurrency limit, held inside a `with` or `async with` block and given back at its end.

    Entering answers with the Decision or raises RateLimited; it waits for its turn up to `timeout` seconds (None:
    without end). A hold that is dropped while inside gives back too. One block at a time.
    """

    __slots__ = ("_cost", "_held", "_inside", "_key", "_limiter", "_process", "_tier", "_timeout")

    def __init__(self, limiter: LimiterMethods, key: Key, cost: int, tier: str | None, timeout: float | None) -> None:
        self._held = False
        self._inside = False  # from the start of the wait on
        self._limiter = limiter
        self._key = key
        self._cost = cost
        self._tier = tier
        self._timeout = timeout

    def _begin(self) -> None:
        if self._inside:
            raise RuntimeError("this hold is inside a block already: make one for each block")
        self._inside = True

    def _entered(self, decision: Decision) -> Decision:
        if not decision:
            raise RateLimited(decision)
        self._held = True
        self._process = os.getpid()
        return decision

    def __enter__(self) -> Decision:
        self._begin()
        try:
            return self._entered(self._limiter._wait(self._key, self._cost, self._tier, self._timeout))
        finally:
            self._inside = self._held

    async def __aenter__(self) -> Decision:
        self._begin()
        try:
            return self._entered(await self._limiter._wait_async(self._key, self._cost, self._tier, self._timeout))
        finally:
            self._inside = self._held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def __del__(self) -> None:
        self._give_back()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Hold cannot be copied or pickled: what it holds is given back once")

    def _give_back(self) -> None:
        if self._held:
            self._held = self._inside = False
            if self._process == os.getpid() or not self._limiter.shared:  # of one table for all, the parent gives back
                self._limiter.release(self._key, self._cost, self._tier)
