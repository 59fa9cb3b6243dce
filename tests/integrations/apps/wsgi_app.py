"""A plain WSGI application under the middleware, checked by wsgiref's validator on both sides."""

from __future__ import annotations

from wsgiref.validate import validator

from common import DECORATED, RULES, TRUSTED, slow

from penstock.adapters.rules import Rule
from penstock.adapters.wsgi import LimitWSGI


def hello(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise RuntimeError("boom")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return slow() if path == "/stream" else [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"hello"]


own = Rule(DECORATED, "/decorated", layer="decorated")
app = validator(LimitWSGI(validator(hello), RULES[-1], own, *RULES[:-1], trusted=TRUSTED))
