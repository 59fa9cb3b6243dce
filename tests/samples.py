"""Logs and payloads from the world outside, which are not part of the repository; tests that read them skip without.

PENSTOCK_SAMPLES  the folder that has them (.github/CONTRIBUTING.md says what); default: shared/data beside the checkout
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

OUTSIDE = Path(os.environ.get("PENSTOCK_SAMPLES") or Path(__file__).parents[2] / "shared" / "data")


def needs(sample: Path) -> pytest.MarkDecorator:
    """Marks tests that read one of them."""
    return pytest.mark.skipif(not sample.exists(), reason=f"no {sample.name} in PENSTOCK_SAMPLES (tests/samples.py)")
