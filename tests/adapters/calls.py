"""Calls made by hand, for tests of rules and keys."""

from __future__ import annotations

from typing import Any

from penstock.adapters.call import AsgiCall
from penstock.adapters.gate import DEFAULT
from penstock.adapters.identity import Identity


def scope(
    path: str = "/", method: str = "GET", client: Any = ("203.0.113.7", 4711), kind: str = "http", **headers: str
) -> dict[str, Any]:
    """headers: x_tenant="a" for x-tenant: a."""
    lines = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    made = {"type": kind, "path": path, "method": method, "client": client, "headers": lines}
    if kind == "websocket":
        del made["method"]
    return made


def call(identity: Identity = DEFAULT.identity, **facts: Any) -> AsgiCall:
    return AsgiCall(scope(**facts), identity)
