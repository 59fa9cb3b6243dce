"""The guard's tests need the compiled modules; where the plain-Python reference is meant, none of them is collected."""

from __future__ import annotations

import os

if os.environ.get("PENSTOCK_PURE", "") not in ("", "0"):
    collect_ignore_glob = ["*"]
