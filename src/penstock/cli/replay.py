"""`penstock replay`: what a limit would have done to the traffic in access logs."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from fractions import Fraction

from penstock.cli._output import add_output_arguments
from penstock.cli._progress import Progress
from penstock.drawing import PlotError, check_plot
from penstock.errors import PenstockError
from penstock.replay import plot, traffic
from penstock.replay.keys import parse_key
from penstock.replay.limits import ALGORITHMS, read_limits
from penstock.replay.logs import FORMATS, Manner
from penstock.replay.report import BARS, BARS_ASCII, empty_json, empty_report, json_report, text_report
from penstock.replay.study import Question, Reading, Study, read, study

LIMIT_DEFAULT = "10/second; 1000/hour"

DONE, NOTHING, FAILED = 0, 1, 2
"""Exit statuses; the help tells what they mean."""

_DESCRIPTION = """\
Replays access logs through a limiter at the logs' own time and reports what it would have refused: how much, which
keys, how often and for how long; and the smallest limits that would have refused nobody, or next to nobody.
"""

_EPILOG = """\
files
  Apache's and nginx's common and combined formats, with a virtual host in front or without; JSON objects, one a line;
  CSV with named columns. Plain or compressed by gzip, bzip2, xz or Zstandard; "-" is standard input. Format and
  compression are told from the content, for each file. All files are one traffic: requests are replayed in the order
  of their times, wherever they were found, and those that were out of order are counted. Times are as in the common
  format, ISO 8601, or numbers since 1970 (seconds, milliseconds, microseconds or nanoseconds, by their size); without
  a zone they are UTC.
  Lines that cannot be read are counted and the first few shown. A file that cannot be opened or understood is
  reported, the others are replayed all the same, and the exit status is 2. Of a damaged archive counts what came
  before the damage.

keys
  address, user, method, path (without the query), target (with it), status, user-agent, referrer, protocol, ident,
  size; host, where the log has it; any column of JSON and CSV ("request.uri" is inside "request"). Several make one
  key: address,path. A field that a line lacks is "-".
  address/24 keeps 24 bits of an IPv4 address, and 64 of an IPv6 one, which is what one household has; address/24/56
  says both; a length above 32, address/48, is for IPv6 alone.

limits
  Rate strings such as "10/second; 1000/hour" or "100/second burst 200". All of them decide together: all admit, or
  nothing is taken. The smallest limits are of each by itself, with the same algorithm and period; a burst is scaled
  along. Of several times that are the same the order in the log decides.

exit status
  0  done
  1  there was no request to replay
  2  wrong arguments, or a file that could not be read or written
  130  interrupted

examples
  penstock replay
  penstock replay /var/log/nginx/access.log* --limit 10/second --key address/24
  zcat log.json.gz | penstock replay - --limit "5/minute; 100/day" --key user --field user=account --json
  penstock replay access.log --limit 20/second --algorithm sliding-window --plot out.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `penstock replay`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="logs; without any, a built-in day of invented traffic"
    )
    limits = parser.add_argument_group("what to try")
    limits.add_argument(
        "--limit", action="append", metavar="RATE", help=f'may be repeated (default: "{LIMIT_DEFAULT}")'
    )
    limits.add_argument(
        "--algorithm", choices=list(ALGORITHMS.values()), default="token-bucket", help="(default: %(default)s)"
    )
    limits.add_argument(
        "--key", default="address", metavar="FIELDS", help="what each limit is for (default: %(default)s)"
    )
    limits.add_argument(
        "--at-most",
        type=_share,
        default=Fraction(1, 100),
        metavar="X%",
        help="share of requests to sacrifice (default: 1%%)",
    )
    limits.add_argument(
        "--spread", action="store_true", help="spread requests over their second, where times are whole"
    )
    reading = parser.add_argument_group("how to read")
    reading.add_argument("--format", choices=FORMATS, default="auto", help="(default: %(default)s, for each file)")
    reading.add_argument(
        "--field",
        action="append",
        type=_field,
        default=[],
        metavar="NAME=COLUMN",
        help="the column of a field, or of the time",
    )
    reading.add_argument(
        "--skip-missing", action="store_true", help='leave out lines whose key has a "-" or nothing in it'
    )
    reading.add_argument(
        "--bad", type=_count, default=5, metavar="N", help="unreadable lines to show (default: %(default)s)"
    )
    reading.add_argument(
        "--seed", type=_count, default=traffic.SEED, metavar="N", help="of the invented day (default: %(default)s)"
    )
    output = parser.add_argument_group("what to show")
    output.add_argument("--top", type=_count, default=10, metavar="N", help="keys to list (default: %(default)s)")
    add_output_arguments(output)


def run(args: argparse.Namespace) -> int:
    """Replays and prints; the exit status."""
    try:
        question = _question(args)
    except (PenstockError, ValueError) as error:
        return _complain(error)
    try:
        with Progress(sys.stderr, wanted=not args.no_progress) as progress:
            reading = read(question, progress)
            done = study(reading, progress) if len(reading.trace) else None
        for failure in reading.failures:
            _complain(failure)
        _show(reading, done, args)
        if done is not None and args.plot is not None:
            plot.draw(done, args.plot)
    except PlotError as error:
        return _complain(error)
    except MemoryError as error:
        return _complain(f"not enough memory: {error}")
    if reading.failures:
        return FAILED
    return _complain("there is no request to replay", NOTHING) if done is None else DONE


def _question(args: argparse.Namespace) -> Question:
    """Raises PenstockError or ValueError for what can be known to be wrong before anything is read."""
    if args.plot is not None:
        check_plot(args.plot)
    return Question(
        paths=args.files,
        manner=Manner(parse_key(args.key), args.format, dict(args.field)),
        limits=read_limits(args.limit or [LIMIT_DEFAULT], args.algorithm),
        at_most=args.at_most,
        skip_missing=args.skip_missing,
        spread=args.spread,
        bad_kept=args.bad,
        seed=args.seed,
    )


def _show(reading: Reading, done: Study | None, args: argparse.Namespace) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    width = shutil.get_terminal_size((120, 24)).columns
    if args.json:
        report = empty_json(reading) if done is None else json_report(done, args.top)
        text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    elif done is not None:
        text = text_report(done, args.top, width, BARS if _can_show(BARS, encoding) else BARS_ASCII)
    else:
        text = empty_report(reading, width) if reading.trace.lines else ""
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _complain(error: object, status: int = FAILED) -> int:
    print(f"penstock replay: {error}", file=sys.stderr)
    return status


def _share(text: str) -> Fraction:
    number = text.strip().removesuffix("%").strip()
    if not re.fullmatch(r"\d{1,3}(\.\d{1,9})?", number) or Fraction(number) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} must be a percentage such as 1% or 0.5%")
    return Fraction(number) / 100


def _field(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=COLUMN, such as time=when")
    return name, column


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number")
    return int(text)
