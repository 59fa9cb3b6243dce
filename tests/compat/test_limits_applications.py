"""Applications on Flask-Limiter and slowapi, served by real processes, with nothing changed but the URI."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from peers import needed
from processes import Answer, serving

from penstock import native

needed("flask_limiter", "gunicorn", "slowapi", "uvicorn")

FLASK = """
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
import penstock.compat.limits

app = Flask(__name__)
limiter = Limiter(
    get_remote_address, app=app, default_limits=["6/minute"], headers_enabled=True, strategy="STRATEGY",
    storage_uri="URI",
)

@app.get("/ready")
@limiter.exempt
def ready():
    return "ready"

@app.get("/")
def home():
    return "home"

@app.get("/slow")
@limiter.limit("2/minute;10/hour", cost=lambda: 1)
def slow():
    return "slow"
"""

SLOWAPI = """
from fastapi import FastAPI, Request, Response
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
import penstock.compat.limits

limiter = Limiter(key_func=get_remote_address, headers_enabled=True, strategy="STRATEGY", storage_uri="URI")
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

@app.get("/ready")
def ready():
    return "ready"

@app.get("/")
@limiter.limit("6/minute")
async def home(request: Request, response: Response):
    return {"home": True}

@app.get("/slow")
@limiter.limit("2/minute")
async def slow(request: Request, response: Response):
    return {"slow": True}
"""

APPLICATIONS = {"flask-limiter": (FLASK, ()), "slowapi": (SLOWAPI, ("uvicorn",))}
PATHS = ["/", "/slow", "/slow", "/slow", *["/"] * 7]


def told(answer: Answer) -> tuple[int, str | None, str | None]:
    """What a client is told of its limit, but for the times."""
    return answer.status, answer.headers.get("x-ratelimit-limit"), answer.headers.get("x-ratelimit-remaining")


@pytest.mark.parametrize("application", APPLICATIONS)
def test_only_the_uri_changes(application: str, tmp_path: Path) -> None:
    source, arguments = APPLICATIONS[application]
    answers: dict[str, list[Answer]] = {}
    for uri in "memory://", "penstock://?capacity=1000":
        with serving(tmp_path, source.replace("URI", uri).replace("STRATEGY", "fixed-window"), *arguments) as server:
            answers[uri] = [server.get(path) for path in PATHS]
    theirs, ours = answers.values()
    assert [told(answer) for answer in ours] == [told(answer) for answer in theirs]
    assert [answer.status for answer in ours] == [200, 200, 200, 429, *[200] * 5, 429, 429]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.headers.keys() == other.headers.keys()
        assert mine.body == other.body
        assert 1 <= int(mine.headers["retry-after"]) <= 61


@pytest.mark.skipif(sys.platform != "linux" or not native, reason="segments are for Linux and the compiled core")
@pytest.mark.parametrize(("application", "strategy"), [("flask-limiter", "moving-window"), ("slowapi", "fixed-window")])
def test_workers_share_one_limit(application: str, strategy: str, name: str, tmp_path: Path) -> None:
    source, arguments = APPLICATIONS[application]
    source = source.replace("URI", f"penstock+shm://{name}").replace("STRATEGY", strategy)
    with serving(tmp_path, source.replace("6/minute", "6/day"), *arguments, workers=2) as server:
        answers = [server.get("/") for _ in range(24)]
    assert [answer.status for answer in answers] == [200] * 6 + [429] * 18
    assert [int(answer.headers["x-ratelimit-remaining"]) for answer in answers] == [5, 4, 3, 2, 1, *[0] * 19]
