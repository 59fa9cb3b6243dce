"""Conditions that scenarios name, read from a request as bits: each asked once, and only those that are used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from penstock.errors import PenstockError, shown
from penstock.guard.agents import Agents, Paths
from penstock.guard.facts import ADDRESS, AGENT, Facts
from penstock.guard.request import Request
from penstock.guard.scenario import Condition, Scenario

CHAIN_MOST = 5
"""Proxies that a chain may have before it is long."""
CONDITIONS_MOST = 60
_REMEMBERED = 8192
REMEMBERED_MOST = 512
"""Characters of a text that is remembered; a longer one is looked at each time, so that memory is bounded."""

STATIC = frozenset(
    {
        "avif",
        "bmp",
        "css",
        "eot",
        "gif",
        "ico",
        "jpeg",
        "jpg",
        "js",
        "json",
        "map",
        "mjs",
        "mp3",
        "mp4",
        "otf",
        "pdf",
        "png",
        "svg",
        "ttf",
        "wasm",
        "webm",
        "webp",
        "woff",
        "woff2",
        "xml",
        "txt",
    }
)
STATES = ("never", "emergency", "tight", "signed_in", "queried", "bare", "long_chain", "open_proxy", "no_address")
"""What the guard itself knows of a request. never: it does not hold, for scenarios that others add to; emergency mode;
an endpoint under attack; a user given; a query; Accept or Accept-Language missing beside a browser's User-Agent, or no
User-Agent; a forwarding chain of more than five; CONNECT or another host's address as target; no address of the
client."""


class Denied(PenstockError):
    """A condition failed whose scenario refuses then; its message is the scenario's name."""


class Conditions:
    """The conditions that are used, each a bit.

    Their names: one of STATES; "static", a file's path; "login", where one signs in; "path:KIND" and "agent:KIND" as
    Paths and Agents tell them; "method:POST"; "status:404", "status:4xx"; "prefix:/login", "suffix:.php",
    "query:author="; functions of the request; and "not " before a name.
    """

    def __init__(self, agents: Agents, paths: Paths, login: tuple[str, ...]) -> None:
        self._agents, self._paths, self._login = agents, paths, login
        self._bits: dict[object, int] = {}
        self._by: dict[str, list[tuple[int, Callable[[Any], bool]]]] = {}
        self._functions: list[tuple[int, Callable[[Request], object], str, bool]] = []
        self._absent: list[tuple[int, int]] = []
        self._of_request: list[tuple[int, Callable[[Request, Facts], bool]]] = []
        self.states = dict.fromkeys(STATES, 0)
        self._plain: tuple[int, ...] = (0, 0, 0)
        self.path = self._cached("path")
        self.agent = self._cached("agent")
        self.method = self._cached("method")
        self.status = self._cached("status")

    def _cached(self, domain: str) -> functools._lru_cache_wrapper[int]:
        def mask(value: object) -> int:
            return sum(bit for bit, holds in self._by.get(domain, ()) if holds(value))

        return functools.lru_cache(_REMEMBERED)(mask)

    def bit(self, scenario: Scenario, condition: Condition) -> int:
        """The bit of a condition. ValueError for one that there is not."""
        if not callable(condition) and not isinstance(condition, str):
            raise TypeError(f"scenario {shown(scenario.name)}: when={shown(condition)} must be a name or a function")
        refuses = scenario.on_error == "deny" and not scenario.dry_run
        what = (condition, refuses) if callable(condition) else condition  # each scenario's word on errors is its own
        known = self._bits.get(what)
        if known is not None:
            return known
        if len(self._bits) == CONDITIONS_MOST:
            raise ValueError(f"more than {CONDITIONS_MOST} conditions are used")
        bit = self._bits[what] = 1 << len(self._bits)
        if callable(condition):
            self._functions.append((bit, condition, scenario.name, refuses))
            return bit
        name = condition.removeprefix("not ")
        domain, holds = self._read(scenario, name)
        wanted = name == condition
        if domain == "state":
            if wanted:
                self._know(name, bit)
            else:
                self._absent.append((self.bit(scenario, name), bit))
            return bit
        self._by.setdefault(domain, []).append((bit, lambda value: bool(holds(value)) is wanted))
        return bit

    def state(self, name: str) -> int:
        """The bit of one of STATES, whether a scenario asks for it or not."""
        if not self.states[name]:
            self._bits[name] = 1 << len(self._bits)
            self._know(name, self._bits[name])
        return self.states[name]

    def _know(self, name: str, bit: int) -> None:
        self.states[name] = bit
        self._plain = tuple(self.states[one] for one in _PLAIN)
        if name in _STATE_OF_REQUEST:
            self._of_request.append((bit, _STATE_OF_REQUEST[name]))

    def _read(self, scenario: Scenario, name: str) -> tuple[str, Callable[[Any], bool]]:
        if name in STATES:
            return "state", lambda states: name in states
        if name == "static":
            return "path", is_static
        if name == "login":
            return "path", lambda path: path.startswith(self._login)
        domain, _, value = name.partition(":")
        if domain == "status" and value and scenario.on != "response":
            raise ValueError(f'scenario {shown(scenario.name)}: when={shown(name)} is known only on="response"')
        if value:
            if domain == "path":
                return "path", lambda path: (found := self._paths.match(path)) is not None and found.kind == value
            if domain == "agent":
                return "agent", lambda agent: self._agents.match(agent).kind == value
            if domain == "method":
                return "method", lambda method: method == value.upper()
            if domain == "status" and value.isdigit():
                return "status", lambda status: status == int(value)
            if domain == "status" and len(value) == 3 and value.endswith("xx") and value[0] in "12345":
                return "status", lambda status: status // 100 == int(value[0])
            if domain == "prefix":
                return "path", lambda path: path.startswith(value)
            if domain == "suffix":
                return "path", lambda path: path.endswith(value)
            if domain == "query":
                return "query", lambda query: query.startswith(value) or f"&{value}" in query
        raise ValueError(
            f"scenario {shown(scenario.name)}: when={shown(name)} is no condition; there are {', '.join(STATES)},"
            " static, login, path:KIND, agent:KIND, method:M, status:404, status:4xx, prefix:, suffix:, query:,"
            " functions, and not before them"
        )

    def of(self, request: Request, facts: Facts, mask: int, failed: Callable[[str, bool], None]) -> int:
        """The bits of a request; `mask` has those that the guard knows. failed: told which scenario's function
        raised."""
        query, path = request.query, request.path
        queried, signed_in, proxied = self._plain
        if query and queried:
            mask |= queried
        if signed_in and request.user is not None:
            mask |= signed_in
        if proxied and (request.method == "CONNECT" or path.startswith(("http://", "https://"))):
            mask |= proxied
        for bit, holds in self._of_request:
            if holds(request, facts):
                mask |= bit
        for present, absent in self._absent:
            if not mask & present:
                mask |= absent
        by = self._by
        if "path" in by:
            mask |= self.path(path) if len(path) <= REMEMBERED_MOST else self.path.__wrapped__(path)
        if "agent" in by:
            agent = facts[AGENT]
            short = not isinstance(agent, str) or len(agent) <= REMEMBERED_MOST
            mask |= self.agent(agent) if short else self.agent.__wrapped__(agent)
        if "method" in by:
            method = request.method
            mask |= self.method(method) if len(method) <= REMEMBERED_MOST else self.method.__wrapped__(method)
        if query and "query" in by:
            for bit, asks in by["query"]:
                if asks(query):
                    mask |= bit
        for bit, function, name, deny in self._functions:
            try:
                if function(request):
                    mask |= bit
            except Exception:
                failed(name, deny)
        return mask


def _bare(request: Request, facts: Facts) -> bool:
    agent = facts[AGENT]
    if not agent or not isinstance(agent, str):
        return True
    fields = request.fields
    return agent.startswith("Mozilla/") and not ("accept" in fields and "accept-language" in fields)


def _long_chain(request: Request, facts: Facts) -> bool:
    lines = request.fields.get("x-forwarded-for")
    return lines is not None and lines.count(",") >= CHAIN_MOST


_STATE_OF_REQUEST: dict[str, Callable[[Request, Facts], bool]] = {
    "bare": _bare,
    "long_chain": _long_chain,
    "no_address": lambda request, facts: facts[ADDRESS] is None,
}
"""Those of STATES that can be read from the request itself, beside the three that `of` reads at once."""
_PLAIN = ("queried", "signed_in", "open_proxy")


def is_static(path: str) -> bool:
    """Whether a path ends like a file that pages bring with them."""
    return path[-8:].rpartition(".")[2].lower() in STATIC and "." in path[-8:]
