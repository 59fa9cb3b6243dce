"""The processes of one design: started, set off together, hurt as asked, and heard to the end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from penstock.clock import NS, SystemClock
from penstock.lab import records
from penstock.lab.errors import LabError
from penstock.lab.instance import Job
from penstock.lab.records import Answer

PROGRAM = (sys.executable, "-m", "penstock.lab.instance")
READY_S, DONE_S, GONE_S = 60.0, 30.0, 5.0
"""How long a process may take to be ready, to end after its last call, and to let go."""

now_ns = SystemClock().now_ns


class Process:
    """One instance. said: its messages, None after the last."""

    def __init__(self, job: Job, folder: Path, program: Sequence[str]) -> None:
        self.job = job
        self.facts: list[dict[str, Any]] = []
        self.killed = False
        self._errors = folder / f"{job.design}-{job.number}.log"
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
            )
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()
        self.tell(job.text())

    def tell(self, line: str) -> None:
        """Writes a line to it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and `hear` says why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def hear(self, what: str, end: float) -> None:
        """Waits for a message until then, on the monotonic clock. Raises LabError when it does not come."""
        try:
            said = self._said.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise LabError(f"instance {self.job.number} of {self.job.design} is not {what} in time") from None
        if said is None or what not in said:
            told = (said or {}).get("error") or self._errors.read_text(errors="replace").strip()[-1000:] or "it ended"
            raise LabError(f"instance {self.job.number} of {self.job.design}: {told}")
        self.facts.append(said[what])

    def pause(self) -> None:
        """It stands still."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self.killed = True
        self._process.kill()

    def leave(self) -> None:
        """Has it settle and end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def gone(self) -> None:
        """Waits until it has ended, and ends it where it does not."""
        try:
            self._process.wait(GONE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.leave()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)


class Fleet:
    """Inside `with`, any number of processes; none is left behind. folder: for their files."""

    def __init__(self, folder: Path, program: Sequence[str] = PROGRAM) -> None:
        self._folder = folder
        self._program = program
        self.start = 0
        self.members: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            if kind is None:
                member.leave()
            else:
                member.kill()
        for member in self.members:
            member.gone()

    def join(self, job: Job) -> Process:
        """Starts one more; one that comes late sets off as soon as it can."""
        member = Process(job, self._folder, self._program)
        self.members.append(member)
        if self.start:
            member.tell(str(self.start))
        return member

    def ready(self) -> None:
        """Waits until all can be asked. Raises LabError."""
        end = time.monotonic() + READY_S
        for member in self.members:
            member.hear("ready", end)

    def set_off(self, after_s: float = 0.2) -> None:
        """All begin together, so soon."""
        self.start = now_ns() + round(after_s * NS)
        for member in self.members:
            member.tell(str(self.start))

    def play(self, events: Sequence[tuple[float, Callable[[], object]]], seconds: float) -> None:
        """Lets them play, so long, and does each event at its time, seconds from the start. Raises LabError."""
        for second, act in sorted(events, key=lambda event: event[0]):
            self._sleep(second)
            act()
        self._sleep(seconds)
        end = time.monotonic() + DONE_S
        for member in self.members:
            if not member.killed:
                if not member.facts:
                    member.hear("ready", end)
                member.hear("done", end)

    def answers(self) -> list[Sequence[Answer]]:
        """What each was asked, and when."""
        return [records.read(Path(member.job.records)) for member in self.members]

    def _sleep(self, second: float) -> None:
        while (wait := self.start + round(second * NS) - now_ns()) > 0:
            time.sleep(wait / NS)
