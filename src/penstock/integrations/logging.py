"""Refusals in the standard library's logging, sampled: a flood of them writes a bounded number of lines.

    refused = RefusalLog(per_second=5)
    if not (decision := limiter.check(key)):
        refused(key, decision)
"""

from __future__ import annotations

import logging

from penstock.clock import Clock
from penstock.decision import Decision
from penstock.errors import shown
from penstock.integrations._sampled import Sampled
from penstock.limiter import Key, Limiter


class RefusalLog:
    """Writes lines such as "refused 9f3c0c21d5a8e7b4: limit of 5, retry in 12.3 s (and 310 more refusals)".

    per_second: lines a second at most, and as many at once; those left out are counted in the next line. logger: a
    Logger or its name. show_keys: write the key itself, cut at 200 characters and escaped; otherwise its 64-bit
    fingerprint under a secret of this object, the same for the same key, from which the key cannot be told.

    The decision's fields are on the record too, as penstock_key and penstock_decision, and what was left out as
    penstock_left_out. Safe from any thread; never raises for a key that a Limiter takes.
    """

    def __init__(
        self,
        per_second: int = 10,
        *,
        logger: logging.Logger | str = "penstock.refused",
        level: int = logging.WARNING,
        show_keys: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._sampled = Sampled(per_second, clock)
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._show_keys = show_keys
        self._names = Limiter("1/second", capacity=64)

    def __call__(self, key: Key, decision: Decision) -> None:
        """Notes one refusal."""
        if not self._logger.isEnabledFor(self._level):
            return
        left_out = self._sampled.admit()
        if left_out is None:
            return
        name = shown(key) if self._show_keys else f"{self._names.fingerprint(key):016x}"
        more = f" (and {left_out} more refusals)" if left_out else ""
        extra = {"penstock_key": name, "penstock_decision": decision, "penstock_left_out": left_out}
        self._logger.log(
            self._level, "refused %s: limit of %d, retry in %.3g s%s", name, decision.limit, decision.retry_after, more,
            extra=extra,
        )  # fmt: skip
