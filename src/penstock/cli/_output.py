"""Arguments that commands with a report have in common."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_output_arguments(group: argparse._ArgumentGroup) -> None:
    """--plot, --json and --no-progress."""
    group.add_argument(
        "--plot", type=Path, metavar="OUT", help="draw to OUT.html, or with matplotlib to OUT.png or OUT.svg"
    )
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.add_argument("--no-progress", action="store_true", help="no progress bar")
