"""Presets: the numbers of each kind of service, by name."""

from __future__ import annotations

from collections.abc import Callable

from penstock.errors import shown
from penstock.guard.config import Config
from penstock.guard.settings import Addresses, Bypass, Ddos, Limits, Threats, Tracking
from penstock.guard.verdict import Action
from penstock.rate import SlidingWindow, TokenBucket


def _web() -> Config:
    """Sites for people with browsers: pages bring many files at once, and visitors share addresses."""
    return Config(
        limits=Limits(everyone=None, user=TokenBucket(50, 1, 200), address=TokenBucket(50, 1, 400)),
        ddos=Ddos(per_second=100, per_minute=1500),
        addresses=Addresses(),
        bypass=Bypass(),
        threats=Threats(),
    )


def _api() -> Config:
    """Interfaces for programs, with keys or users: an honest client is a script."""
    return Config(
        limits=Limits(
            endpoints={
                "/calculate": TokenBucket(5, 1, 50),
                "/auth": TokenBucket(1, 1, 10),
                "/api/v1": TokenBucket(10, 1, 100),
            }
        ),
        ddos=Ddos(behaviour=0),
        addresses=Addresses(),
        bypass=Bypass(behaviour=0),
        threats=Threats(crawl=False),
    )


def _login() -> Config:
    """Pages where people sign in: few requests, and guessing must not pay."""
    return Config(
        limits=Limits(everyone=None, user="10/minute; 50/hour", address="20/minute; 200/hour"),
        ddos=Ddos(per_second=10, per_minute=60, behaviour=0),
        addresses=Addresses(),
        bypass=Bypass(action=Action.BLOCK),
        threats=Threats(),
    )


def _iot() -> Config:
    """Devices that report: 60 a minute and 1000 an hour each, refused requests not recorded."""
    return Config(
        limits=Limits(everyone=None, user=None, address=(SlidingWindow(60, 60), SlidingWindow(1000, 3600))),
        ddos=Ddos(per_second=50, per_minute=1000, same_endpoint=0, behaviour=0),
        addresses=Addresses(),
        threats=Threats(crawl=False),
    )


def _strict() -> Config:
    """Under attack: several strategies at once, low rates, what convicts is refused."""
    return Config(
        limits=Limits(),
        tracking=Tracking(policy="majority"),
        ddos=Ddos(),
        addresses=Addresses(),
        bypass=Bypass(action=Action.BLOCK),
        threats=Threats(paranoia=2),
    )


PRESETS: dict[str, Callable[[], Config]] = {"web": _web, "api": _api, "login": _login, "iot": _iot, "strict": _strict}


def preset(name: str) -> Config:
    """The configuration of this name. ValueError if there is none."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset={shown(name)} must be one of {', '.join(PRESETS)}")
    return PRESETS[name]()
