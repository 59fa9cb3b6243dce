"""What is fuzzed of the guard's scanners: each function takes any bytes at all and raises when a promise is broken.

value    one value: bounded findings, places within it, str and bytes agree, windows and repetition change nothing
pairs    a query: what is found in its names and values is what is found in each of them alone
request  a whole request with a body of some kind: evidence or none, and never an error

python scan_targets.py <target> [seconds] tries known values, and these turned about at random.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS / "guard")]

import mutate  # noqa: E402
from scan_cases import ATTACKS, HARMLESS  # noqa: E402

from penstock._scan import scan_pairs  # noqa: E402
from penstock.guard.request import Request  # noqa: E402
from penstock.guard.scan import KINDS, scan  # noqa: E402
from penstock.guard.threats import FINDINGS_MOST, Threats  # noqa: E402

KNOWN = [value.encode() for value in (*HARMLESS, *(one for values in ATTACKS.values() for one in values))]
FORM = "application/x-www-form-urlencoded"
BODIES = ("application/json", FORM, "multipart/form-data; boundary=--", "text/xml", "", "image/png")
THREATS = Threats(4, 1, exclude=[("/x", "", "")])
THREATS.add_pattern("literal", "Lit")
THREATS.add_pattern("function", lambda value: "\0" in value)


def value(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for paranoia in (1, 4):
        found, of_text = scan(data, paranoia), scan(text, paranoia)
        assert found == scan(data, paranoia), "another answer the second time"
        assert len(found) <= FINDINGS_MOST
        for one, most in [(one, len(data)) for one in found] + [(one, len(text)) for one in of_text]:
            assert 0 <= one.start <= one.end <= most, f"{one} of {most}"
            assert one.kind in KINDS
        if max(text, default="") < "\udc80":  # every byte was part of a character
            assert [one[:3] for one in found] == [one[:3] for one in of_text]


def pairs(data: bytes) -> None:
    found = scan_pairs(data, 2)
    expected = []
    for one in data.split(b"&"):
        name, _, rest = one.partition(b"=")
        of_name, of_rest = (tuple(tuple(row) for row in scan(part, 2)) if part else () for part in (name, rest))
        if of_name or of_rest:
            expected.append((name, rest, of_name, of_rest))
    assert found == tuple(expected)


def request(data: bytes) -> None:
    kind, third = BODIES[data[0] % len(BODIES)] if data else "", len(data) // 3
    text = data.decode("utf-8", "surrogateescape")
    headers = {"content-type": kind, "user-agent": text[:third], "cookie": text[third:], "referer": text}
    evidence = THREATS.look(Request(None, path=text[:third], query=text[third:], headers=headers, body=data[1:]), text)
    assert evidence is None or (evidence.value >= evidence.limit and 0 < len(evidence.findings) <= FINDINGS_MOST)


TARGETS: dict[str, Callable[[bytes], None]] = {"value": value, "pairs": pairs, "request": request}


def run(target: str, seconds: float) -> int:
    """Known values, then changes of them until the time is up; how many."""
    check, end, count = TARGETS[target], time.monotonic() + seconds, len(KNOWN)
    for data in KNOWN:
        check(data)
    for data in mutate.mutations(KNOWN, time.time_ns()):
        try:
            check(data)
        except Exception as error:
            error.add_note(f"{target}: the input is {data!r}")
            raise
        count += 1
        if time.monotonic() > end:
            break
    return count


if __name__ == "__main__":
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    print(f"{sys.argv[1]}: {run(sys.argv[1], seconds)} inputs in {seconds:.0f} s")
