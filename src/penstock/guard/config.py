"""A guard's whole configuration, one frozen object: from Python, from a mapping, from the environment, by preset."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock._arguments import read_secret
from penstock.errors import shown
from penstock.guard.facts import Extractor
from penstock.guard.scenario import Scenario
from penstock.guard.settings import (
    Addresses,
    Bans,
    Bypass,
    Ddos,
    Events,
    Limits,
    Settings,
    Tarpit,
    Threats,
    Tracking,
)
from penstock.rate import TokenBucket

PARTS: dict[str, type[Settings]] = {
    "limits": Limits,
    "tracking": Tracking,
    "ddos": Ddos,
    "addresses": Addresses,
    "bypass": Bypass,
    "threats": Threats,
    "bans": Bans,
    "tarpit": Tarpit,
    "events": Events,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a guard does. Every part is off (None) until it is given.

    limits, tracking, ddos, addresses, bypass, threats: the parts. scenarios: more of them. bans, tarpit, events: how
    all of them act. endpoints: beginnings of paths that are counted as one endpoint each. extra: {name: function of the
    request} facts of the application. clients: about as many can be told apart at once; more forget those who have done
    least. dry_run: only say what would be done. on_error: what an error in the guard itself means for a request.
    secret: what keys the hashes in logs and in memory, at least 16 bytes; random for each process or segment if None.
    """

    limits: Limits | None = None
    tracking: Tracking | None = None
    ddos: Ddos | None = None
    addresses: Addresses | None = None
    bypass: Bypass | None = None
    threats: Threats | None = None
    scenarios: tuple[Scenario, ...] = ()
    bans: Bans = field(default_factory=Bans)
    tarpit: Tarpit = field(default_factory=Tarpit)
    events: Events = field(default_factory=Events)
    endpoints: tuple[str, ...] = ()
    extra: Mapping[str, Extractor] = field(default_factory=dict)
    clients: int = 65_536
    dry_run: bool = False
    on_error: Literal["allow", "deny"] = "allow"
    secret: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("scenarios", "endpoints"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise TypeError(f"{name}={shown(getattr(self, name))} must be several, in a tuple or list")
        if not isinstance(self.extra, Mapping):
            raise TypeError(f"extra={shown(self.extra)} must be a mapping of names to functions")
        for name, function in self.extra.items():
            if not isinstance(name, str) or not name.isidentifier() or len(name) > 64:
                raise ValueError(f"extra: {shown(name)} must be a name, as variables have them")
            if not callable(function):
                raise TypeError(f"extra: {name}={shown(function)} must be a function of the request")
        if not isinstance(self.dry_run, bool):
            raise TypeError(f"dry_run={shown(self.dry_run)} must be true or false")
        for name, kind in PARTS.items():
            value = getattr(self, name)
            if value is None and name not in ("bans", "tarpit", "events"):
                continue
            if not isinstance(value, kind):
                object.__setattr__(self, name, kind.read(value, name))
        if isinstance(self.clients, bool) or not isinstance(self.clients, int) or not 16 <= self.clients <= 2**28:
            raise ValueError(f"clients={shown(self.clients)} must be a whole number, 16 to 2**28")
        if not isinstance(self.dry_run, bool):
            raise TypeError(f"dry_run={shown(self.dry_run)} must be true or false")
        if self.on_error not in ("allow", "deny"):
            raise ValueError(f'on_error={shown(self.on_error)} must be "allow" or "deny"')
        if self.secret is not None:
            read_secret(self.secret)
        object.__setattr__(self, "scenarios", tuple(map(_scenario, self.scenarios)))
        object.__setattr__(self, "endpoints", tuple(self.endpoints))

    @property
    def parts(self) -> list[str]:
        """The parts that are on."""
        names = ["limits", "tracking", "ddos", "addresses", "bypass", "threats"]
        return [name for name in names if getattr(self, name) is not None] + (["scenarios"] if self.scenarios else [])

    def but(self, **changes: Any) -> Config:
        """This configuration with other fields."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def read(cls, given: Config | Mapping[str, Any] | str | None) -> Config:
        """From what Guard(config) was given: a Config, the name of a preset, or a mapping as TOML, YAML or JSON have
        it, whose "preset" is what it changes. Errors name the field."""
        from penstock.guard.presets import preset

        if given is None:
            return cls()
        if isinstance(given, Config):
            return given
        if isinstance(given, str):
            return preset(given)
        if not isinstance(given, Mapping):
            raise TypeError(f"config must be a Config, a mapping or the name of a preset, not {type(given).__name__}")
        known = [one.name for one in dataclasses.fields(cls)]
        changes = dict(given)
        base = preset(changes.pop("preset")) if "preset" in changes else cls()
        for name in changes:
            if name not in known:
                raise ValueError(f"config: {shown(name)} is no setting; there are preset, {', '.join(known)}")
        for name, kind in PARTS.items():
            if changes.get(name) is False:
                changes[name] = None
            part = getattr(base, name)
            if part is not None and changes.get(name) is True:
                del changes[name]  # on, as it is
            if part is not None and isinstance(changes.get(name), Mapping):  # what is not named stays the preset's
                read = kind.read(changes[name], name)
                changes[name] = dataclasses.replace(part, **{field: getattr(read, field) for field in changes[name]})
        if isinstance(changes.get("secret"), str):
            changes["secret"] = changes["secret"].encode()
        return base.but(**changes)


def _scenario(given: Scenario | Mapping[str, Any]) -> Scenario:
    if isinstance(given, Scenario):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f"scenarios: {shown(given)} must be a Scenario or a mapping")
    known = [one.name for one in dataclasses.fields(Scenario)]
    for name in given:
        if name not in known:
            raise ValueError(f"scenarios: {shown(name)} is no setting of a scenario; there are {', '.join(known)}")
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Scenario(**read)


_TRUE = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
    "": False,
}


def from_env(prefix: str = "SECURITY_", environ: Mapping[str, str] | None = None) -> Config:
    """The configuration that the environment asks for.

    PREFIX_ENABLE_{RATE_LIMITING,DDOS_PROTECTION,IP_MANAGEMENT,THREAT_DETECTION} switch parts on;
    _RATE_LIMIT_{GLOBAL_CAPACITY,GLOBAL_REFILL_RATE,PER_USER_CAPACITY,PER_IP_CAPACITY},
    _DDOS_{REQUESTS_PER_SECOND_THRESHOLD,REQUESTS_PER_MINUTE_THRESHOLD,CONCURRENT_CONNECTIONS_LIMIT},
    _IP_{AUTO_BLACKLIST_THRESHOLD,TEMP_BLOCK_DURATION} and _THREAT_ANOMALY_THRESHOLD set their numbers;
    GEOIP_DATABASE_PATH names a MaxMind file. _THREAT_ML_RETRAIN_INTERVAL is read and has no effect: the score learns as
    it goes. REDIS_URL and REDIS_PASSWORD are `sync_from_env`'s. ValueError names a variable that cannot be read.
    """
    environ = os.environ if environ is None else environ

    def flag(name: str) -> bool:
        value = environ.get(prefix + name, "")
        if value.strip().lower() not in _TRUE:
            raise ValueError(f"{prefix}{name}={shown(value)} must be true or false")
        return _TRUE[value.strip().lower()]

    def number(name: str, usual: float) -> float:
        value = environ.get(prefix + name)
        if value is None or not value.strip():
            return usual
        try:
            read = float(value)
        except ValueError:
            read = math.nan
        if not math.isfinite(read):
            raise ValueError(f"{prefix}{name}={shown(value)} must be a number")
        return read

    number("THREAT_ML_RETRAIN_INTERVAL", 3600)
    block = number("IP_TEMP_BLOCK_DURATION", 3600)
    limits = ddos = addresses = threats = None
    if flag("ENABLE_RATE_LIMITING"):
        refill = number("RATE_LIMIT_GLOBAL_REFILL_RATE", 100)
        limits = Limits(
            everyone=TokenBucket(max(1, round(refill)), 1, round(number("RATE_LIMIT_GLOBAL_CAPACITY", 1000))),
            user=TokenBucket(10, 1, round(number("RATE_LIMIT_PER_USER_CAPACITY", 100))),
            address=TokenBucket(20, 1, round(number("RATE_LIMIT_PER_IP_CAPACITY", 200))),
        )
    if flag("ENABLE_DDOS_PROTECTION"):
        ddos = Ddos(
            per_second=round(number("DDOS_REQUESTS_PER_SECOND_THRESHOLD", 50)),
            per_minute=round(number("DDOS_REQUESTS_PER_MINUTE_THRESHOLD", 1000)),
            in_flight=round(number("DDOS_CONCURRENT_CONNECTIONS_LIMIT", 100)),
        )
    if flag("ENABLE_IP_MANAGEMENT"):
        addresses = Addresses(
            auto_ban=number("IP_AUTO_BLACKLIST_THRESHOLD", 10),
            ban=block,
            geoip=environ.get("GEOIP_DATABASE_PATH") or None,
        )
    if flag("ENABLE_THREAT_DETECTION"):
        threats = Threats(anomaly=number("THREAT_ANOMALY_THRESHOLD", 0.7), ban=block)
    return Config(limits=limits, ddos=ddos, addresses=addresses, threats=threats)


def sync_from_env(environ: Mapping[str, str] | None = None) -> str | None:
    """REDIS_URL, with REDIS_PASSWORD put in where it has none; None without REDIS_URL."""
    from urllib.parse import quote, urlsplit, urlunsplit

    environ = os.environ if environ is None else environ
    url, password = environ.get("REDIS_URL"), environ.get("REDIS_PASSWORD")
    if not url or not password:
        return url or None
    parts = urlsplit(url)
    if parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{host}"))
