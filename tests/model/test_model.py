"""Every model must hold under both memory models, every broken protocol must be found out, and the explorer itself must
know the programs of the literature.

README.md says what is checked, and RESULTS.md has the numbers. Marked soak: the large models, and all of them with two
threads that may be stopped for ever.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from checker import CC, MEMORIES, build, build_explorer, build_mutant, explore, models, run, scenes
from mutants import MUTANTS, SURVIVORS, Mutant

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler: set CC")

MODELS = models()
SOAK = {model.name for model in MODELS if model.soak}
LITMUS = (
    *("sb-seq", "sb-acquire", "mp", "mp-relaxed-store", "mp-relaxed-load", "coherence", "pair", "pair-relaxed"),
    *("count-exchange", "count-add", "count-store", "orders"),
)

Programs = dict[str, Future[Path]]


def marked(model: str) -> Any:
    """The model as a parameter that is marked soak if the model is."""
    return pytest.param(model, marks=[pytest.mark.soak] if model in SOAK else [])


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The models, the litmus tests and every mutant (by its name), compiled as processors are free."""
    folder = tmp_path_factory.mktemp("model")
    explorer = build_explorer(folder)
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    futures = {source: pool.submit(build, folder, source, explorer) for source in ("protocols", "holds", "litmus")}
    for number, mutant in enumerate([*MUTANTS, *SURVIVORS]):
        own = folder / f"mutant-{number}"
        own.mkdir()
        futures[mutant.name] = pool.submit(build_mutant, own, mutant, explorer)
    pool.shutdown(wait=False)
    return futures


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", LITMUS)
def test_explorer_knows(name: str, memory: str, programs: Programs) -> None:
    done = run(programs["litmus"].result(), name, memory, seconds=60)
    assert done.holds, done.output


@pytest.mark.parametrize("memory", MEMORIES)
def test_explorer_reports_a_thread_that_waits(memory: str, programs: Programs) -> None:
    done = run(programs["litmus"].result(), "waits", memory, seconds=60)
    assert "does not end within" in done.verdict


def test_every_model_is_run(programs: Programs) -> None:
    listed = run(programs["protocols"].result(), "list", seconds=60).output.splitlines()
    assert [line.split("\t")[0] for line in listed] == [model.name for model in MODELS]


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", [marked(model.name) for model in MODELS])
def test_model_holds(name: str, memory: str, programs: Programs) -> None:
    done = explore(programs["protocols"].result(), name, memory, seconds=3600 if name in SOAK else 300)
    assert done.holds, done.output


def test_every_scene_is_run(programs: Programs) -> None:
    assert run(programs["holds"].result(), "list", seconds=60).output.split() == scenes()


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", scenes())
def test_what_the_dead_held_comes_back(name: str, memory: str, programs: Programs) -> None:
    done = explore(programs["holds"].result(), name, memory)
    assert done.holds, done.output


@pytest.mark.soak
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_model_holds_with_two_stopped(name: str, memory: str, programs: Programs) -> None:
    done = explore(programs["protocols"].result(), name, memory, stops=2, seconds=3600)
    assert done.holds, done.output


@pytest.mark.parametrize(
    ("mutant", "model", "memory"),
    [
        pytest.param(mutant, model, memory, id=f"{mutant.name}-{model}-{memory}")
        for mutant in MUTANTS
        for model, memory in mutant.killers
    ],
)
def test_broken_protocol_is_found_out(mutant: Mutant, model: str, memory: str, programs: Programs) -> None:
    done = explore(programs[mutant.name].result(), model, memory)  # soon over, even where the model is a large one
    assert not done.holds
    assert done.verdict.startswith("violated: ")


@pytest.mark.parametrize("mutant", SURVIVORS, ids=lambda mutant: mutant.name)
def test_survivor_still_compiles(mutant: Mutant, programs: Programs) -> None:
    programs[mutant.name].result()


def test_every_mutant_has_a_killer_and_every_protocol_two_mutants() -> None:
    assert not [mutant.name for mutant in MUTANTS if not mutant.killers]
    killed = [mutant.protocol for mutant in MUTANTS]
    assert not [protocol for protocol in ("holds", *(model.protocol for model in MODELS)) if killed.count(protocol) < 2]
