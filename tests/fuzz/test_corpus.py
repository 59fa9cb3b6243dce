"""The fuzzers' targets over the inputs that are kept, and for a few seconds over random changes of them.

What a fuzzer finds with the coverage in view, for as long as one likes, is .ci/fuzz.sh; see README.md here.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutate import CORPUS, corpus, mutations
from targets import TARGETS, remove_file

HERE = Path(__file__).parent
CC = shutil.which(os.environ.get("CC", "gcc"))
SECONDS = 0.7
"""For random inputs, each target; marked soak, ninety times that."""
NEED_BOTH = {"keys", "columns", "history", "saved"}


@pytest.fixture(scope="module", autouse=True)
def _file() -> Iterator[None]:
    yield
    remove_file()


def run(target: str, seconds: float) -> int:
    check, known, seed = TARGETS[target], corpus(target), time.time_ns()
    for data in known:
        check(data)
    end, count = time.monotonic() + seconds, 0
    for data in mutations(known, seed):
        try:
            check(data)
        except Exception as error:
            error.add_note(f"{target}: the input is {data!r}")
            raise
        count += 1
        if time.monotonic() > end:
            break
    return count


@pytest.mark.parametrize("target", TARGETS)
def test_target(target: str, request: pytest.FixtureRequest) -> None:
    if target in NEED_BOTH:
        request.getfixturevalue("both")
    assert run(target, SECONDS) > 10


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_target_for_long(target: str, request: pytest.FixtureRequest) -> None:
    if target in NEED_BOTH:
        request.getfixturevalue("both")
    run(target, 90 * SECONDS)


def test_every_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {*TARGETS, "core"}
    assert all(corpus(target) for target in (*TARGETS, "core"))
    assert sum(len(data) for path in CORPUS.iterdir() for data in corpus(path.name)) < 100_000


@pytest.mark.usefixtures("both")
def test_a_broken_promise_is_found() -> None:
    """The targets do look: with another grammar, hash or engine they fail within a few inputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("targets.GRAMMAR", __import__("re").compile("(?P<count>x)(?P<multiple>)(?P<unit>)(?P<burst>)"))
        with pytest.raises(AssertionError):
            run("rate", 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("targets.fingerprint", lambda secret, key: 2)
        with pytest.raises(AssertionError):
            run("keys", 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("targets.time_ns", lambda text: 0)
        with pytest.raises(AssertionError):
            run("times", 5)


@pytest.mark.skipif(CC is None, reason="no C compiler: set CC")
@pytest.mark.parametrize("broken", [False, True])
def test_core(broken: bool, tmp_path: Path) -> None:
    """core.c over its corpus and random inputs; and over one that is off by one, which must be seen."""
    ext = HERE.parent.parent / "ext"
    if broken:
        ext = tmp_path / "ext"
        shutil.copytree(HERE.parent.parent / "ext", ext)
        header = ext / "algorithms" / "concurrency.h"
        right = header.read_text()
        wrong = right.replace("held <= p->limit - cost", "held < p->limit - cost")
        assert wrong != right
        header.write_text(wrong)
    machine = ["-mcx16"] if platform.machine() in ("x86_64", "amd64", "AMD64") else []
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", *machine, "-DSTANDALONE"]
    program = tmp_path / "core"
    command = [str(CC), *flags, f"-I{HERE.parent / 'native'}", f"-I{ext}", str(HERE / "core.c"), "-o", str(program)]
    subprocess.run([*command, "-lpthread", "-lm"], check=True, timeout=300)
    inputs = [str(path) for path in sorted((CORPUS / "core").iterdir())]
    seed = str(time.time_ns() % 10**9)
    done = subprocess.run([str(program), "1000", seed, *inputs], capture_output=True, text=True, timeout=120)
    assert (done.returncode != 0) == broken, f"seed {seed}: {done.stdout}{done.stderr}"
