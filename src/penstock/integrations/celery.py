"""A Celery task with a rate limit: a task over it goes back to the queue for as long as it has to wait.

    @app.task(base=LimitedTask, limiter=Limiter("10/minute", shared="mail"))
    def send(address): ...

Nothing blocks: the worker takes the next task meanwhile.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from penstock.decision import Decision
from penstock.errors import RateLimited
from penstock.limiter import Key, Limiter

try:
    import celery
except ImportError as error:
    raise ImportError(f"penstock.integrations.celery: {error}; pip install 'penstock[celery]'") from error

SPREAD_MOST = 60.0
"""Seconds at most by which tasks that wait for the same turn are spread, since one alone will find it free."""


class LimitedTask(celery.Task):
    """The base of tasks with a limit; its options are given to `app.task`, beside Celery's own.

    limiter: a Limiter, one hit for each execution. With `shared` all processes of a host go by it, with `sync` those of
    several hosts; without either each process has a limit of its own. limit_key: what is limited, a function of the
    task and the call's arguments; by default the task's name. An error in it fails the task.

    A task over the limit is sent again under its own id, with its own arguments and number of retries, to be run once
    the wait is over, and up to as long again, SPREAD_MOST at most, at random. Its state is RETRY meanwhile. Where no
    wait helps, when it is called like a function, and when Celery runs tasks eagerly, it raises RateLimited.
    """

    abstract = True
    limiter: ClassVar[Limiter | None] = None
    limit_key: ClassVar[Callable[..., Key] | None] = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.limiter is not None:
            key = self.name if self.limit_key is None else self.limit_key(*args, **kwargs)
            decision = self.limiter.check(key)
            if not decision.allowed:
                self._again(decision)
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        return self.run(*args, **kwargs)

    def _again(self, decision: Decision) -> NoReturn:
        request, wait = self.request, decision.retry_after
        if request.called_directly or request.is_eager or math.isinf(wait):
            raise RateLimited(decision)
        request.retries -= 1  # retry() counts one more: a wait for a turn is none of the task's retries
        raise self.retry(countdown=wait + random.uniform(0, min(wait, SPREAD_MOST)))
