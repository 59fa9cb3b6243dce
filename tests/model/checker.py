"""Compiles the models over the headers, as they are or broken, and runs them.

CC names the compiler (default gcc). By hand, in this folder:

    gcc -std=gnu11 -O2 -mcx16 '-DPENSTOCK_MODEL="words.h"' -I. -I../../ext protocols.c explore.c -o protocols
    ./protocols list
    ./protocols claim-same c11 1        # model, memory model, threads that may be stopped for ever
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from mutants import Mutant

HERE = Path(__file__).parent
EXT = HERE.parent.parent / "ext"
CC = shutil.which(os.environ.get("CC", "gcc"))
MACHINE = ["-mcx16"] if platform.machine() in ("x86_64", "amd64", "AMD64") else []
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", *MACHINE, '-DPENSTOCK_MODEL="words.h"']
LOOSE = ["-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-but-set-variable", "-Wno-unused-parameter"]
"""No program uses all of a header's functions, and what a mutant no longer uses is not its fault."""

MEMORIES = ("sc", "c11")
"""Memory models: sequentially consistent, and C11 (see explore.h)."""
STOPS = 1
"""Threads that may be stopped for ever in an ordinary run. Runs in which none is are among those with one."""


class Model(NamedTuple):
    """One entry of models.h."""

    name: str
    protocol: str
    soak: bool


class Outcome(NamedTuple):
    """How a run ended: the first line of what it says, all of it, and its sizes (empty unless the model holds)."""

    holds: bool
    verdict: str
    output: str
    sizes: dict[str, float]


def models() -> list[Model]:
    """All models, in the order of models.h, each with the protocol under whose heading it stands."""
    found = []
    parts = re.split(r"/\* ---- ([a-z]+) ---- \*/", (HERE / "models.h").read_text())
    for protocol, text in zip(parts[1::2], parts[2::2], strict=True):
        for name, rest in re.findall(r'\{\.name = "([a-z-]+)"((?:.(?!\.name = ))*)', text, re.DOTALL):
            found.append(Model(name, protocol, ".soak = true" in rest))
    return found


def scenes() -> list[str]:
    """The names of all scenes of holds.c."""
    return re.findall(r'\{\.name = "([a-z-]+)"', (HERE / "holds.c").read_text())


def compile_c(arguments: list[str]) -> None:
    """One run of the compiler; its errors and warnings are ours."""
    assert CC is not None
    done = subprocess.run([CC, *FLAGS, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def build_explorer(folder: Path) -> Path:
    """The explorer alone: no mutant changes it."""
    out = folder / "explore.o"
    compile_c(["-O2", f"-I{HERE}", "-c", str(HERE / "explore.c"), "-o", str(out)])
    return out


def build(folder: Path, source: str, explorer: Path) -> Path:
    """protocols.c, holds.c or litmus.c over the headers as they are; `source` without its suffix."""
    out = folder / source
    include = [f"-I{HERE}", f"-I{EXT}"]
    program = str(HERE / f"{source}.c")
    compile_c(["-O2", "-Wno-unused-function", *include, program, str(explorer), "-lm", "-o", str(out)])
    return out


def build_mutant(folder: Path, mutant: Mutant, explorer: Path) -> Path:
    """The mutant's program over broken copies of the headers. A change whose text is not there exactly once is an
    error."""
    shutil.copytree(EXT, folder / "ext", ignore=shutil.ignore_patterns("*.pyx", "*.pxd", "*.md"))
    for name in ("protocols.c", "holds.c", "models.h", "explore.h", "spec.h", "words.h"):
        shutil.copy(HERE / name, folder)
    for name, text, broken in mutant.changes:
        path = folder / name if name == "words.h" else folder / "ext" / name
        whole = path.read_text()
        assert whole.count(text) == 1, f"{name} has this {whole.count(text)} times:\n{text}"
        path.write_text(whole.replace(text, broken))
    out = folder / mutant.program
    # Its runs are short, as they end with the first violation: compiling takes longer than what optimisation gains.
    include = [f"-I{folder}", f"-I{folder / 'ext'}"]
    compile_c(["-O0", *LOOSE, *include, str(folder / f"{mutant.program}.c"), str(explorer), "-lm", "-o", str(out)])
    return out


def run(program: Path, *arguments: str, seconds: float) -> Outcome:
    """Runs to the end; one that takes longer than `seconds` is an error."""
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=seconds)
    assert done.returncode in (0, 1), f"ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}"
    verdict = next((line for line in done.stdout.splitlines() if line.startswith(("holds", "violated"))), "")
    sizes = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.e+]+)", verdict)}
    return Outcome(done.returncode == 0, verdict, done.stdout, sizes if done.returncode == 0 else {})


def explore(program: Path, model: str, memory: str, stops: int = STOPS, seconds: float = 300) -> Outcome:
    """Explores a model to the end or to the first violation."""
    return run(program, model, memory, str(stops), seconds=seconds)
