"""The settings of each part of a guard: frozen, checked when they are made; None instead of one switches its part
off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from penstock.errors import RateSyntaxError, shown
from penstock.guard.scenario import BAN_MOST
from penstock.guard.verdict import Action, action_of
from penstock.limiter import Rates
from penstock.rate import Concurrency, FixedWindow, SlidingLog, SlidingWindow, TokenBucket, parse_rate

RateSet = Rates | Sequence[Rates]
_EVERYONE, _USER, _ADDRESS = TokenBucket(100, 1, 1000), TokenBucket(10, 1, 100), TokenBucket(20, 1, 200)
OnError = Literal["local", "allow", "deny"]


class Settings:
    """What the parts have in common."""

    __slots__ = ()

    @classmethod
    def read(cls, given: Any, where: str) -> Self:
        """From a mapping, as TOML, YAML or JSON have it; True takes what is usual. Errors name the field."""
        if isinstance(given, cls):
            return given
        if given is True:
            return cls()
        if not isinstance(given, Mapping):
            raise TypeError(f"{where} must be a mapping, true or {cls.__name__}, not {shown(given)}")
        known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]
        for name in given:
            if name not in known:
                raise ValueError(f"{where}: {shown(name)} is no setting; there are {', '.join(known)}")
        missing = [name for name, one in known.items() if name not in given and one.default is one.default_factory]
        if missing:
            raise ValueError(f"{where}: {', '.join(missing)} must be given")
        return cls(**{name: cls._field(name, value, f"{where}.{name}") for name, value in given.items()})

    @classmethod
    def _field(cls, name: str, value: Any, where: str) -> Any:
        return tuple(value) if isinstance(value, list) else value

    def _check(self) -> None:
        """Checks and reads each field by its annotation, as far as _HOLDS and Action go; lists become tuples."""
        for one in fields(self):  # type: ignore[arg-type]
            kind, value = str(one.type), getattr(self, one.name)
            if kind == "Action":
                object.__setattr__(self, one.name, action_of(f"{type(self).__name__}: {one.name}", value))
            elif isinstance(value, list):
                object.__setattr__(self, one.name, value := tuple(value))
            if kind in _HOLDS and not _HOLDS[kind][0](value):
                raise TypeError(f"{type(self).__name__}: {one.name}={shown(value)} must be {_HOLDS[kind][1]}")

    def _between(self, least: float, most: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise ValueError(
                    f"{type(self).__name__}: {name}={shown(value)} must be a number, {least:g} to {most:g}"
                )

    def _one_of(self, allowed: Sequence[str], *names: str) -> None:
        for name in names:
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{type(self).__name__}: {name}={shown(getattr(self, name))} must be one of {', '.join(allowed)}"
                )


def _mapping_of(value: object, kind: type) -> bool:
    return isinstance(value, Mapping) and all(isinstance(of, str) and isinstance(to, kind) for of, to in value.items())


_HOLDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "str | None": (lambda value: value is None or isinstance(value, str), "a text or None"),
    "tuple[str, ...]": (
        lambda value: isinstance(value, tuple) and all(isinstance(one, str) for one in value),
        "several texts",
    ),
    "Iterable[str]": (
        lambda value: isinstance(value, Iterable) and not isinstance(value, (str, bytes)),
        "several texts",
    ),
    "Mapping[str, str]": (lambda value: _mapping_of(value, str), "a mapping of texts to texts"),
    "Mapping[str, int]": (lambda value: _mapping_of(value, int), "a mapping of texts to whole numbers"),
    "Callable[..., object] | None": (lambda value: value is None or callable(value), "a function or None"),
}
"""What a field of this annotation must be, and how an error says so."""


def _check_rates(where: str, rates: object) -> None:
    """Whether these are limits that a guard can ask. ValueError that says where they are not."""
    if isinstance(rates, str):
        try:
            for limit in parse_rate(rates):
                _check_rates(where, limit)
        except RateSyntaxError as error:
            raise ValueError(f"Limits: {where}: {error}") from None
    elif isinstance(rates, Concurrency):
        raise ValueError(f"Limits: {where}={shown(rates)} is of requests at once, which Ddos(in_flight=) counts")
    elif isinstance(rates, Sequence) and not isinstance(rates, bytes) and rates:
        for one in rates:
            _check_rates(where, one)
    elif not isinstance(rates, (TokenBucket, SlidingWindow, SlidingLog, FixedWindow)):
        raise ValueError(f'Limits: {where}={shown(rates)} must be limits, such as "60/minute"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Settings):
    """How many requests there may be: rates as a Limiter takes them, each "60/minute; 1000/hour" both.

    everyone, user, address: by whom. endpoints: by address, for paths that begin so; the longest prefix counts. facts:
    by any other fact, such as {"key": "100/minute"}. strict: what a request costs while its endpoint is under attack,
    or in emergency mode. headers: whether allowed answers say what is left. on_error: "local", as good as it can be
    told here, "allow" or "deny".
    """

    everyone: RateSet | None = _EVERYONE
    user: RateSet | None = _USER
    address: RateSet | None = _ADDRESS
    endpoints: Mapping[str, RateSet] = field(default_factory=dict)
    facts: Mapping[str, RateSet] = field(default_factory=dict)
    strict: int = 4
    headers: bool = True
    dry_run: bool = False
    on_error: OnError = "local"

    def __post_init__(self) -> None:
        self._check()
        self._between(1, 1000, "strict")
        self._one_of(("local", "allow", "deny"), "on_error")
        for name in ("everyone", "user", "address"):
            if getattr(self, name) is not None:
                _check_rates(name, getattr(self, name))
        for name in ("endpoints", "facts"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"Limits: {name}={shown(getattr(self, name))} must be a mapping of limits")
            for key, rates in getattr(self, name).items():
                _check_rates(f"{name}[{shown(key)}]", rates)
                if not isinstance(key, str) or (name == "endpoints" and not key.startswith("/")):
                    raise ValueError(f"Limits: {name}: {shown(key)} must be a text; of endpoints, a path's beginning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy(Settings):
    """One way of telling who sends: by facts, with the rates from which on a tier is reached.

    by: facts, such as ("address", "ja4"). suspicious, block, ban: requests per second, the count allowed; more reaches
    the tier. action: what the tier BLOCK does; with "block" the tier BANNED bans, with a milder one it is done there
    too. seconds: of a first ban.
    """

    by: tuple[str, ...]
    suspicious: float
    block: float
    ban: float
    action: Action = Action.BLOCK
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        if isinstance(self.by, str):
            object.__setattr__(self, "by", (self.by,))
        self._check()
        self._between(0, 1e6, "suspicious", "block", "ban")
        self._between(1, BAN_MOST, "seconds")
        if not self.suspicious <= self.block <= self.ban:
            raise ValueError(
                f"Strategy: suspicious={self.suspicious:g}, block={self.block:g} and ban={self.ban:g} must not fall"
            )


def _strategies() -> Mapping[str, Strategy]:
    return {
        "by_ip": Strategy(by=("address",), suspicious=2, block=10, ban=20, action=Action.BLOCK, seconds=7200),
        "by_ja4": Strategy(by=("ja4",), suspicious=5, block=25, ban=50, action=Action.LOG, seconds=3600),
        "by_ip_ja4_pair": Strategy(
            by=("address", "ja4"), suspicious=1, block=5, ban=10, action=Action.TARPIT, seconds=3600
        ),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking(Settings):
    """Rates by several strategies at once, at most 10, in several windows (seconds), all evaluated.

    policy: the tier is the highest that "any", "all" or the "majority" of the strategies reach, of those whose facts
    the request has.
    """

    strategies: Mapping[str, Strategy] = field(default_factory=_strategies)
    windows: tuple[float, ...] = (1.0, 10.0, 60.0)
    policy: Literal["any", "all", "majority"] = "any"
    dry_run: bool = False

    def __post_init__(self) -> None:
        self._check()
        if not isinstance(self.strategies, Mapping) or not all(isinstance(one, str) for one in self.strategies):
            raise ValueError(f"Tracking: strategies={shown(self.strategies)} must be a mapping of names to strategies")
        for name, one in self.strategies.items():
            if not isinstance(one, Strategy):
                raise ValueError(f"Tracking: strategies[{shown(name)}]={shown(one)} must be a Strategy")
        if not 1 <= len(self.strategies) <= 10:
            raise ValueError(f"Tracking: strategies has {len(self.strategies)} of them; 1 to 10 can be tracked")
        if (
            not isinstance(self.windows, tuple)
            or not 1 <= len(self.windows) <= 6
            or not all(isinstance(one, (int, float)) and 0.1 <= one <= 3600 for one in self.windows)
        ):
            raise ValueError(f"Tracking: windows={shown(self.windows)} must be 1 to 6, each of 0.1 to 3600 seconds")
        self._one_of(("any", "all", "majority"), "policy")

    @classmethod
    def _field(cls, name: str, value: Any, where: str) -> Any:
        if name == "strategies" and isinstance(value, Mapping):
            return {key: Strategy.read(one, f"{where}.{key}") for key, one in value.items()}
        return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Ddos(Settings):
    """Floods. per_second, per_minute: requests of one address, each in its own window; in_flight: its requests that are
    being answered; same_endpoint: of its requests to one endpoint in 300 s, more are too many once there were 50 in
    all; behaviour: points in 300 s at which it is refused; emergency: requests per second of all from which on limits
    are stricter, for at least `dwell` seconds, until there are fewer than half; 0 switches any of them off."""

    per_second: int = 50
    per_minute: int = 1000
    in_flight: int = 100
    same_endpoint: int = 0
    behaviour: int = 70
    emergency: int = 10_000
    dwell: float = 60.0
    emergency_per_second: int = 10
    emergency_per_minute: int = 300
    emergency_in_flight: int = 20
    action: Action = Action.BLOCK
    ban: float = 300.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        self._check()
        self._between(0, 1_000_000, "emergency", "in_flight", "emergency_in_flight")
        self._between(0, 4000, "per_second", "emergency_per_second", "behaviour")
        self._between(0, 16_000, "per_minute", "emergency_per_minute", "same_endpoint")
        self._between(1, 86_400, "dwell")
        self._between(1, BAN_MOST, "ban")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses(Settings):
    """Who is let in or kept out by address. allow, deny: addresses and networks; feeds: {name: path of a file}, with
    levels {name: n} for those that count how many lists an address is on. reputation: whether addresses have one: 0 to
    100, 50 at first, less with each finding, back to 50 by half in `half_life` seconds; at `auto_ban` or below, a ban
    of `ban` seconds. Good requests raise a bad one by 1, at most once a minute and never above 50. countries: those
    that are refused; geoip, geoip_asn: MaxMind files."""

    allow: Iterable[str] = ()
    deny: Iterable[str] = ()
    feeds: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)
    reputation: bool = True
    auto_ban: float = 10.0
    ban: float = 3600.0
    half_life: float = 86_400.0
    countries: tuple[str, ...] = ()
    geoip: str | None = None
    geoip_asn: str | None = None

    def __post_init__(self) -> None:
        self._check()
        self._between(0, 49, "auto_ban")
        self._between(60, 30 * 86_400, "half_life")
        self._between(1, BAN_MOST, "ban")
        for code in self.countries:
            if not isinstance(code, str) or len(code) != 2 or not code.isalpha() or not code.isupper():
                raise ValueError(f"Addresses: countries: {shown(code)} must be two capital letters, such as 'DE'")
        if self.countries and self.geoip is None:
            raise ValueError("Addresses: countries= needs geoip=, a MaxMind file of countries or cities")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bypass(Settings):
    """Ways around limits. The count allowed, one more is evidence: networks of one account, its User-Agents and its
    devices, addresses that fail at one endpoint in 60 s, points of odd behaviour in 300 s. tighten: seconds for which
    such an endpoint is limited more strictly. action: for what convicts a visitor (rotation, evasion, hijacking)."""

    networks: int = 3
    agents: int = 2
    devices: int = 3
    distributed: int = 10
    behaviour: int = 5
    rapid: int = 20
    window: float = 300.0
    tighten: float = 120.0
    action: Action = Action.LOG
    ban: float = 3600.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        self._check()
        self._between(0, 1000, "networks", "agents", "devices", "distributed", "behaviour", "rapid")
        self._between(1, 86_400, "window")
        self._between(0, BAN_MOST, "tighten")
        self._between(1, BAN_MOST, "ban")


@dataclass(frozen=True, slots=True, kw_only=True)
class Threats(Settings):
    """What requests contain. scan: whether they are scanned for injections; paranoia 1 to 4; threshold: points from
    which on a request is refused; exclude: (route prefix, parameter, kind), "" for any; patterns: {name: a text, found
    in any case, or a function of a value} that convict as well, of the kind "custom"; body: whether bodies are scanned,
    to `body_most` bytes; agents: a file of crawler patterns, or none; anomaly: the score, 0 to 1, from which on a
    request is odd, 1 for never; probing: whether scanners are known by what they ask for and are banned; crawl: whether
    those are too who ask for more than two different pages a second, 40 at first, without saying that they are bots:
    people do not, programs do."""

    scan: bool = True
    paranoia: int = 1
    threshold: int = 5
    exclude: tuple[tuple[str, str, str], ...] = ()
    patterns: Mapping[str, str | Callable[[str], bool]] = field(default_factory=dict)
    body: bool = False
    body_most: int = 65_536
    agents: str | None = None
    anomaly: float = 1.0
    probing: bool = True
    crawl: bool = True
    login: tuple[str, ...] = ("/login", "/signin", "/auth", "/wp-login.php", "/api/login", "/api/auth")
    action: Action = Action.BLOCK
    ban: float = 3600.0
    dry_run: bool = False

    def __post_init__(self) -> None:
        self._check()
        self._between(1, 4, "paranoia")
        self._between(1, 1000, "threshold")
        self._between(0, 1, "anomaly")
        self._between(0, 16_777_216, "body_most")
        self._between(1, BAN_MOST, "ban")
        if not isinstance(self.patterns, Mapping):
            raise TypeError(f"Threats: patterns={shown(self.patterns)} must map names to texts or functions")
        if not isinstance(self.exclude, tuple):
            raise ValueError(f"Threats: exclude={shown(self.exclude)} must be (route prefix, parameter, kind), several")
        object.__setattr__(self, "exclude", tuple(tuple(x) if isinstance(x, list) else x for x in self.exclude))
        for one in self.exclude:
            if not isinstance(one, tuple) or len(one) != 3:
                raise ValueError(f"Threats: exclude: {shown(one)} must be (route prefix, parameter, kind)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bans(Settings):
    """How bans grow: each is `factor` times as long as the one before, to `most` seconds, give or take `jitter` of it;
    an offence is forgotten for each `memory` seconds without one."""

    factor: float = 2.0
    jitter: float = 0.1
    memory: float = 86_400.0
    most: float = BAN_MOST

    def __post_init__(self) -> None:
        self._check()
        self._between(1, 10, "factor")
        self._between(0, 0.5, "jitter")
        self._between(1, 86_400, "memory")
        self._between(1, BAN_MOST, "most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarpit(Settings):
    """How requests are held: for `seconds` (300 at most), at most `held` of them at once; those beyond go on."""

    seconds: float = 10.0
    held: int = 100

    def __post_init__(self) -> None:
        self._check()
        self._between(0, 300, "seconds")
        self._between(0, 100_000, "held")


@dataclass(frozen=True, slots=True, kw_only=True)
class Events(Settings):
    """Where findings go. on_event: called in the background for each, the gravest first; capacity: findings that wait
    for it; kept: findings that `status` can show; retention: seconds that they are kept."""

    on_event: Callable[..., object] | None = None
    capacity: int = 1024
    kept: int = 1024
    retention: float = 86_400.0

    def __post_init__(self) -> None:
        self._check()
        self._between(1, 1_000_000, "capacity", "kept")
        self._between(1, 365 * 86_400, "retention")
