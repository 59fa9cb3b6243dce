"""Guard, the one object: a request goes in, a verdict comes out, and what came of it is told afterwards.

request -> facts -> lists -> bans -> what is counted -> limits -> what it contains -> evidence -> tier, action ->
verdict response -> what is counted -> evidence -> bans, for the next request
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from penstock._records import LEAKY, SCORE, Rule
from penstock.clock import NS, Clock, SystemClock
from penstock.decision import Decision
from penstock.errors import PenstockError, shown
from penstock.guard import bypass, ddos, probing, tracking
from penstock.guard.agents import Agents, Paths
from penstock.guard.bans import BANNING, TIGHT, BanBook, kind_of_ban
from penstock.guard.conditions import Conditions, Denied
from penstock.guard.config import Config
from penstock.guard.detectors import Detectors, Found
from penstock.guard.events import Events
from penstock.guard.facts import ADDRESS, NAMES, NUMBERS, Endpoints, Facts, Place, Reader, place_of, subject
from penstock.guard.geo import Geo
from penstock.guard.limits import Flights, LimitSet, Making, Refusal
from penstock.guard.listing import SharedLists
from penstock.guard.operations import ALL, NEUTRAL, Operations
from penstock.guard.request import Request, Response
from penstock.guard.responses import respond
from penstock.guard.scenario import PHASES, Scenario, compile_rules
from penstock.guard.state import open_state
from penstock.guard.statistics import TOTAL, Statistics
from penstock.guard.verdict import GRAVER, Action, Evidence, Severity, Tier, Verdict, action_of
from penstock.segment.options import Segment, read_shared
from penstock.sync.options import Client, Sync, read_sync

if TYPE_CHECKING:
    from penstock.guard.exchange import Exchange

log = logging.getLogger("penstock.guard")

_TOP = 256
_TIER_OF = {
    Action.ALLOW: Tier.NORMAL,
    Action.LOG: Tier.SUSPICIOUS,
    Action.TARPIT: Tier.SUSPICIOUS,
    Action.CHALLENGE: Tier.SUSPICIOUS,
    Action.BLOCK: Tier.BLOCK,
    Action.BAN: Tier.BANNED,
}
_BUILT_IN = ("lists", "country", "ban", "flights", "limits", "tracking", "scan", "anomaly", "on_error", "detector")


class Flight:
    """A request that is being answered: entered before it is judged, left when its answer has ended."""

    __slots__ = ("_begun", "_flights", "_key", "_request")

    def __init__(self, flights: Flights, request: Request, emergency: bool) -> None:
        self._flights, self._request = flights, request
        self._key = place_of(request.address).key
        self._begun = False
        if self._key is not None:
            self._begun = flights.begin(self._key, emergency)
            request._crowded = not self._begun

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        if self._begun and self._key is not None:
            self._begun = False
            self._flights.end(self._key)


_NO_FLIGHT = contextlib.nullcontext()


class Guard(Operations):
    """Judges requests, by what it counts about who sends them and by what they contain.

    config: a Config, the name of a preset ("web", "api", "login", "iot", "strict"), or a mapping; None watches nothing.
    shared: a name or a Segment: all workers of the host are one guard. sync: a Redis URL, client or Sync: bans, lists
    and limits cross instances of the same `name`. clock: for tests and replays.

    Memory is bounded by config.clients. Safe from any thread; no call waits for another or for a network.

    >>> guard = Guard("web")
    >>> bool(guard.inspect(Request("192.0.2.1", path="/shop", headers={"user-agent": "Mozilla/5.0"})))
    True
    >>> guard.inspect(Request("192.0.2.1", query="id=1' UNION SELECT password FROM users--")).kind
    'threat_detected'
    >>> guard.close()
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | None = None,
        *,
        clock: Clock | None = None,
        shared: str | os.PathLike[str] | Segment | None = None,
        sync: str | Client | Sync | None = None,
        name: str | None = None,
    ) -> None:
        self.config = config = Config.read(config)
        self.name = name
        self._clock = SystemClock() if clock is None else clock
        segment = None if shared is None else read_shared(shared)
        self.shared = None if segment is None else segment.path
        threats, addresses = config.threats, config.addresses

        self._geo = None
        if addresses is not None and (addresses.geoip or addresses.geoip_asn):
            self._geo = Geo(addresses.geoip, addresses.geoip_asn)
        prefixes = (*config.endpoints, *(config.limits.endpoints if config.limits is not None else ()))
        self._scenarios = self._all_scenarios()
        wanted = {name for one in self._scenarios for name in (*one.by, one.distinct) if name is not None}
        self._reader = Reader(Endpoints(prefixes), config.extra, self._geo, tuple(wanted), self.failed)
        agents = Agents.load(threats.agents) if threats is not None and threats.agents else Agents()
        self._conditions = Conditions(agents, Paths(), threats.login if threats is not None else ())
        rules = compile_rules(self._scenarios, self._fact, self._conditions.bit)
        emergency, tight = self._conditions.state("emergency"), self._conditions.state("tight")
        self._watched = (0, emergency, tight, emergency | tight)  # by what Records.watch says
        self._told = len(rules)
        rules.append(Rule(LEAKY, (ADDRESS,), capacity=5, span_ns=10 * NS))
        self._score = self._good = self._bad = None
        if addresses is not None and addresses.reputation:
            self._score, self._good, self._bad = len(rules), len(rules) + 1, len(rules) + 2
            rules.append(Rule(SCORE, (ADDRESS,), half_life=addresses.half_life))
            rules.append(Rule(LEAKY, (ADDRESS,), capacity=1, span_ns=60 * NS))
            rules.append(Rule(LEAKY, (ADDRESS,), capacity=1, span_ns=10 * NS))
        bounds = [sum(PHASES.index(one.on) < phase for one in self._scenarios) for phase in range(len(PHASES) + 1)]
        self._request_rules, self._limited_rules, self._response_rules = (
            (bounds[phase], bounds[phase + 1]) for phase in range(len(PHASES))
        )
        self._numbers = {one.name: number for number, one in enumerate(self._scenarios)}
        self._emergency_rules = tuple(self._numbers.get(name, -1) for name in (ddos.EMERGENCY, ddos.STILL_HOT))
        self._bannable = [kind_of_ban(one.by) for one in self._scenarios]
        self._tracker = None
        if config.tracking is not None:
            self._tracker = tracking.Tracker(config.tracking, 0, self._fact)

        now_ns, wall_ns = self._clock.now_ns(), self._clock.wall_ns()
        state = open_state(
            rules, config.clients, self._common_secret(sync), name, sync is not None, clock, now_ns, wall_ns, segment
        )
        self._records, self._birth_ns, self._wall_ns, secret = state
        self._now_ns, self._latest = self._clock.now_ns, 1
        reasons = (*_BUILT_IN, *(one.name for one in self._scenarios))
        self._bans = BanBook(self._records, config.bans, reasons, random.Random())
        self.statistics = Statistics(self._records, reasons)
        self._detectors = Detectors(self._late)
        self._lists = SharedLists(addresses, self.shared, self._records)
        making = Making(name or "guard", config.clients, clock, segment, sync)
        self._limits = None if config.limits is None else LimitSet(config.limits, making, self._fact)
        self._limits_headers = config.limits is not None and config.limits.headers
        self._flights = None
        if config.ddos is not None and config.ddos.in_flight:
            self._flights = Flights(config.ddos.in_flight, config.ddos.emergency_in_flight, making)
        self._threats = self._anomaly = None
        if threats is not None and threats.scan:
            from penstock.guard.threats import Threats as Scanning

            self._threats = Scanning(
                threats.paranoia,
                threats.threshold,
                exclude=threats.exclude,
                body_most=threats.body_most if threats.body else 0,
            )
            for name, pattern in threats.patterns.items():
                asked = functools.partial(self._matches, name, pattern) if callable(pattern) else pattern
                self._threats.add_pattern(name, asked, math.ceil(threats.threshold))
        if threats is not None and threats.anomaly < 1:
            from penstock.guard.anomaly import Anomaly

            self._anomaly = Anomaly(seed=int.from_bytes(os.urandom(8)))  # nobody can try at home what it thinks odd
        self.body_most = threats.body_most if threats is not None and threats.scan and threats.body else 0
        events = config.events
        self.events = Events(
            events.on_event, events.capacity, events.retention, keep=events.kept, secret=secret, clock=clock
        )
        self._secret = secret
        self._in_path = False
        self._held = 0
        self._holding = threading.Lock()  # of the tarpit's count alone: no decision waits for it
        self._top: dict[str, list[int]] = {}
        self._errors: dict[str, int] = {}
        self._exchange: Exchange | None = None
        if sync is not None:
            from penstock.guard.exchange import Exchange  # here, because most guards need no Redis

            options = read_sync(sync)
            self._exchange = Exchange(options.url, name or "guard", self._apply, self._common_secret(sync))

    def _common_secret(self, sync: str | Client | Sync | None) -> bytes | None:
        """What was given to key hashes, here or with sync=."""
        if sync is None or self.config.secret is not None:
            return self.config.secret
        return read_sync(sync).secret

    def _time(self) -> int:
        """Nanoseconds since the records' birth; where the clock was set back, time stands still."""
        now = self._now_ns() - self._birth_ns
        if now < self._latest:
            return self._latest
        self._latest = now
        return now

    # ---- putting it together ----

    def _all_scenarios(self) -> list[Scenario]:
        config = self.config
        found: list[Scenario] = []
        if config.tracking is not None:
            found += tracking.scenarios(config.tracking)
        if config.ddos is not None:
            found += ddos.scenarios(config.ddos)
        if config.bypass is not None:
            found += bypass.scenarios(config.bypass)
        if config.threats is not None and config.threats.probing:
            found += probing.scenarios(config.threats)
        found += config.scenarios
        return sorted(found, key=lambda one: PHASES.index(one.on))

    def _fact(self, name: str) -> int:
        if name not in self._reader.numbers:
            raise ValueError(f"{shown(name)} is no fact; there are {', '.join(self._reader.names)}")
        return self._reader.numbers[name]

    # ---- one request ----

    def inspect(self, request: Request) -> Verdict:
        """The verdict on a request, which is counted. Takes microseconds; never waits."""
        now = self._time()
        records, config = self._records, self.config
        records.count(TOTAL)
        place = place_of(request.address)
        listed = self._lists.judge(request.address)
        if listed is not None:
            if listed.kind == "allow":
                return _ALLOWED
            said = Evidence(
                "lists", Severity.HIGH, f"{listed.kind} {listed.entry} ({listed.source})", key=place.key or ""
            )
            return self._refuse(request, place, Found(said, Action.BLOCK, "ip_blocked"), None)
        facts = self._reader.read(request, place)
        if (
            self._geo is not None
            and config.addresses is not None
            and facts[NUMBERS["country"]] in config.addresses.countries
        ):
            said = Evidence("country", Severity.MEDIUM, f"country {facts[NUMBERS['country']]!s}", key=place.key or "")
            return self._refuse(request, place, Found(said, Action.BLOCK, "ip_blocked"), None)
        watched = records.watch(facts, BANNING, TIGHT, now)
        if watched & 4:
            banned = records.banned(facts, BANNING, now)
            if banned is not None:
                return self._keep_out(request, place, facts, banned)
        states = self._watched[watched & 3]
        try:
            mask = self._conditions.of(request, facts, states, self._condition_failed)
        except Denied as denied:
            said = Evidence("on_error", Severity.MEDIUM, f"scenario {denied} could not be asked", key=place.key or "")
            return self._refuse(request, place, Found(said, Action.BLOCK, "unavailable"), None)
        request._judged = (facts, mask)

        found: list[Found] = []
        if request._crowded:
            said = Evidence("flights", Severity.HIGH, "too many requests at once", key=place.key or "")
            found.append(Found(said, Action.BLOCK, "in_flight", retry_after=1.0))
        first, last = self._request_rules
        if first != last:
            over = records.feed(first, last, facts, mask, now)
            if over:
                self._fired(over, facts, now, found)
        if self._threats is not None:
            evidence = self._threats.look(request, request.path)
            if evidence is not None:
                self._scanned(evidence, facts, now, found)
        if self._anomaly is not None and config.threats is not None:
            score = self._anomaly.score_request(request, self._failure_share(facts, now), place.key)
            if score > config.threats.anomaly:
                said = Evidence(
                    "anomaly",
                    Severity.LOW,
                    f"unlike other requests: {score:.2f}",
                    score,
                    config.threats.anomaly,
                    place.key or "",
                )
                found.append(Found(said, Action.LOG, "threat_detected"))
        if self._detectors.any:
            found += self._detectors.ask(request, self.failed)
        decision: Decision | None = None
        if self._limits is not None and not (found and any(one.action.refuses and not one.dry for one in found)):
            refusal, decision = self._ask_limits(facts, states)
            if refusal is not None:
                found.append(self._limited(refusal, facts, mask, now, found))
        if not found:
            if decision is None or not self._limits_headers:
                return _ALLOWED
            return allowed_with(decision.limit, decision.remaining, int(decision.reset_after) + 1)
        return self._weigh(request, place, facts, found, decision, now)

    def _keep_out(
        self, request: Request, place: Place, facts: Facts, banned: tuple[int, int, int, int]
    ) -> Verdict:
        """The verdict on one who is banned."""
        fact, left_ms, offences, why = banned
        key = subject(NAMES[fact], facts[fact])
        said = Evidence("ban", Severity.MEDIUM, f"banned for {self._bans.reason(why)}", offences, key=key)
        return self._refuse(request, place, Found(said, Action.BAN, "banned"), left_ms / 1000, banned=True)

    def _failure_share(self, facts: Facts, now: int) -> float:
        """Of the address's answers in the last minutes, the part that were errors; 0 where that is not counted."""
        answers, errors = self._numbers.get(ddos.ANSWERS), self._numbers.get(ddos.ERRORS)
        if answers is None or errors is None:
            return 0.0
        whole, part = (self._records.counts(one, one + 1, facts, now)[0] for one in (answers, errors))
        return min(1.0, part / whole) if whole and part else 0.0

    def _fired(self, over: tuple[tuple[int, int], ...], facts: Facts, now: int, found: list[Found]) -> None:
        """What the rules that are over (rule, count) come to."""
        tracked = []
        for number, count in over:
            scenario = self._scenarios[number]
            if self._tracker is not None and number < self._tracker.last:
                tracked.append((number, count))
                continue
            if number in self._emergency_rules:
                self._hot(number, count, now)
                continue
            evidence = Evidence(
                scenario.name,
                scenario.severity,
                _said(scenario, count),
                count,
                scenario.capacity,
                " ".join(subject(name, facts[self._fact(name)]) for name in scenario.by),
                scenario.technique,
            )
            wait = scenario.window or scenario.leak or 1.0
            dry = scenario.dry_run or self.config.dry_run
            action = scenario.action
            found.append(Found(evidence, action, scenario.type, wait, scenario.ban, self._bannable[number], dry))
            for name, units in scenario.adds.items():
                other = self._numbers[name]
                if scenario.dry_run and not self._scenarios[other].dry_run:
                    continue
                self._fired(self._records.feed(other, other + 1, facts, ALL, now, units), facts, now, found)
            if scenario.tighten and not dry and facts[NUMBERS["endpoint"]] is not None:
                self._bans.place(
                    "endpoint", str(facts[NUMBERS["endpoint"]]), scenario.tighten, scenario.name, now, exactly=True
                )
        if tracked and self._tracker is not None:
            reached = self._tracker.reached(tracked, self._tracker.applicable(facts), facts)
            if reached is not None:
                dry = self.config.dry_run or self._tracker.settings.dry_run
                banned = kind_of_ban(reached.by)
                for evidence in reached.evidence:
                    found.append(
                        Found(evidence, reached.action, "rate_limited", 1.0, reached.seconds, banned, dry, reached.tier)
                    )

    def _scanned(self, evidence: Evidence, facts: Facts, now: int, found: list[Found]) -> None:
        """A request that contains an injection; who sends several is banned."""
        threats = self.config.threats
        assert threats is not None
        dry = threats.dry_run or self.config.dry_run
        found.append(
            Found(
                evidence._replace(key=str(facts[ADDRESS])),
                threats.action,
                "threat_detected",
                None,
                threats.ban,
                "address",
                dry,
            )
        )
        number = self._numbers.get(probing.INJECTION)
        if number is not None:
            self._fired(self._records.feed(number, number + 1, facts, ALL, now), facts, now, found)

    def _ask_limits(self, facts: Facts, states: int) -> tuple[Refusal | None, Decision | None]:
        assert self._limits is not None
        settings = self._limits.settings
        strained = states & self._watched[3]
        try:
            return self._limits.ask(facts, settings.strict if strained else 1)
        except PenstockError:  # a segment that was cut off, say
            self.failed("limits")
            if settings.on_error == "deny":
                return Refusal("on_error", Decision(False, 0, 0, 60.0, 60.0, 0)), None
            return None, None

    def _limited(self, refusal: Refusal, facts: Facts, mask: int, now: int, found: list[Found]) -> Found:
        decision = refusal.decision
        first, last = self._limited_rules
        if first != last:
            self._fired(self._records.feed(first, last, facts, mask, now), facts, now, found)
        said = f"limit {refusal.name}: {decision.limit} are allowed"
        evidence = Evidence("limits", Severity.LOW, said, decision.limit + 1, decision.limit, str(facts[ADDRESS]))
        assert self._limits is not None
        dry = self.config.dry_run or self._limits.settings.dry_run
        kind = "unavailable" if refusal.name == "on_error" else "rate_limited"
        return Found(evidence, Action.BLOCK, kind, decision.retry_after, dry=dry, decision=decision)

    def _hot(self, number: int, count: int, now: int) -> None:
        """The global rate is that of an emergency, or still too high for one to end."""
        assert self.config.ddos is not None
        was = self._records.prolong(now + int(self.config.ddos.dwell * 1e9))
        if number == self._emergency_rules[0] and was <= now and self._records.emergency[1] == 0:
            said = Evidence(
                "emergency", Severity.CRITICAL, f"more than {self.config.ddos.emergency} requests a second", count
            )
            self.events.emit("emergency", Severity.CRITICAL, None, Action.LOG, (said,))

    # ---- from evidence to a verdict ----

    def _weigh(
        self, request: Request, place: Place, facts: Facts, found: list[Found], decision: Decision | None, now: int
    ) -> Verdict:
        """The verdict that evidence comes to, and its consequences."""
        found.sort(key=_gravest_first)
        gravest = found[0]
        self._lose_reputation(found, facts, now)
        action, ban_left = gravest.action, None
        if action is Action.BAN and not gravest.dry:
            ban_left = self._ban_for(gravest, facts, now)
        if gravest.dry or not action.refuses:
            delay = self.config.tarpit.seconds if action is Action.TARPIT and not gravest.dry else 0.0
            tier = gravest.tier or _TIER_OF[action]
            headers: tuple[tuple[str, str], ...] = ()
            if decision is not None and self._limits_headers:
                headers = rate_fields(decision.limit, decision.remaining, int(decision.reset_after) + 1)
            verdict = Verdict(True, tier, action, tuple(one.evidence for one in found), headers=headers, delay=delay)
            self._note(request, place, verdict, gravest, dry=gravest.dry and action.refuses)
            return verdict
        return self._refuse(request, place, gravest, ban_left or gravest.retry_after, tuple(found[1:]))

    def _refuse(
        self,
        request: Request,
        place: Place,
        gravest: Found,
        wait: float | None,
        others: tuple[Found, ...] = (),
        banned: bool = False,
    ) -> Verdict:
        """The verdict that refuses; with a dry run of the whole, one that only says so."""
        reasons = (gravest.evidence, *(one.evidence for one in others))
        action = gravest.action
        tier = gravest.tier or _TIER_OF[action]
        if self.config.dry_run:
            verdict = Verdict(True, tier, action, reasons)
            self._note(request, place, verdict, gravest, dry=True)
            return verdict
        kind = "challenge" if action is Action.CHALLENGE else gravest.kind
        limited = gravest.decision
        if limited is not None:
            answer = respond(kind, wait, limited.limit, limited.remaining, limited.reset_after)
        else:
            answer = respond(kind, wait)
        verdict = Verdict(
            False,
            tier,
            action,
            reasons,
            kind=kind,
            retry_after=wait,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
        )
        self._note(request, place, verdict, gravest, quiet=banned)
        return verdict

    def _note(
        self, request: Request, place: Place, verdict: Verdict, gravest: Found, dry: bool = False, quiet: bool = False
    ) -> None:
        """Counts what came of a request with evidence, and tells of it, of one address at most five times and then once
        in ten seconds. quiet: it was told when it began."""
        evidence = gravest.evidence
        detector = (
            evidence.detector.partition(".")[0] if evidence.detector.startswith("tracking.") else evidence.detector
        )
        request._noted = True
        self.statistics.end(gravest.kind if gravest.action.refuses else "", verdict.tier, verdict.action, detector, dry)
        if place.key is not None:
            self._rank(place.key, not verdict.allowed)
        if not quiet and not self._records.feed(self._told, self._told + 1, (place.key,), 0, self._time()):
            severity = max(one.severity for one in verdict.reasons)
            kind = verdict.kind or ("would_be_" if dry else "") + str(verdict.action)
            self.events.emit(
                kind, severity, place.key, verdict.action, verdict.reasons, method=request.method, path=request.path
            )

    def _rank(self, key: str, refused: bool) -> None:
        """Keeps those who give most evidence; the least half goes when there are too many."""
        top = self._top
        counts = top.get(key)
        if counts is None:
            if len(top) >= _TOP:
                kept = sorted(top.items(), key=lambda item: -item[1][0])[: _TOP // 2]
                self._top = top = dict(kept)
            counts = top[key] = [0, 0]
        counts[0] += 1
        counts[1] += refused

    def _lose_reputation(self, found: list[Found], facts: Facts, now: int) -> None:
        """Findings from MEDIUM on that ask for more than a log entry cost five points for each step of their severity,
        about once in ten seconds: a burst is one offence."""
        if self._score is None or self._bad is None or self.config.addresses is None:
            return
        worst = max(
            (
                one.evidence.severity
                for one in found
                if GRAVER[one.action] > GRAVER[Action.LOG]
                and one.banned is not None
                and not one.dry
                and one.evidence.detector != "limits"
            ),
            default=0,
        )
        if worst < Severity.MEDIUM or self._records.feed(self._bad, self._bad + 1, facts, 0, now):
            return
        score = self._records.score(self._score, facts, now, -5.0 * worst, -NEUTRAL, 0.0)
        if score is not None and NEUTRAL + score <= self.config.addresses.auto_ban and not self.config.dry_run:
            self._ban(("address", str(facts[ADDRESS])), self.config.addresses.ban, "reputation", now)

    def _ban_for(self, found: Found, facts: Facts, now: int) -> float | None:
        """Bans whom a finding is about; seconds of it."""
        kind = found.banned
        value = None if kind is None else facts[NUMBERS[kind]]
        if kind is None or value is None:
            return None
        return self._ban((kind, str(value)), found.ban, found.evidence.detector, now)

    def _ban(
        self, whom: tuple[str, str], seconds: float, reason: str, now: int, exactly: bool = False, why: str = ""
    ) -> float | None:
        """Bans and tells of it; seconds left, None without a place for it. why: what is told in place of the reason."""
        kind, value = whom
        placed = self._bans.place(kind, value, seconds, reason, now, exactly)
        if placed is None:
            return None
        left = placed.until_ms / 1000 - now / 1e9
        detail = f"banned for {left:.0f} s: {why or reason}"
        said = Evidence("ban", Severity.HIGH, detail, placed.offences, key=subject(kind, value))
        self.events.emit("ban", Severity.HIGH, value if kind == "address" else None, Action.BAN, (said,))
        until = self._wall_ns / 1e9 + placed.until_ms / 1000
        self._tell("ban", f"{placed.key:016x}", until, placed.offences, why or reason)
        return left

    def _tell(self, kind: str, key: str, until: float = 0.0, offences: int = 0, reason: str = "") -> None:
        """Tells other instances of a change that was made here."""
        if self._exchange is not None:
            from penstock.guard.exchange import Change

            self._exchange.tell(Change(kind, key, until, offences, reason))

    # ---- what came of it ----

    def observe(self, request: Request, response: Response) -> tuple[Evidence, ...]:
        """Told what an allowed request was answered; what that is too much of is a ban, from the next request on.
        Returns the evidence, the gravest first; mostly there is none."""
        judged = request._judged
        if judged is None:  # listed, or not inspected
            return ()
        facts, mask = judged
        now = self._time()
        first, last = self._response_rules
        found: list[Found] = []
        if first != last:
            over = self._records.feed(first, last, facts, mask | self._conditions.status(response.status), now)
            if over:
                self._fired(over, facts, now, found)
        if not found:
            if self._good is not None and self._score is not None and response.status < 400:
                self._reward(facts, now)
            return ()
        gravest = self._follow_up(request, found, facts, now)
        tier = None if request._noted else _TIER_OF[gravest.action]
        request._noted = True
        self.statistics.end("", tier, gravest.action, gravest.evidence.detector, False)
        return tuple(one.evidence for one in found)

    def _follow_up(self, request: Request, found: list[Found], facts: Facts, now: int) -> Found:
        """What evidence that comes after the verdict leads to: reputation, a ban, an event. Sorts it; the gravest."""
        found.sort(key=_gravest_first)
        gravest = found[0]
        self._lose_reputation(found, facts, now)
        if gravest.action.refuses and not gravest.dry and not self.config.dry_run:
            self._ban_for(gravest, facts, now)
        key = facts[ADDRESS]
        self.events.emit(
            str(gravest.action),
            max(one.evidence.severity for one in found),
            str(key) if key else None,
            gravest.action,
            tuple(one.evidence for one in found),
            method=request.method,
            path=request.path,
        )
        return gravest

    def _reward(self, facts: Facts, now: int) -> None:
        """A good answer raises a bad reputation by a point, once a minute; never above neutral, for trust is not for
        sale."""
        assert self._good is not None
        assert self._score is not None
        if self._records.score(self._score, facts, now) and not self._records.feed(
            self._good, self._good + 1, facts, 0, now
        ):
            self._records.score(self._score, facts, now, 1.0, -NEUTRAL, 0.0)

    def flight(self, request: Request) -> contextlib.AbstractContextManager[None]:
        """Counts a request as being answered, from before `inspect` until its answer has ended."""
        if self._flights is None:
            return _NO_FLIGHT
        return Flight(self._flights, request, self.emergency_on)

    @contextlib.contextmanager
    def tarpit(self) -> Iterator[bool]:
        """Around holding a request; false when as many are held as may be."""
        with self._holding:
            room = self._held < self.config.tarpit.held
            self._held += room
        try:
            yield room
        finally:
            with self._holding:
                self._held -= room

    def seen(self) -> None:
        """Told by a middleware at its first request: the guard is in the path."""
        self._in_path = True

    def failed(self, where: str) -> bool:
        """Told inside `except` that something failed: counted, logged once for each place; whether to admit."""
        self.statistics.error()
        self._errors[where[:100]] = self._errors.get(where[:100], 0) + 1
        if self._errors[where[:100]] == 1 and len(self._errors) <= _TOP:
            log.exception("the guard's %s failed; counted, and not logged again", where[:100])
        return self.config.on_error != "deny"

    def _matches(self, name: str, pattern: Callable[[str], bool], value: str) -> bool:
        """Asks a pattern of the application; one that fails has found nothing."""
        try:
            return bool(pattern(value))
        except Exception:
            self.failed(f"pattern {name}")
            return False

    def _condition_failed(self, scenario: str, deny: bool) -> None:
        self.failed(f"scenario {scenario}")
        if deny:
            raise Denied(scenario)

    # ---- detectors of the application ----

    def detector(
        self, name: str, *, action: Action | str = Action.LOG, ban: float = 3600.0, dry_run: bool = False
    ) -> Callable[[Callable[[Request], Any]], Callable[[Request], Any]]:
        """Registers a function of the request that returns Evidence or None.

        A plain function is asked in `inspect`, and its evidence counts for this request; a coroutine function runs
        behind, on a thread of its own, and counts from the next request on. One that raises is counted and logged once,
        and the others go on.
        """
        return self._detectors.add(name, action_of("action", action), ban, dry_run or self.config.dry_run)

    def _late(self, request: Request, found: Found) -> None:
        """Evidence of a detector that ran behind."""
        facts = self._reader.read(request, place_of(request.address))
        self._follow_up(request, [found], facts, self._time())

    def close(self) -> None:
        """Ends what runs in the background. Bans and counts of a shared guard stay in its segment."""
        self._detectors.close()
        if self._exchange is not None:
            self._exchange.close()
        self.events.close()
        if self._limits is not None:
            self._limits.close()
        if self._flights is not None:
            self._flights.close()
        if self._geo is not None:
            self._geo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_ALLOWED = Verdict(True)


@functools.lru_cache(4096)
def rate_fields(limit: int, remaining: int, reset: int) -> tuple[tuple[str, str], ...]:
    """The headers that say what is left, for an allowed answer; reset in seconds."""
    return (
        ("X-RateLimit-Limit", str(limit)),
        ("X-RateLimit-Remaining", str(remaining)),
        ("X-RateLimit-Reset", str(reset)),
    )


@functools.lru_cache(8192)
def allowed_with(limit: int, remaining: int, reset: int) -> Verdict:
    """The verdict on a request that nothing speaks against."""
    return Verdict(True, headers=rate_fields(limit, remaining, reset))


def _gravest_first(one: Found) -> tuple[bool, int, int]:
    """The order of findings: what acts before what only says so, then by action, then by severity."""
    return one.dry, -GRAVER[one.action], -one.evidence.severity


def _said(scenario: Scenario, count: int) -> str:
    """What a scenario that fired has to say."""
    what = f"different values of {scenario.distinct}" if scenario.distinct else "events"
    if scenario.regular is not None:
        return f"events at intervals that vary by less than {scenario.regular:.0%}"
    if scenario.window is not None:
        return f"{count} {what} in {scenario.window:g} s, {scenario.capacity} are allowed"
    return f"more than {scenario.capacity} {what} beyond one in {scenario.leak:g} s"
