"""Celery tasks with a limit, run by real workers in several processes over a broker of files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import needed

needed("celery")

from celery import Celery  # noqa: E402

from penstock import Limiter, RateLimited, native  # noqa: E402
from penstock.integrations.celery import LimitedTask  # noqa: E402

APPLICATION = """
import os
import signal
import time
from pathlib import Path
from celery import Celery
from penstock import Limiter, TokenBucket
from penstock.integrations.celery import LimitedTask

here = Path(__file__).parent
for name in "queue", "control", "results":
    (here / name).mkdir(exist_ok=True)
app = Celery("application", broker="filesystem://", backend=f"file://{here}/results")
app.conf.broker_transport_options = {
    "data_folder_in": here / "queue", "data_folder_out": here / "queue", "control_folder": here / "control",
    "polling_interval": 0.05,
}
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_prefetch_multiplier = 1

@app.task(base=LimitedTask, limiter=Limiter(TokenBucket(10, per=1, burst=2), shared="NAME"), bind=True)
def note(self, number, *, more=0):
    time.sleep(0.1)  # so that the other process gets one too
    with (here / "ran.txt").open("a") as file:
        file.write(f"{os.getpid()} {self.request.id} {self.request.retries} {number + more}\\n")
    return number + more

@app.task(
    base=LimitedTask, limiter=Limiter("1/day", shared="NAME.user"), limit_key=lambda task, user: f"{task.name}:{user}",
    ignore_result=True,
)
def for_user(user):
    with (here / "users.txt").open("a") as file:
        file.write(f"{user}\\n")
"""


@pytest.fixture
def name() -> Iterator[str]:
    """A name to share by, of this test alone; its files are removed."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    for file in Path("/dev/shm").glob(f"penstock-{os.geteuid()}-{name}*"):
        file.unlink()


@pytest.mark.skipif(sys.platform != "linux" or not native, reason="segments are for Linux and the compiled core")
def test_tasks_over_the_limit_come_again_in_whichever_worker(name: str, tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION.replace("NAME", name))
    script = """
import json
import application as a
tasks = [a.note.delay(i, more=100) for i in range(8)]
for user in "ada", "bob", "ada":
    a.for_user.delay(user)
print(json.dumps([t.id for t in tasks]))
"""
    sent = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    ids = json.loads(sent.stdout)
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "application", "worker", "-c", "2", "--without-gossip",
               "--without-mingle", "--without-heartbeat", "-l", "INFO"]  # fmt: skip
    with log.open("wb") as output:
        worker = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
        try:
            ends = time.monotonic() + 60
            ran, users = tmp_path / "ran.txt", tmp_path / "users.txt"
            while not (
                ran.exists() and len(ran.read_text().splitlines()) == 8
                and users.exists() and len(users.read_text().splitlines()) == 2
            ):  # fmt: skip
                assert worker.poll() is None, log.read_text()
                assert time.monotonic() < ends, log.read_text()
                time.sleep(0.05)
        finally:
            worker.send_signal(signal.SIGQUIT)  # at once: a warm shutdown takes Celery five seconds
            try:
                worker.wait(timeout=20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
    pids, task_ids, retries, numbers = zip(*(line.split() for line in ran.read_text().splitlines()), strict=True)
    assert sorted(task_ids) == sorted(ids)
    assert sorted(map(int, numbers)) == list(range(100, 108))
    assert set(retries) == {"0"}
    assert len(set(pids)) == 2
    assert sorted(users.read_text().split()) == ["ada", "bob"]
    limiter = Limiter("1/day", shared=f"{name}.user")
    assert limiter.stats()[:2] == (2, 1)
    assert "Retry in" in log.read_text()


def test_called_like_a_function_or_eagerly_it_raises() -> None:
    app = Celery("application")
    app.conf.task_always_eager = True

    @app.task(base=LimitedTask, limiter=Limiter("2/day"))  # type: ignore[untyped-decorator,unused-ignore]
    def double(number: int) -> int:
        return 2 * number

    @app.task(base=LimitedTask)  # type: ignore[untyped-decorator,unused-ignore]
    def free(number: int) -> int:
        return number

    assert double(4) == 8
    assert double.delay(5).get() == 10
    with pytest.raises(RateLimited, match="limit of 2 reached"):
        double(4)
    refused = double.delay(5)
    assert refused.failed()
    assert isinstance(refused.result, RateLimited)
    assert [free(1), free.delay(2).get()] == [1, 2]


def test_a_key_that_cannot_be_told_fails_the_task() -> None:
    app = Celery("application")
    app.conf.task_always_eager = True
    limiter = Limiter("2/day")

    def customer(task: LimitedTask, order: dict[str, str]) -> str:
        return order["customer"]

    @app.task(base=LimitedTask, limiter=limiter, limit_key=customer)  # type: ignore[untyped-decorator,unused-ignore]
    def ship(order: dict[str, str]) -> str:
        return order["customer"]

    assert ship.delay({"customer": "ada"}).get() == "ada"
    assert isinstance(ship.delay({}).result, KeyError)
    assert limiter.stats()[:2] == (1, 0)
