"""Processes for tests of segments: forked from one that has no threads and no limiter, killed at will, and counted in
memory that outlives them.

    test -> Crowd -> the nursery (this file run as a program) -> a child for each job
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).parent
PATIENCE = 30.0
"""Seconds after which something that should have happened is a failure."""


class Tally:
    """64-bit numbers in a file that several processes have mapped. Each number is written by one process at a time."""

    def __init__(self, path: str | Path, words: int = 512) -> None:
        self.path = str(path)
        with open(self.path, "ab") as file:
            if file.tell() < 8 * words:
                file.truncate(8 * words)
        with open(self.path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * words)
        self.words = memoryview(self._map).cast("q")

    def __getitem__(self, place: int) -> int:
        return self.words[place]

    def __setitem__(self, place: int, number: int) -> None:
        self.words[place] = number

    def until(self, place: int, least: int) -> None:
        """Waits until the number is as large as that."""
        eventually(lambda: self.words[place] >= least, f"word {place} of the tally is {self.words[place]}, not {least}")


def eventually(true: Any, otherwise: str = "it did not come about") -> None:
    """Waits until true() is; an AssertionError after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, otherwise
        time.sleep(0.0005)


class Crowd:
    """The nursery, and the children that it has. Leaving the block ends them all."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-X", "faulthandler", str(Path(__file__))]
        self._nursery = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, text=True)
        self._living: set[int] = set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self._nursery.communicate(timeout=PATIENCE)

    def _ask(self, **question: Any) -> Any:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(question) + "\n")
        self._nursery.stdin.flush()
        return json.loads(self._nursery.stdout.readline())

    def start(self, job: str, *arguments: Any) -> int:
        """Runs MODULE.FUNCTION(*arguments) in a process of its own: its number."""
        pid: int = self._ask(start=job, arguments=[str(a) if isinstance(a, Path) else a for a in arguments])
        self._living.add(pid)
        return pid

    def end(self, pid: int, patience: float = PATIENCE) -> int:
        """Waits for the child to end: its exit code, or minus the signal that ended it."""
        code = self._ask(wait=pid, patience=patience)
        if code is None:
            os.kill(pid, signal.SIGABRT)  # says where it is
            self._ask(wait=pid, patience=PATIENCE)
        self._living.discard(pid)
        assert code is not None, f"process {pid} did not end"
        return int(code)

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Ends the child where it is, and waits until it is gone."""
        os.kill(pid, number)
        code = self.end(pid)
        assert code == -number, f"process {pid} had ended with {code} before it was killed"

    def run(self, job: str, *arguments: Any) -> None:
        """Runs a job to its end, which must be a good one."""
        code = self.end(self.start(job, *arguments))
        assert code == 0, f"{job}{arguments} ended with {code}"

    def clear(self) -> None:
        """Ends all children that are left."""
        for pid in list(self._living):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.end(pid)


# ---- the nursery ----


def _child(job: str, arguments: list[Any]) -> None:
    """Runs a job; never returns."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        module, function = job.split(".")
        result = getattr(importlib.import_module(module), function)(*arguments)
        code = 0 if result is None else int(result)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _gone(pid: int, patience: float) -> int | None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0003)
    return None


def _answers() -> Iterator[Any]:
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            yield _gone(question["wait"], question["patience"])
            continue
        pid = os.fork()
        if pid == 0:
            _child(question["start"], question["arguments"])
        yield pid


def main() -> None:
    sys.path.insert(0, str(HERE))
    for module in ("jobs", "penstock.segment.file", "penstock.segment.listener", "penstock.segment.fork", "numpy"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for answer in _answers():
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
