"""`penstock guard`: what a guard would have done to the traffic in access logs."""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

from penstock.adapters.identity import read_address
from penstock.cli._output import add_output_arguments
from penstock.cli._progress import Progress
from penstock.drawing import PlotError, check_plot
from penstock.errors import PenstockError, shown
from penstock.guard.config import Config
from penstock.guard.presets import PRESETS
from penstock.guard.replay import plot
from penstock.guard.replay.play import FILES_MOST, Played, play
from penstock.guard.replay.report import explain_text, json_report, text_report, unreadable

DONE, NOTHING, FAILED = 0, 1, 2
"""Exit statuses; the help tells what they mean."""

_DESCRIPTION = """\
Plays access logs through a guard at the logs' own time and reports whom it would have refused, when, why, and on what
evidence, line by line. Nothing is changed and nobody is told.
"""

_EPILOG = """\
files
  Apache's and nginx's common and combined formats, whatever stands in front of them, JSON objects, one a line, load
  balancers' logs, and lines that have a time, an address and a request anywhere. Plain or compressed by gzip, bzip2, xz
  or Zstandard; "-" is standard input. All files are one traffic, played in the order of their times. What a log does
  not hold (most headers, bodies) is taken for ordinary; what is in flight at once cannot be known.

exit status
  0  done
  1  there was no request to replay
  2  wrong arguments, or a file that could not be read or written
  130  interrupted

examples
  penstock guard replay access.log --preset web
  penstock guard replay /var/log/nginx/access.log* --config guard.toml --plot out.html
  penstock guard replay access.log --preset api --explain 203.0.113.7
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `penstock guard`."""
    parser.description = "Tries a guard's configuration on traffic that there was."
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    replay = verbs.add_parser(
        "replay",
        help="whom a guard would have refused in access logs, and why",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("files", nargs="+", metavar="FILE", help='logs; "-" is standard input')
    which = replay.add_mutually_exclusive_group()
    which.add_argument("--preset", choices=list(PRESETS), default="web", help="(default: %(default)s)")
    which.add_argument("--config", type=Path, metavar="FILE", help="a guard's configuration, TOML or JSON")
    replay.add_argument("--explain", metavar="ADDRESS", help="all that would have happened to one address")
    output = replay.add_argument_group("what to show")
    output.add_argument("--top", type=_count, default=10, metavar="N", help="addresses to list (default: %(default)s)")
    output.add_argument(
        "--lines", type=_count, default=50, metavar="N", help="pieces of evidence to list (default: %(default)s)"
    )
    add_output_arguments(output)


def run(args: argparse.Namespace) -> int:
    """Replays and prints; the exit status."""
    try:
        if args.plot is not None:
            check_plot(args.plot)
        if len(args.files) > FILES_MOST:
            raise ValueError(f"there are {len(args.files)} files; at most {FILES_MOST} can be replayed together")
        if args.explain is not None and read_address(args.explain) is None:
            raise ValueError(f"explain={shown(args.explain)} must be an IPv4 or IPv6 address")
        name, config = _config(args)
        logging.getLogger("penstock.guard").addHandler(logging.NullHandler())  # the report says it all
        with Progress(sys.stderr, wanted=not args.no_progress) as progress:
            played = play(args.files, config, args.explain, args.lines, progress)
        for failure in played.failures:
            _complain(failure)
        _show(played, name, args)
        if args.plot is not None and played.requests:
            plot.draw(played, name, args.plot)
    except (PlotError, PenstockError, ValueError, TypeError) as error:
        return _complain(error)
    if played.failures:
        return FAILED
    return DONE if played.requests else _complain("there is no request to replay", NOTHING)


def _config(args: argparse.Namespace) -> tuple[str, Config]:
    """The configuration and what to call it. Raises ValueError or TypeError, with the file's name in front."""
    path: Path | None = args.config
    if path is None:
        return args.preset, Config.read(args.preset)
    try:
        text = path.read_text(encoding="utf-8")
        read: Any = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
        return path.name, Config.read(read)
    except OSError as error:
        raise ValueError(f"config={shown(str(path))}: {error.strerror or error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"config={shown(str(path))}: {error}") from None


def _show(played: Played, name: str, args: argparse.Namespace) -> None:
    width = max(60, shutil.get_terminal_size((120, 24)).columns)
    if args.json:
        text = json.dumps(json_report(played, name, args.top), indent=2, allow_nan=False) + "\n"
    elif args.explain is not None:
        text = explain_text(played, args.explain, width)
    elif played.requests:
        text = text_report(played, name, args.top, width)
    else:
        text = "\n".join(unreadable(played)) + "\n" if played.unreadable else ""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _complain(error: object, status: int = FAILED) -> int:
    print(f"penstock guard: {error}", file=sys.stderr)
    return status


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number below a million")
    return int(text)
