"""LabError: a trial that cannot be run as asked."""

from __future__ import annotations

from penstock.errors import PenstockError


class LabError(PenstockError):
    """A trial that cannot be run as asked, or that came to nothing."""
