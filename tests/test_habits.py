"""The repository's habits: what CI calls is there and is explained, and what is said of the version is true."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).parent.parent
CI = ROOT / ".ci"
SCRIPTS = sorted([*CI.glob("*.sh"), CI / "run"])
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(workflow: Path) -> dict[str, str]:
    """The text of each job by its name."""
    text = workflow.read_text(encoding="utf-8").partition("\njobs:\n")[2]
    parts = re.split(r"^  ([\w-]+):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(job: str) -> list[str]:
    """What its steps run, folded lines as one."""
    found = re.findall(r"^ +(?:- )?run: (?:>-?\n)?(.*(?:\n {10,}.*)*)", job, re.MULTILINE)
    return [" ".join(lines.split()) for lines in found]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_calls_scripts_that_are_there(workflow: Path) -> None:
    found = jobs(workflow)
    assert found
    for name, job in found.items():
        assert "timeout-minutes:" in job, name
        assert ".ci/" in "".join(commands(job)) or "run:" not in job, f"{name} calls no script"
        for script in re.findall(r"[\w-]+\.sh\b|(?<=\.ci/)[\w-]+(?:\.py)?", job):
            assert (CI / script).exists(), f"{name}: .ci/{script}"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_and_keep_no_credentials(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    assert re.search(r"^permissions:( \{\}|\n  contents: read)$", text, re.MULTILINE)
    assert text.count("uses: actions/checkout@") == text.count("persist-credentials: false")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_stops_at_faults_and_is_explained(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert os.access(script, os.X_OK)
    assert f".ci/{script.name}" in (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_hooks_before_a_commit_ask_what_lint_asks() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    asked = re.findall(r"^ +entry: \.ci/lint\.sh ([\w-]+)$", hooks, re.MULTILINE)
    (known,) = re.findall(r"set -- (.+)$", (CI / "lint.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(asked) == sorted(known.split())


def test_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert sections[1] == penstock.__version__
