"""Which limits a request meets: rules by path, method and layer, as data, and the tree that finds them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypedDict

from penstock.adapters.call import Call
from penstock.adapters.headers import Policy, check_name, policy
from penstock.adapters.keys import Key, KeyFunction, address
from penstock.errors import shown
from penstock.limiter import Limiter, Rates
from penstock.rate import check_count

Unknown = Literal["refuse", "admit", "share"]

log = logging.getLogger("penstock.adapters")

_PARAMETER = re.compile(r"\{[^{}/]*\}|<[^<>/]*>")
_REMEMBERED = 4096
_PATH_REMEMBERED = 256


Ask = tuple["Rule", Key, int, "str | None"]
"""What is asked of one rule's limiter: (rule, key, cost, tier)."""


class Unidentified(Exception):
    """Who asks cannot be told, and the rule refuses such calls."""


class Options(TypedDict, total=False):
    """What a limit of a single view can be told beside its rates: the arguments of Rule but for path and layer."""

    methods: Iterable[str] | None
    key: KeyFunction
    cost: int | Callable[[Call], int]
    tier: str | Callable[[Call], str | None] | None
    exempt: Callable[[Call], object] | None
    unknown: Unknown
    name: str | None


class Rule:
    """Limits, and the calls they are for.

    limits   a Limiter, or what makes one: "5/minute; 100/day", TokenBucket(10). Workers share a Limiter made with
             shared=… or sync=…; what is made here counts for one process
    path     "/login" that path; "/users/{id}" with anything between two slashes there ("<id>" too); "/api/*" that path
             and all below; "*" all. A slash at the end and doubled ones make no difference
    methods  those it is for; None: all but OPTIONS, which is asked by browsers on their own. A rule for GET is for HEAD
             too; "WEBSOCKET" is the opening of one
    key      what is counted by, a function of the call (penstock.adapters.keys)
    cost     units, or a function of the call; 0 asks nothing of the rule
    tier     the limiter's tier, or a function of the call
    exempt   a function of the call: true for those that the rule is not for
    unknown  what becomes of calls whose key is None or whose functions raise (logged once): "refuse" (403), "admit", or
             "share", one key of their own for each peer's address, and for all that have none
    layer    of the rules of one layer that fit a call the most specific counts: its path before a parameter, that
             before a longer prefix; at one path the one that names the method. Layers all count together
    name     what headers call it, the layer's by default

    A limiter that fails, as on a segment that is broken, admits, and that is logged.
    """

    __slots__ = (
        "_announced", "_complained", "_plain", "_policies", "check", "cost", "exempt", "holds", "key", "layer",
        "limiter", "methods", "name", "path", "tier", "unknown",
    )  # fmt: skip

    def __init__(
        self,
        limits: Limiter | Rates,
        path: str = "*",
        *,
        methods: Iterable[str] | None = None,
        key: KeyFunction = address,
        cost: int | Callable[[Call], int] = 1,
        tier: str | Callable[[Call], str | None] | None = None,
        exempt: Callable[[Call], object] | None = None,
        unknown: Unknown = "refuse",
        layer: str = "default",
        name: str | None = None,
    ) -> None:
        self.limiter = limits if isinstance(limits, Limiter) else Limiter(limits)
        if not isinstance(path, str) or not (path == "*" or path.startswith("/")) or "*" in path[:-1]:
            raise ValueError(f'path={shown(path)} must be "*" or begin with "/", with a "*" at its end alone')
        if path not in ("*", "/*") and path.endswith("*") and not path.endswith("/*"):
            raise ValueError(f'path={shown(path)} must end in "/*" to be a prefix')
        if isinstance(methods, str):
            raise TypeError(f"methods={shown(methods)} must be several, such as [{methods!r}]")
        for what, function in (("key", key), ("exempt", exempt)):
            if not callable(function) and not (what == "exempt" and function is None):
                raise TypeError(f"{what} must be a function of the call, not {shown(function)}")
        if not callable(cost):
            check_count("cost", cost)
        if not callable(tier):
            self.limiter._tier(tier)
        if unknown not in ("refuse", "admit", "share"):
            raise ValueError(f'unknown={shown(unknown)} must be "refuse", "admit" or "share"')
        check_name(layer)
        if name is not None:
            check_name(name)
        self.path, self.layer, self.name = path, layer, layer if name is None else name
        self.methods = None if methods is None else frozenset(one.upper() for one in methods)
        if self.methods is not None and "GET" in self.methods:
            self.methods |= {"HEAD"}
        self.key, self.cost, self.tier, self.exempt, self.unknown = key, cost, tier, exempt, unknown
        self.holds = self.limiter._holds()
        self.check = self.limiter.check  # looked up once, as it is called for every request
        self._plain = None if exempt is not None or callable(cost) or callable(tier) else (cost, tier)
        self._complained = False
        self._announced: object = None
        self._policies: dict[str | None, Policy] = {}

    def __repr__(self) -> str:
        return f"<Rule {self.name!r} for {self.path!r}: {self.limiter!r}>"

    def fits(self, method: str) -> bool:
        """Whether it is for a method."""
        return method != "OPTIONS" if self.methods is None else method in self.methods

    def asks(self, call: Call) -> Ask | None:
        """What to ask the limiter; None for nothing. Raises Unidentified."""
        try:
            plain = self._plain
            if plain is not None:
                key = self.key(call)
                cost, tier = plain
                if type(key) is str:
                    return self, key, cost, tier
            else:
                if self.exempt is not None and self.exempt(call):
                    return None
                key = self.key(call)
                cost = self.cost(call) if callable(self.cost) else self.cost
                tier = self.tier(call) if callable(self.tier) else self.tier
                if cost == 0 and cost is not False:
                    return None
                check_count("cost", cost)
                self.limiter._tier(tier)
            if key is not None:
                self.limiter.fingerprint(key)
                return self, key, cost, tier
        except Exception:
            self.complain("a function of it failed, so it is unknown who calls")
        if self.unknown == "refuse":
            raise Unidentified
        if self.unknown == "admit":
            return None
        tiers = self.limiter._tier_index
        return self, f"unknown:{call.identity.peer(call.peer).key}", 1, None if None in tiers else next(iter(tiers))

    def complain(self, text: str) -> None:
        """Logs the exception at hand, the first time."""
        if not self._complained:
            self._complained = True
            log.exception("%r: %s (said once)", self, text)

    def policy(self, tier: str | None) -> Policy:
        """How its limits are announced; made anew after limiter.replace."""
        limits = self.limiter._limits
        if limits is not self._announced:
            self._policies = {tier: policy(self.name, of_tier) for tier, of_tier in limits.items()}
            self._announced = limits
        return self._policies[tier]


class _Node:
    """A place in the tree of paths: what is below it, and the rules that end here."""

    __slots__ = ("any", "below", "exact", "prefix")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.exact: list[Rule] = []
        self.prefix: list[Rule] = []


class Rules:
    """All rules of an application. `find` takes as long as the deepest rule is deep, however many there are.

    found: what it has found for the last paths, by method and path.
    """

    def __init__(self, rules: Iterable[Rule | Limiter | Rates]) -> None:
        self.all = tuple(rule if isinstance(rule, Rule) else Rule(rule) for rule in rules)
        self._layers = tuple(dict.fromkeys(rule.layer for rule in self.all))
        self._root = _Node()
        self._depth = 0
        self.found: dict[tuple[str, str], tuple[Rule, ...]] = {}
        for rule in self.all:
            self._add(rule)

    def _add(self, rule: Rule) -> None:
        node, parts = self._root, _parts(rule.path)
        prefix = bool(parts) and parts[-1] == "*"
        for part in parts[:-1] if prefix else parts:
            if _PARAMETER.fullmatch(part):
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.below.setdefault(part, _Node())
        self._depth = max(self._depth, len(parts))
        there = node.prefix if prefix else node.exact
        for other in there:
            if other.layer == rule.layer and (other.methods == rule.methods or (other.methods or rule.methods) is None):
                raise ValueError(f"{rule!r} can never count beside {other!r}: give one of them another layer")
        there.append(rule)
        there.sort(key=lambda one: one.methods is None)

    def find(self, method: str, path: str) -> tuple[Rule, ...]:
        """The rules for a request: of each layer the most specific, in the order the layers were first named."""
        found = self.found.get((method, path))
        if found is None:
            best: dict[str, Rule] = {}
            for rule in self._candidates(self._root, _parts(path, self._depth + 1), 0):
                if rule.layer not in best and rule.fits(method):
                    best[rule.layer] = rule
            found = tuple(best[layer] for layer in self._layers if layer in best)
            if len(path) <= _PATH_REMEMBERED and len(method) <= _PATH_REMEMBERED:
                if len(self.found) >= _REMEMBERED:
                    self.found.clear()
                self.found[method, path] = found
        return found

    def _candidates(self, node: _Node, parts: list[str], depth: int) -> Iterator[Rule]:
        """The rules on the way to a path, the most specific first."""
        if depth == len(parts):
            yield from node.exact
        else:
            for child in (node.below.get(parts[depth]), node.any):
                if child is not None:
                    yield from self._candidates(child, parts, depth + 1)
        yield from node.prefix


def _parts(path: str, most: int | None = None) -> list[str]:
    """What stands between a path's slashes; no more than `most`, however long the path."""
    if most is None:
        return [part for part in path.split("/") if part]
    found: list[str] = []
    for match in re.finditer("[^/]+", path):
        found.append(match[0])
        if len(found) == most:
            break
    return found

