"""Other packages that tests build on: where one is not installed its tests are skipped, but in CI they must run.

PENSTOCK_LEAN=1 says that no more than pytest, hypothesis and numpy are meant to be there, as where wheels for rarer
platforms are tried; then they are skipped in CI, too.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest


def said(name: str) -> bool:
    """Whether an environment variable is set to anything but no."""
    return os.environ.get(name, "") not in ("", "0", "false")


def needed(*packages: str) -> None:
    """To be called before a test module imports these."""
    if said("CI") and not said("PENSTOCK_LEAN") and sys.platform == "linux":
        return  # and the import says what is missing; elsewhere the extra does not have all
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed, of penstock's test extra", allow_module_level=True)
