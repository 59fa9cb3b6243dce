"""One process of a fleet: told what to be on its standard input, it plays its part of the load and tells how it went.

In: a line of JSON with the Job, then a line with the start, ns on the host's clock; the end of the input lets it go.
Out: lines of JSON: {"ready": facts} when it can be asked, {"done": facts} after its last call, or {"error": text}.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.clock import NS, SystemClock
from penstock.errors import PenstockError
from penstock.lab.design import DESIGNS
from penstock.lab.records import Records
from penstock.lab.server import in_words
from penstock.lab.settings import Outage, Settings


@dataclass(frozen=True)
class Job:
    """What an instance is. design: of DESIGNS; number: which of the fleet's, for its part of the load; records: the
    file for its answers; url: of Redis; name: what the fleet shares by."""

    settings: Settings
    design: str
    number: int
    records: str
    url: str
    name: str

    def text(self) -> str:
        """As a line."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> Job:
        """What `text` made."""
        told = json.loads(text)
        settings = told.pop("settings")
        outage = settings.pop("outage")
        return Job(Settings(**settings, outage=Outage(**outage) if outage else None), **told)


def play(
    hit: Callable[[], bool], arrivals: Sequence[int], start: int, end: int, words: memoryview[int] | list[int]
) -> int:
    """Makes the calls, each at its time or as soon after as it goes; those of before this moment are not its own.

    arrivals: ns after `start`, rising; start, end: ns on the host's clock; words: of Records. Returns by how many ns
    the latest call was late.
    """
    now, sleep = SystemClock().now_ns, time.sleep
    late = 0
    for index in range(bisect_left(arrivals, now() - start), len(arrivals)):
        due = start + arrivals[index]
        if (wait := due - now()) > 0:
            sleep(wait / NS)
        before = now()
        late = max(late, before - due)
        if before >= end:
            break
        admitted = hit()
        after = now()
        words[2 * index + 1] = after - before
        words[2 * index] = after if admitted else -after
    return late


def main(say: Callable[[Mapping[str, Any]], None]) -> None:
    """The whole life of the process."""
    job = Job.read(sys.stdin.readline())
    settings = job.settings
    arrivals = settings.load_of.arrivals(job.number, settings.instances)
    records = Records(Path(job.records), len(arrivals))
    instance = DESIGNS[job.design].make(settings, job.url, job.name)
    instance.ready()
    say({"ready": instance.facts()})
    start = int(sys.stdin.readline())
    late = play(instance.hit, arrivals, start, start + round(settings.seconds * NS), records.words)
    say({"done": instance.facts() | {"late": late}})
    sys.stdin.read()
    instance.close()
    records.close()


def tell(message: Mapping[str, Any]) -> None:
    """One line for who has started this process."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    logging.getLogger("penstock").addHandler(logging.NullHandler())  # an outage is meant; stderr is for faults
    try:
        with in_words():
            main(tell)
    except PenstockError as error:
        tell({"error": str(error)})
        sys.exit(1)
