"""What all tests share: the backend they run on, clocks moved by hand, and how hard hypothesis tries."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engines import BACKENDS, engine_of, limiter_of, make_engine, manual_clock
from hypothesis import HealthCheck, settings

from penstock.clock import ManualClock

PURE = os.environ.get("PENSTOCK_PURE", "") not in ("", "0")

# Examples are few and drawn anew each time, since the suite is run often. For more of them, run the tests marked soak
# (pytest -m soak), or all laws with --hypothesis-profile=soak.
_CALM = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("penstock", _CALM, max_examples=60)
settings.register_profile("soak", _CALM, max_examples=3_000)
settings.load_profile("penstock")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each engine in turn. A missing compiled core is an error, unless PENSTOCK_PURE says that it is meant."""
    name: str = request.param
    if name == "native" and PURE:
        pytest.skip("PENSTOCK_PURE asks to do without the compiled core")
    return name


@pytest.fixture(scope="session")
def both() -> None:
    """For tests of parity: skips where the compiled core is done without, as there is nothing to compare."""
    if PURE:
        pytest.skip("PENSTOCK_PURE asks to do without the compiled core")


@pytest.fixture(scope="session")
def engine_class(backend: str) -> type[Any]:
    """The backend's Engine."""
    return engine_of(backend)


@pytest.fixture(scope="session")
def limiter_class(backend: str) -> type[Any]:
    """A Limiter on the backend: limiter_class("5/minute", clock=clock)."""
    return limiter_of(backend)


@pytest.fixture(scope="session")
def engine(backend: str) -> Callable[..., Any]:
    """engines.make_engine on the backend: engine(TokenBucket(5), clock=clock)."""
    return partial(make_engine, backend)


@pytest.fixture
def clock() -> ManualClock:
    """A clock of the test's own; not for tests under `given`, which need one for each example."""
    return manual_clock()


@pytest.fixture
def segment_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for this test's named segments in place of /dev/shm, for this process; in memory if that can be."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-test-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    monkeypatch.setattr("penstock.segment.options.FOLDER", str(folder))
    yield folder
    shutil.rmtree(folder)
