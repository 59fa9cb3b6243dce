"""Writes a long access log: a real one repeated, each time shifted so that time goes on.

    python benchmarks/make_log.py ../shared/data/logs/apache_logs --lines 1000000 > big.log
    time penstock replay big.log --limit 10/second

The real log's order, addresses and gaps are kept. Each repetition begins a whole number of days after the one before.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TIME = re.compile(rb"\[(\d\d/[A-Z][a-z]{2}/\d{4}):")
DAY_FORMAT = "%d/%b/%Y"


def long_log(lines: list[bytes], count: int) -> Iterator[bytes]:
    """`count` lines, each ended as it was."""
    days = [day_of(line) for line in lines]
    known = [day for day in days if day]
    if not known:
        raise SystemExit("no line has a time such as [17/May/2015:")
    span = max(known) - min(known) + datetime.timedelta(days=1)
    for i in range(count):
        repetition, place = divmod(i, len(lines))
        day = days[place]
        if day is None or repetition == 0:
            yield lines[place]
        else:
            shifted = (day + repetition * span).strftime(DAY_FORMAT).encode()
            yield TIME.sub(b"[" + shifted + b":", lines[place], count=1)


def day_of(line: bytes) -> datetime.date | None:
    """The day on which a line was written; None for a line without a time."""
    match = TIME.search(line)
    return datetime.datetime.strptime(match[1].decode(), DAY_FORMAT).date() if match else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a log in the common or combined format")
    parser.add_argument("--lines", type=int, default=1_000_000, help="how many to write (default: %(default)s)")
    args = parser.parse_args()
    lines = args.source.read_bytes().splitlines(keepends=True)
    sys.stdout.buffer.writelines(long_log(lines, args.lines))


if __name__ == "__main__":
    main()
