"""The gate that all frameworks share: a call in, an Outcome out, and what the answer to it says of that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypedDict

from penstock.adapters.call import Call
from penstock.adapters.headers import NAMES, Fields, Policy, Style, check_style, fields, retry_after
from penstock.adapters.identity import Identity, Network
from penstock.adapters.rules import Ask, Rule, Rules, Unidentified, log
from penstock.decision import Decision
from penstock.errors import PenstockError
from penstock.limiter import Limiter, Rates

SCOPE = "penstock.outcome"
"""Under this name the Outcome of a request is found in its scope, environ or the like."""

_FAILED = "its limiter failed; calls are admitted"


class Outcome:
    """What became of one call: true when it may pass.

    allowed   whether every limit asked admits
    decided   every limiter's answer, with how it is announced
    speaking  the Decision that X-RateLimit-* and Retry-After are about: of a refusal the one that waits longest, else
              the one with the fewest units left; None where no limit was asked
    held      what `release` gives back: the units of Concurrency limits
    """

    __slots__ = ("allowed", "decided", "gate", "held", "speaking")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.allowed = True
        self.speaking: Decision | None = None
        self.decided: tuple[tuple[Policy, Decision], ...] = ()
        self.held: tuple[Ask, ...] = ()

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def status(self) -> int:
        """200; 429 where waiting helps; 403 for a client that cannot be told from others."""
        return 200 if self.allowed else 403 if self.speaking is None else 429

    @property
    def retry_after(self) -> int | None:
        """Whole seconds, as in Retry-After; None where there is none."""
        return None if self.speaking is None else retry_after(self.speaking)

    def fields(self) -> Fields:
        """The headers that tell of it, names in lower case."""
        return fields(self.gate.style, self.decided, self.speaking) if self.speaking is not None else ()

    def headers(self) -> list[tuple[str, str]]:
        """`fields` as str, the names as people write them."""
        return [(NAMES[name], value.decode("ascii")) for name, value in self.fields()]

    def release(self) -> None:
        """Gives back what is held while a call is answered. More than once does no harm."""
        held, self.held = self.held, ()
        for rule, key, cost, tier in held:
            try:
                rule.limiter.release(key, cost, tier)
            except PenstockError:
                rule.complain(_FAILED)

    def ask(self, rules: Sequence[Rule], call: Call) -> bool:
        """Asks rules: all admit, or nothing is taken of any. What they say is added to this outcome."""
        asks: Sequence[Ask]
        try:
            if len(rules) == 1:
                one = rules[0].asks(call)
                asks = () if one is None else (one,)
            else:
                asks = _hardest_first([ask for rule in rules if (ask := rule.asks(call)) is not None])
        except Unidentified:
            self.allowed, self.speaking = False, None
            return False
        for ask in asks:
            rule, key, cost, tier = ask
            try:
                decision = rule.check(key, cost, tier)
            except PenstockError:
                rule.complain(_FAILED)
                continue
            self.decided += ((rule.policy(tier), decision),)
            if not decision.allowed:
                self.allowed, self.speaking = False, decision
                self._take_back(asks[: asks.index(ask)])
                return False
            speaking = self.speaking
            if speaking is None or decision.remaining < speaking.remaining:
                self.speaking = decision
            if rule.holds:
                self.held += (ask,)
        return True

    def _take_back(self, asks: Sequence[Ask]) -> None:
        """Gives back what was taken of these, as one beside them refuses."""
        self.held = tuple(one for one in self.held if not any(one is ask for ask in asks))
        for rule, key, cost, tier in asks:
            try:
                rule.limiter.refund(key, cost, tier)
            except PenstockError:
                rule.complain(_FAILED)


def _hardest_first(asks: list[Ask]) -> list[Ask]:
    """With who would refuse longest in front: when it does, nothing has been taken of the others."""
    if len(asks) < 2:
        return asks
    longest, hardest = -1.0, None
    for ask in asks:
        rule, key, cost, tier = ask
        try:
            decision = rule.limiter.peek(key, cost, tier)
        except PenstockError:
            continue  # said by the check that follows
        if not decision.allowed and decision.retry_after > longest:
            longest, hardest = decision.retry_after, ask
    return asks if hardest is None else [hardest, *(ask for ask in asks if ask is not hardest)]


class Answer(NamedTuple):
    """What a refused client is told, beside the headers of its outcome."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


AnswerFunction = Callable[[Call, Outcome], Answer]


def json_answer(call: Call, outcome: Outcome) -> Answer:
    """The default: 429 with the wait in whole seconds, or 403."""
    if outcome.status == 403:
        words = {"error": "Forbidden", "detail": "Client could not be identified", "type": "unidentified"}
    else:
        words = {"error": "Too many requests", "detail": "Rate limit exceeded", "type": "rate_limited"}
    waits = {} if outcome.retry_after is None else {"retry_after": outcome.retry_after}
    body = json.dumps(words | waits).encode()
    return Answer(outcome.status, [("content-type", "application/json")], body)


class Settings(TypedDict, total=False):
    """What a gate can be told beside its rules; the arguments of Identity, and two more.

    headers  which families of headers answers have: "both", "draft", "x", "none"
    answer   what a refused client is told, a function (call, outcome) -> Answer; where it raises, which is logged once,
             the default
    """

    trusted: int | Iterable[str | Network]
    header: str
    v4: int
    v6: int
    headers: Style
    answer: AnswerFunction


class Gate:
    """An application's rules and settings. Nothing in it changes once it is made, but what the limiters count."""

    __slots__ = ("_complained", "answer", "identity", "rules", "style")

    def __init__(
        self,
        rules: Iterable[Rule | Limiter | Rates] = (),
        *,
        trusted: int | Iterable[str | Network] = (),
        header: str = "x-forwarded-for",
        v4: int = 32,
        v6: int = 64,
        headers: Style = "both",
        answer: AnswerFunction = json_answer,
    ) -> None:
        check_style(headers)
        if not callable(answer):
            raise TypeError(f"answer must be a function (call, outcome) -> Answer, not {type(answer).__name__}")
        self.rules = Rules(rules)
        self.identity = Identity(trusted, header, v4, v6)
        self.style = headers
        self.answer = answer
        self._complained = False

    def outcome(self, call: Call) -> Outcome:
        """Asks all rules that are for a call."""
        outcome = Outcome(self)
        rules = self.rules.found.get((call.method, call.path))
        if rules is None:
            rules = self.rules.find(call.method, call.path)
        if rules:
            outcome.ask(rules, call)
        return outcome

    def refusal(self, call: Call, outcome: Outcome) -> Answer:
        """The answer to a refused call, without the headers of the outcome."""
        try:
            answer = self.answer(call, outcome)
        except Exception:
            if not self._complained:
                self._complained = True
                log.exception("answer=%r failed, so the default is given (said once)", self.answer)
            answer = json_answer(call, outcome)
        headers = [*answer.headers, ("content-length", str(len(answer.body)))]
        return Answer(answer.status, headers, b"" if call.method == "HEAD" else answer.body)


DEFAULT = Gate()
"""For limits of single views in an application that has set up none."""


def ask_one(rule: Rule, call: Call, outcome: Outcome) -> bool:
    """Asks the rule of a single view, if it is for the call's method."""
    return not rule.fits(call.method) or outcome.ask((rule,), call)
