"""After a fork: a shared limiter is one for all, a private one each child's own; seats and holds are apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from crowd import Crowd


@pytest.mark.parametrize(
    "job",
    [
        "fork_shares",
        "fork_holds",
        "fork_outlives",
        "fork_while_waiting",
        "fork_clears_dead",
        "fork_without_seats",
        "fork_beside_a_broken_one",
        "descriptors_after_forks",
    ],
)
def test_after_a_fork(crowd: Crowd, path: Path, job: str) -> None:
    crowd.run(f"jobs.{job}", path)


def test_a_private_limiter_is_each_childs_own(crowd: Crowd) -> None:
    crowd.run("jobs.fork_private")


def test_another_process_of_the_same_number(crowd: Crowd, path: Path) -> None:
    code = crowd.end(crowd.start("jobs.pid_reuse", path))
    if code == 77:
        pytest.skip("a process number cannot be chosen here: /proc/sys/kernel/ns_last_pid")
    assert code == 0
