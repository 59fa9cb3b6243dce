"""The package imports and limits where only POSIX's modules and calls are missing, as on Windows, and on macOS.

No such system runs here, so a fresh process takes away what it would not have: whole modules, and names of os, time,
signal and socket. What the standard library itself makes of a system was chosen before that, and stays.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TAKE_AWAY = '''
import asyncio, importlib, io, logging, mmap, multiprocessing, os, pkgutil, runpy, signal, socket, ssl, sys, time
import concurrent.futures, http.server, subprocess, tempfile, threading, webbrowser, zoneinfo
import penstock

system = sys.argv[1]


def modules():
    """Every module of the package that can be imported, and why the others cannot."""
    why = {}
    for found in pkgutil.walk_packages(penstock.__path__, "penstock.", onerror=lambda name: None):
        if not found.name.endswith("__main__") and found.name not in compiled:
            try:
                importlib.import_module(found.name)
            except ImportError as error:
                why[found.name] = str(error)
    return why


compiled = ["penstock._anomaly", "penstock._core", "penstock._match", "penstock._records", "penstock._scan"]
sys.modules |= dict.fromkeys(compiled)  # even where they are built
plainly = modules()  # which also brings in all that they need of the standard library and of other packages
for name in [name for name in sys.modules if name.partition(".")[0] == "penstock"]:
    del sys.modules[name]
sys.modules |= dict.fromkeys(compiled)
posix = {
    os: "fork forkpty register_at_fork geteuid getuid getegid getgid getgroups fchmod fchown pread pwrite preadv"
    " pwritev set_blocking posix_fallocate O_CLOEXEC O_NOFOLLOW O_NONBLOCK O_TMPFILE O_PATH O_DIRECTORY uname statvfs"
    " sched_getaffinity getloadavg mkfifo killpg setsid WNOHANG wait4",
    time: "clock_gettime clock_gettime_ns CLOCK_MONOTONIC CLOCK_MONOTONIC_RAW CLOCK_BOOTTIME CLOCK_REALTIME",
    signal: "SIGKILL SIGSTOP SIGCONT SIGUSR1 SIGUSR2 SIGALRM SIGHUP SIGBUS setitimer alarm pthread_sigmask",
    socket: "AF_UNIX",
}
if system == "darwin":
    posix = {os: "O_TMPFILE O_PATH posix_fallocate sched_getaffinity", time: "CLOCK_BOOTTIME", signal: "SIGSTKFLT"}
    time.CLOCK_MONOTONIC_RAW = getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC)
for module, names in posix.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
if system == "win32":
    for name in "fcntl grp pwd resource termios tty pty posix syslog readline".split():
        sys.modules[name] = None
sys.platform = system
'''

USE = '''
import penstock
assert not penstock.native
lost = modules()
assert lost == plainly, {name: why for name, why in lost.items() if plainly.get(name) != why}
assert all("pip install" in why or "compiled" in why for why in lost.values()), lost

from penstock.clock import SystemClock
first = SystemClock().now_ns()
assert 0 < first <= SystemClock().now_ns()

limiter = penstock.Limiter("2/minute", "1000/hour")
assert [limiter.hit("a") for _ in range(3)] == [True, True, False]
assert limiter.check("a").retry_after > 0
try:
    penstock.Limiter("2/minute", shared="name")
except penstock.SegmentError as error:
    print("segment:", error)
try:
    import penstock.guard
except ImportError as error:
    print("guard:", error)


class Decided:
    """What an exchange needs to know of a limiter whether it can be woken."""

    wake = penstock.Limiter("1/second").wake


from penstock.sync.task import bell_of
if system == "win32":
    assert bell_of(Decided()) is None

import penstock.cli.__main__ as command
for arguments in ([], ["bench"], ["inspect"], ["replay"], ["sync-lab"]):
    try:
        command.main([*arguments, "--help"])
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
print("done")
'''


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_the_package_does_without_what_other_systems_do_not_have(system: str) -> None:
    environment = {**os.environ, "PENSTOCK_PURE": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", TAKE_AWAY + USE, system]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "done"
    assert "segment: a shared segment needs penstock's compiled core, and the plain-Python reference is in use" in lines
    assert any(line.startswith("guard: ") and "compiled" in line for line in lines)
