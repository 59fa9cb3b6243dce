"""Flask: the extension over routes, a decorated view, a stream."""

from __future__ import annotations

from common import DECORATED, RULES, TRUSTED, slow
from flask import Flask

from penstock.integrations.flask import Limits, limit

app = Flask(__name__)
Limits(app, *RULES, trusted=TRUSTED)


@app.route("/items/<int:number>", methods=["GET", "PUT"])
def items(number: int) -> str:
    return "hello"


@app.get("/free")
@app.get("/many")
@app.get("/tenant")
def hello() -> str:
    return "hello"


@app.get("/decorated")
@limit(DECORATED, name="decorated")
def decorated() -> str:
    return "decorated"


@app.get("/stream")
def stream():
    return app.response_class(slow())


@app.get("/boom")
def boom() -> str:
    raise RuntimeError("boom")
