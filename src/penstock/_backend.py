"""Chooses once, at import, what decides: the compiled core, or the plain-Python reference where there is none."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

__all__ = ["Engine", "adopt", "native"]

if TYPE_CHECKING:
    from penstock._core import Engine, adopt

    native: bool
else:
    native = os.environ.get("PENSTOCK_PURE", "") in ("", "0")
    if native:
        try:
            from penstock._core import Engine, adopt
        except ImportError as error:
            native = False
            warnings.warn(
                f"penstock runs without its compiled core, exactly but about a hundred times slower: {error}"
                " (PENSTOCK_PURE=1 asks for that, and silences this)",
                RuntimeWarning,
                stacklevel=3,  # where penstock is imported
            )
    if not native:
        from penstock._reference import Engine, adopt
