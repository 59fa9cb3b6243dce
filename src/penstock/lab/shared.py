"""The design that is ours: a Limiter with sync, which decides at once and settles in the background."""

from __future__ import annotations

import threading
import time
import warnings
from dataclasses import asdict
from functools import partial
from typing import Any

from penstock.lab.errors import LabError
from penstock.lab.settings import Settings
from penstock.limiter import Limiter
from penstock.sync.guarantee import Bound
from penstock.sync.options import Sync

KEY = "k"
KNOWN_S = 15.0
"""How long instances may take to learn of each other."""
WATCH_S = 0.05
"""How often an instance looks at what it guarantees."""


class Shared:
    """One instance. url: of Redis; name: what the fleet shares by."""

    def __init__(self, settings: Settings, url: str, name: str) -> None:
        sync = Sync(
            url,
            every=settings.every,
            strict=settings.strict,
            on_outage=settings.mode,  # type: ignore[arg-type]  # checked by Settings
            fleet_hint=settings.instances,
        )
        self._limiter = Limiter(settings.rule, name=name, sync=sync)
        self._instances = settings.instances
        self.hit = partial(self._limiter.hit, KEY)
        self._loosest: Bound | None = None
        self._warning: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def ready(self) -> None:
        """Waits until all instances know of each other. Raises LabError."""
        end = time.monotonic() + KNOWN_S
        while True:
            state = self._limiter.stats().sync
            assert state is not None
            if state.connected and state.instances >= self._instances:
                break
            if time.monotonic() > end:
                raise LabError(
                    f"after {KNOWN_S:g} s an instance knows of {state.instances} of {self._instances}:"
                    f" {state.error or 'no error'}"
                )
            time.sleep(0.01)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self._look()  # which warns once
        self._warning = str(told[0].message) if told else None
        self._thread.start()

    def facts(self) -> dict[str, Any]:
        """The loosest that it has guaranteed so far, and how the exchange went."""
        self._look()
        state, bound = self._limiter.stats().sync, self._loosest
        assert state is not None
        assert bound is not None
        return {
            "bound": asdict(bound),
            "warning": self._warning,
            "batches": state.batches,
            "duplicates": state.duplicates,
            "lost": state.lost,
        }

    def close(self) -> None:
        """Settles."""
        self._ended.set()
        self._thread.join()
        self._limiter.close()

    def _watch(self) -> None:
        """What is guaranteed changes with the instances there are, and with the network: a slow one lengthens T."""
        while not self._ended.wait(WATCH_S):
            self._look()

    def _look(self) -> None:
        bound = self._limiter.guarantee().bounds[0]
        if self._loosest is None or bound.excess > self._loosest.excess:
            self._loosest = bound
