"""Events: the gravest first, bounds that hold, no clear address anywhere, callbacks that fail alone, forks and ends."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.clock import ManualClock
from penstock.guard.events import TEXT_MOST, Event, EventCounts, Events, printable, pseudonym
from penstock.guard.verdict import Action, Evidence, Severity, Technique

SECRET = bytes(range(16))
LOW, MEDIUM, HIGH, CRITICAL = Severity
ADDRESS = "192.0.2.77"


class Held:
    """A callback that waits until it is let go, and remembers what it was told."""

    def __init__(self) -> None:
        self.go, self.reached, self.told = threading.Event(), threading.Event(), []

    def __call__(self, event: Event) -> None:
        self.reached.set()
        assert self.go.wait(20)
        self.told.append(event.kind)


def held(**options: Any) -> tuple[Held, Events]:
    """Events whose thread is busy with a first one, so that what follows waits."""
    callback = Held()
    events = Events(callback, secret=SECRET, **options)
    events.emit("first", LOW)
    assert callback.reached.wait(20)
    return callback, events


def test_an_event_as_it_is_told() -> None:
    found: list[Event] = []
    clock = ManualClock(1_763_780_000.5)
    events = Events(found.append, secret=SECRET, clock=clock)
    evidence = Evidence("flood", HIGH, f"51 in 1 s from {ADDRESS}", 51, 50, f"ip:{ADDRESS}", Technique.IP_ROTATION)
    events.emit("ban", HIGH, ADDRESS, Action.BAN, [evidence], request="r1", method="GET", path="/a")
    assert events.flush(20)
    name = pseudonym(SECRET, ADDRESS)
    clean = evidence._replace(detail=f"51 in 1 s from {name}", key=f"ip:{name}")
    assert found == [Event(1_763_780_000.5, "ban", HIGH, name, Action.BAN, (clean,), "r1", "GET", "/a")]
    assert events.recent() == found
    assert events.counts() == EventCounts(0, 0, 1, 0, 1)
    events.close()


def test_the_gravest_first_and_each_severity_in_order() -> None:
    callback, events = held()
    for number in range(2):
        for severity in Severity:
            events.emit(f"{severity.name} {number}", severity)
    callback.go.set()
    assert events.flush(20)
    expected = [f"{severity.name} {number}" for severity in (CRITICAL, HIGH, MEDIUM, LOW) for number in range(2)]
    assert callback.told == ["first", *expected]
    events.close()


def test_when_full_the_oldest_of_the_least_severe_goes() -> None:
    callback, events = held(capacity=3)
    events.emit("high", HIGH)
    events.emit("low 1", LOW)
    events.emit("low 2", LOW)
    events.emit("low 3", LOW)  # for low 1
    events.emit("critical", CRITICAL)  # for low 2
    events.emit("medium", MEDIUM)  # for low 3
    events.emit("low 4", LOW)  # the least itself
    assert events.counts()[:2] == (3, 4)
    callback.go.set()
    assert events.flush(20)
    assert callback.told == ["first", "critical", "high", "medium"]
    events.close()


def test_a_flood_is_told_at_its_pace_and_the_rest_dropped() -> None:
    events = Events(secret=SECRET, capacity=100, pace=10)
    for _ in range(5_000):
        events.emit("flood", LOW, ADDRESS)
    counts = events.counts()
    assert counts.queued <= 100
    assert counts.dropped >= 4_000
    assert counts.told + counts.queued + counts.dropped == 5_000
    events.close(20)
    assert events.counts().queued == 0


def test_no_clear_address_is_logged_or_kept(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(secret=SECRET)
    evidence = [Evidence("rotation", HIGH, f"{ADDRESS} and more", key=f"user:ada@{ADDRESS}")] * 20
    with caplog.at_level(logging.DEBUG, "penstock.guard"):
        events.emit("found", HIGH, ADDRESS, evidence=evidence, path=f"/x?{ADDRESS}", method=ADDRESS, request=ADDRESS)
        events.emit("found", HIGH, ADDRESS, path="/" * 195 + ADDRESS * 50)
        assert events.flush(20)
    assert len(caplog.records) == 2
    assert ADDRESS[:8] not in repr(events.recent())
    for record in caplog.records:
        assert ADDRESS[:8] not in record.getMessage() + repr(record.__dict__)
    assert len(events.recent()[1].evidence) == 8
    events.close()


def test_an_address_is_hashed_as_it_is_given_and_hidden_in_texts_without_its_kind() -> None:
    events = Events(secret=SECRET)
    evidence = Evidence("flood", HIGH, f"from {ADDRESS}", key=f"ip:{ADDRESS}")
    events.emit("ban", HIGH, f"ip:{ADDRESS}", evidence=[evidence], path=f"/?from={ADDRESS}")
    assert events.flush(20)
    (event,) = events.recent()
    name = pseudonym(SECRET, f"ip:{ADDRESS}")
    assert (event.address, event.path) == (name, f"/?from={name}")
    assert event.evidence[0][2:6] == (f"from {name}", 0, 0, f"ip:{name}")
    assert events.forget(name) == 1
    events.close()


def test_the_log_is_structured(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(secret=SECRET)
    with caplog.at_level(logging.DEBUG, "penstock.guard"):
        for severity in Severity:
            events.emit("found", severity, ADDRESS, Action.TARPIT, [Evidence("scan", severity, "sqli")], path="/login")
            assert events.flush(20)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "ERROR", "CRITICAL"]
    assert {record.name for record in caplog.records} == {"penstock.guard"}
    told = json.loads(json.dumps(caplog.records[3].guard))  # type: ignore[attr-defined]
    assert told["severity"] == "CRITICAL"
    assert told["action"] == "tarpit"
    assert told["evidence"][0]["detector"] == "scan"
    name = pseudonym(SECRET, ADDRESS)
    assert caplog.records[3].getMessage() == f"found: tarpit /login from {name} (scan: sqli)"
    events.close()


def test_a_log_line_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    events = Events(secret=SECRET)
    evil = "a\nCRITICAL fake\r\x1b[2J\u202e\0\udcff"
    with caplog.at_level(logging.DEBUG, "penstock.guard"):
        evidence = [Evidence(evil, LOW, evil, key=evil)]
        events.emit(evil, LOW, evil, evidence=evidence, path=evil, method=evil, request=evil)
        assert events.flush(20)
    message = caplog.records[0].getMessage()
    assert message.isprintable()
    assert "a\\nCRITICAL" in message
    for text in (events.recent()[0].path, events.recent()[0].request, events.recent()[0].evidence[0].key):
        assert text.isprintable()
    events.close()


@given(st.text(), st.integers(0, 40))
def test_printable_text(text: str, most: int) -> None:
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) <= 10 * most + 1
    if text.isprintable() and "\\" not in text and len(text) <= most:
        assert shown == text


def test_huge_texts_wait_in_little_memory() -> None:
    callback, events = held()
    huge = "x" * 131_072
    events.emit(huge, LOW, huge, evidence=[Evidence(huge, LOW, huge, key=huge)], path=huge, method=huge, request=huge)
    waiting = events._waiting[0][0]
    texts = [one for one in (*waiting, *waiting.evidence[0]) if isinstance(one, str)]
    assert sum(map(len, texts)) < 2_000
    callback.go.set()
    assert events.flush(20)
    assert all(len(text) <= TEXT_MOST + 1 for text in events.recent()[0] if isinstance(text, str))
    events.close()


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemExit, asyncio.CancelledError])
def test_a_callback_that_raises_is_counted_and_said_once(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def callback(event: Event) -> None:
        raise error("secret of the application")

    events = Events(callback, secret=SECRET)
    for _ in range(5):
        events.emit("found", LOW)
    assert events.flush(20)
    assert events.counts().failed == 5
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1
    assert error.__name__ in said[0]
    assert "secret" not in said[0]
    assert len(events.recent()) == 5
    events.close()


def test_evidence_that_is_none_fails_alone() -> None:
    found: list[Event] = []
    events = Events(found.append, secret=SECRET)
    events.emit("bad", HIGH, evidence=[Evidence("own", HIGH, "text", findings=3)])  # type: ignore[arg-type]
    events.emit("good", LOW)
    assert events.flush(20)
    assert [event.kind for event in found] == ["good"]
    assert events.counts()[2:4] == (2, 1)
    events.close()


def test_a_coroutine_is_run() -> None:
    found: list[str] = []

    async def callback(event: Event) -> None:
        await asyncio.sleep(0)
        found.append(event.kind)
        if event.kind == "bad":
            raise ValueError

    events = Events(callback, secret=SECRET)
    for kind in ("one", "bad", "two"):
        events.emit(kind, LOW)
    assert events.flush(20)
    assert found == ["one", "bad", "two"]
    assert events.counts().failed == 1
    events.close()


def test_a_coroutine_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.guard.events.CALLBACK_S", 0.01)
    found: list[str] = []

    async def callback(event: Event) -> None:
        found.append(event.kind)
        await asyncio.Event().wait()

    events = Events(callback, secret=SECRET)
    events.emit("one", LOW)
    events.emit("two", LOW)
    assert events.flush(20)
    assert found == ["one", "two"]
    assert events.counts().failed == 2
    events.close()


def test_what_is_kept_ends() -> None:
    clock = ManualClock(1_000_000)
    events = Events(secret=SECRET, retention=60, clock=clock)
    events.emit("old", CRITICAL)
    assert events.flush(20)
    clock.advance(59)
    events.emit("new", LOW)
    assert events.flush(20)
    assert [event.kind for event in events.recent()] == ["new", "old"]
    assert [event.kind for event in events.recent(1)] == ["new"]
    assert [event.kind for event in events.recent(severity=HIGH)] == ["old"]
    clock.advance(2)
    assert [event.kind for event in events.recent()] == ["new"]
    clock.advance(60)
    assert events.recent() == []
    assert events.counts().kept == 0
    events.close()


def test_a_flood_does_not_push_out_what_is_grave() -> None:
    events = Events(secret=SECRET, keep=10, pace=1_000_000)
    events.emit("grave", CRITICAL)
    for number in range(100):
        events.emit(f"low {number}", LOW)
    assert events.flush(20)
    kinds = [event.kind for event in events.recent()]
    assert len(kinds) == 10
    assert "grave" in kinds
    assert "low 99" in kinds
    events.close()


def test_forgetting() -> None:
    callback, events = held()
    name = pseudonym(SECRET, ADDRESS)
    events.emit("waits", HIGH, ADDRESS)
    events.emit("other", HIGH, "192.0.2.78")
    assert events.forget(name) == 1
    events.emit("by its key", HIGH, None, evidence=[Evidence("x", HIGH, "", key=f"ip:{ADDRESS}")])
    callback.go.set()
    assert events.flush(20)
    assert [event.kind for event in events.recent(severity=HIGH)] == ["by its key", "other"]
    assert events.forget(name) == 1
    assert [event.kind for event in events.recent(severity=HIGH)] == ["other"]
    assert events.forget(name) == 0
    events.close()


def test_pseudonyms() -> None:
    assert pseudonym(SECRET, ADDRESS) == pseudonym(SECRET, ADDRESS)
    assert pseudonym(SECRET, ADDRESS) != pseudonym(SECRET, "192.0.2.78")
    assert pseudonym(SECRET, ADDRESS) != pseudonym(SECRET[::-1], ADDRESS)
    assert len(pseudonym(b"x" * 500, "\udcff")) == 16
    assert pseudonym(b"x" * 500, "a") != pseudonym(b"x" * 501, "a")
    assert Events().secret != Events().secret


def test_nothing_runs_before_there_is_something_to_tell() -> None:
    threads = threading.active_count()
    events = Events(secret=SECRET)
    assert threading.active_count() == threads
    events.emit("one", LOW)
    assert events.flush(20)
    assert threading.active_count() == threads + 1
    events.close()
    assert threading.active_count() == threads


def test_closing_tells_what_waits_and_ends() -> None:
    found: list[Event] = []
    events = Events(found.append, secret=SECRET, pace=1_000_000)
    for _ in range(50):
        events.emit("one", LOW)
    events.close(20)
    assert len(found) == 50
    events.emit("late", LOW)
    assert events.counts()[:2] == (0, 1)
    events.close()


def test_closing_from_the_callback_does_not_hang() -> None:
    made: list[Events] = []
    events = Events(lambda event: made[0].close(), secret=SECRET)
    made.append(events)
    events.emit("one", LOW)
    assert events._thread is not None
    events._thread.join(20)
    assert not events._thread.is_alive()


def test_a_forgotten_one_is_collected_and_its_thread_ends() -> None:
    events = Events(secret=SECRET)
    events.emit("one", LOW)
    assert events.flush(20)
    thread, reference = events._thread, weakref.ref(events)
    assert thread is not None
    del events
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    assert reference() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_tells_only_its_own() -> None:
    code = """
import os, sys, threading
from penstock.guard.events import Events
from penstock.guard.verdict import Severity
go = threading.Event()
told = []
def callback(event):
    if os.getpid() == parent:
        go.wait(20)
    told.append(event.kind)
parent = os.getpid()
events = Events(callback)
events.emit("busy", Severity.LOW)
events.emit("waits", Severity.LOW)
child = os.fork()
if child == 0:
    events.emit("child", Severity.LOW)
    ok = events.flush(20) and told == ["child"]
    os._exit(0 if ok else 3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
go.set()
assert events.flush(20) and told == ["busy", "waits"], told
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_end_of_the_process_tells_what_waits() -> None:
    code = """
from penstock.guard.events import Events
from penstock.guard.verdict import Severity
events = Events(lambda event: print(event.kind), pace=1000000)
for _ in range(20):
    events.emit("told", Severity.HIGH)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.split() == ["told"] * 20


def test_many_threads_lose_nothing_uncounted() -> None:
    events = Events(secret=SECRET, capacity=64, pace=1_000_000)

    def work() -> None:
        for number in range(500):
            events.emit("one", Severity(1 + number % 4), ADDRESS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events.flush(20)
    counts = events.counts()
    assert counts.told + counts.dropped == 2_000
    assert counts.queued == 0
    events.close()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"on_event": 3}, TypeError, "on_event must be callable or None, not int"),
        ({"capacity": 0}, ValueError, "capacity=0 must be from 1 to 1048576 events"),
        ({"capacity": 2.0}, TypeError, "capacity must be an int, not float"),
        ({"keep": -1}, ValueError, "keep=-1"),
        ({"retention": -1}, ValueError, "retention=-1"),
        ({"secret": b"short"}, ValueError, "secret has 5 bytes; at least 16"),
        ({"secret": "x" * 16}, TypeError, "secret must be bytes, not str"),
        ({"pace": 0}, ValueError, "pace=0"),
        ({"pace": float("nan")}, ValueError, "pace=nan"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Events(**options)


def test_recent_checks_its_number() -> None:
    with pytest.raises(ValueError, match="n=-1"):
        Events().recent(-1)
