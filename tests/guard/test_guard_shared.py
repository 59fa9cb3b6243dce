"""One guard for all workers of a host: counts, bans, lists and emergency mode cross processes and outlive them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from visitors import ADDRESS, ask

from penstock import SegmentError
from penstock._core import CAN_SHARE
from penstock.guard import Guard, Request
from penstock.segment.options import Segment

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="segments are there on Linux only")

CONFIG = {
    "ddos": {"per_second": 0, "per_minute": 1000, "behaviour": 0, "in_flight": 4},
    "limits": {"everyone": None, "user": None, "address": "1000/hour"},
    "addresses": True,
    "clients": 256,
}


@pytest.fixture
def segment(segment_folder: Path) -> Segment:
    return Segment(path=segment_folder / "guard")


def worker(segment: Segment, code: str) -> subprocess.Popen[str]:
    """Another process with a guard on the same segment; says "ready" once it has it."""
    program = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from visitors import *\n"
        "from penstock.segment.options import Segment\n"
        f"guard = Guard({CONFIG!r}, shared=Segment(path={segment.path!r}))\n"
        "print('ready', flush=True)\n" + code
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out.removeprefix("ready\n").strip()


@pytest.mark.parametrize("preset", ["web", "api", "login", "iot", "strict"])
def test_a_preset_fits_into_the_shared_memory_of_a_container(preset: str, segment: Segment) -> None:
    """Docker gives it 64 MB, and the limiters of the application want some of it."""
    with Guard(preset, shared=segment):
        taken = sum(path.stat().st_size for path in Path(segment.path).parent.iterdir())
    assert 20_000_000 < taken < 48_000_000


def test_counts_bans_and_lists_are_one(segment: Segment) -> None:
    with Guard(CONFIG, shared=segment) as guard:
        for _ in range(300):
            assert ask(guard)
        code = (
            "admitted = sum(bool(ask(guard)) for _ in range(1500))\n"
            "guard.ban('198.51.100.1', 60); guard.deny('198.51.100.2', 'a test'); guard.emergency(True)\n"
            "print(admitted)"
        )
        assert said(worker(segment, code)) == "700"
        assert ask(guard, "198.51.100.1").kind == "banned"
        assert ask(guard, "198.51.100.2").kind == "ip_blocked"
        assert guard.emergency_on
        assert [one.value for one in guard.bans()] == ["ip:198.51.100.1"]
        statistics = guard.status()["statistics"]
        assert statistics["total_requests"] == 300 + 1500 + 2
        assert statistics["blocked_requests"] == 800 + 2
        guard.allow("198.51.100.2", "not so bad")
        assert said(worker(segment, "print(ask(guard, '198.51.100.2').kind, guard.assess('198.51.100.2').listed)")) == (
            "allow 198.51.100.2"
        )
        assert guard.unlist("198.51.100.2")
        assert ask(guard, "198.51.100.2")


def test_processes_killed_at_random_lose_nothing_but_their_last_event(segment: Segment) -> None:
    with Guard(CONFIG | {"ddos": False}, shared=Segment(path=segment.path + "2")) as other:
        assert ask(other)
    with Guard(CONFIG, shared=segment) as guard:
        code = "while True:\n    request = Request('192.0.2.9')\n"
        code += "    with guard.flight(request):\n        guard.inspect(request)\n"
        for _ in range(6):
            workers = [worker(segment, code) for _ in range(2)]
            for one in workers:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            time.sleep(0.1)
            for one in workers:
                os.kill(one.pid, signal.SIGKILL)
                one.wait()
                assert one.stdout is not None
                one.stdout.close()
        until = time.monotonic() + 10  # what dead processes had in flight comes back
        while True:
            request = Request("192.0.2.9")
            with guard.flight(request):
                if guard.inspect(request).kind != "in_flight":
                    break
            assert time.monotonic() < until
            time.sleep(0.05)
        assert ask(guard, "192.0.2.10")
        guard.ban(ADDRESS, 60)
        assert ask(guard).kind == "banned"


def test_another_configuration_is_refused(segment: Segment) -> None:
    with Guard(CONFIG, shared=segment), pytest.raises(SegmentError, match="counts other things"):
        Guard(CONFIG | {"bypass": True}, shared=segment)
    with Guard(CONFIG, shared=segment), pytest.raises(SegmentError, match="clients 256, not 512"):
        Guard(CONFIG | {"clients": 512}, shared=segment)


def test_a_limiters_segment_is_none_of_a_guards(segment: Segment) -> None:
    from penstock import Limiter

    limiter = Limiter("5/minute", shared=segment)
    with pytest.raises(SegmentError, match="cannot read"):
        Guard(CONFIG, shared=segment)
    limiter.close()


def test_a_file_that_is_cut_off_ends_in_no_crash(segment: Segment, caplog: pytest.LogCaptureFixture) -> None:
    with Guard(CONFIG, shared=segment) as guard:
        assert ask(guard)
        os.truncate(segment.path, 0)
        for _ in range(50):
            ask(guard)
        assert "cut off" in guard.status()["health"]["shared"]


def test_lists_that_are_damaged_stay_as_they_were(segment: Segment, caplog: pytest.LogCaptureFixture) -> None:
    with Guard(CONFIG, shared=segment) as guard:
        guard.deny("198.51.100.2")
        Path(segment.path + ".lists").write_text("{ no json")
        guard._records.changed()
        assert ask(guard, "198.51.100.2").kind == "ip_blocked"
        assert "cannot be read" in caplog.text
