"""Abuse protection on the engine: one request in, one verdict out, in microseconds.

>>> from penstock.guard import Guard, Request
>>> guard = Guard("web")
>>> guard.inspect(Request("203.0.113.7", path="/search", query="q=1' OR '1'='1")).kind
'threat_detected'
"""

from penstock._backend import native

if not native:
    raise ImportError("penstock.guard needs penstock's compiled modules, and the plain-Python reference is in use")

from penstock.guard.addresses import AddressSet
from penstock.guard.agents import Agents, Paths
from penstock.guard.asgi import GuardMiddleware
from penstock.guard.bans import Ban
from penstock.guard.config import Config, from_env, sync_from_env
from penstock.guard.events import Event
from penstock.guard.facts import is_ja4
from penstock.guard.guard import Guard
from penstock.guard.identity import client_address
from penstock.guard.operations import Assessment
from penstock.guard.presets import PRESETS
from penstock.guard.request import Request, Response
from penstock.guard.scan import Finding, scan
from penstock.guard.scenario import Scenario
from penstock.guard.settings import (
    Addresses,
    Bans,
    Bypass,
    Ddos,
    Events,
    Limits,
    Strategy,
    Tarpit,
    Threats,
    Tracking,
)
from penstock.guard.tracking import RateMetrics
from penstock.guard.verdict import Action, Evidence, Severity, Technique, Tier, Verdict
from penstock.guard.wsgi import GuardWSGI

__all__ = [
    "Guard",
    "GuardMiddleware",
    "GuardWSGI",
    "Request",
    "Response",
    "Verdict",
    "Evidence",
    "Tier",
    "Action",
    "Severity",
    "Technique",
    "Config",
    "from_env",
    "sync_from_env",
    "PRESETS",
    "Limits",
    "Tracking",
    "Strategy",
    "RateMetrics",
    "Ddos",
    "Addresses",
    "Bypass",
    "Threats",
    "Bans",
    "Tarpit",
    "Events",
    "Event",
    "Scenario",
    "scan",
    "Finding",
    "AddressSet",
    "Agents",
    "Paths",
    "Ban",
    "Assessment",
    "client_address",
    "is_ja4",
    "admin_app",
]


def __getattr__(name: str) -> object:
    """`admin_app` is imported when it is asked for: few processes serve it."""
    if name == "admin_app":
        from penstock.guard.admin import admin_app

        return admin_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
