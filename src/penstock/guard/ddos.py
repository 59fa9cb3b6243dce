"""Floods, as scenarios: an address's rates each in its own window, its behaviour, and emergency mode at a global
rate."""

from __future__ import annotations

from penstock.guard.scenario import Scenario
from penstock.guard.settings import Ddos
from penstock.guard.verdict import Action, Severity, Technique

EMERGENCY, STILL_HOT = "emergency.global_rate", "emergency.still_hot"
BEHAVIOUR = "ddos.behaviour"
ANSWERS, ERRORS = "behaviour.answers", "behaviour.errors"


def scenarios(ddos: Ddos) -> tuple[Scenario, ...]:
    """Those of a configuration. The points of behaviour: diversity 30, focus 20, many User-Agents 25,
    metronome 35, intervals below 50 ms 40, errors 30; one address is refused at 70 in 300 s."""
    found: list[Scenario] = []

    def flood(name: str, capacity: int, window: float, *when: str) -> None:
        if capacity:
            found.append(
                Scenario(
                    name=name,
                    when=when,
                    capacity=capacity,
                    window=window,
                    action=ddos.action,
                    ban=ddos.ban,
                    severity=Severity.HIGH,
                    type="ddos_blocked",
                    dry_run=ddos.dry_run,
                )
            )

    flood("ddos.per_second", ddos.per_second, 1)
    flood("ddos.per_minute", ddos.per_minute, 60)
    if ddos.emergency:
        flood("ddos.emergency_per_second", ddos.emergency_per_second, 1, "emergency")
        flood("ddos.emergency_per_minute", ddos.emergency_per_minute, 60, "emergency")
        found.append(
            Scenario(
                name=EMERGENCY, by=(), capacity=ddos.emergency, leak=1 / ddos.emergency, severity=Severity.CRITICAL
            )
        )
        half = max(1, ddos.emergency // 2)
        found.append(Scenario(name=STILL_HOT, by=(), when="emergency", capacity=half, leak=1 / half))
    if ddos.same_endpoint or ddos.behaviour:
        found.append(Scenario(name="ddos.requests", window=300, silent=True))
    if ddos.same_endpoint:
        found.append(
            Scenario(
                name="ddos.same_endpoint",
                by=("address", "endpoint"),
                capacity=ddos.same_endpoint,
                window=300,
                of={"ddos.requests": (0, 50)},
                action=ddos.action,
                ban=ddos.ban,
                severity=Severity.HIGH,
                type="ddos_blocked",
                dry_run=ddos.dry_run,
            )
        )
    if ddos.behaviour:
        found += _behaviour(ddos)
    return tuple(found)


def _behaviour(ddos: Ddos) -> list[Scenario]:
    def sign(name: str, points: int, **how: object) -> Scenario:
        return Scenario(
            name=f"behaviour.{name}",
            blackhole=300,
            adds={BEHAVIOUR: points},
            severity=Severity.LOW,
            technique=Technique.BEHAVIORAL_ANOMALY,
            dry_run=ddos.dry_run,
            **how,  # type: ignore[arg-type]
        )

    return [
        sign(
            "diversity",
            30,
            when="not static",
            distinct="path",
            capacity=40,
            window=300,
            of={"ddos.requests": (0.8, 50)},
        ),
        sign(
            "focus", 20, distinct="path", leading=True, capacity=160, window=300, of={"ddos.requests": (0.8, 200)}
        ),
        sign("many_agents", 25, distinct="agent", capacity=5, window=300),
        sign("metronome", 35, capacity=60, regular=0.05, window=120),
        sign("rapid", 40, capacity=100, leak=0.05),
        Scenario(name=ANSWERS, on="response", window=300, silent=True),
        sign(
            "errors", 30, on="response", when="status:4xx", capacity=20, window=300, of={ANSWERS: (0.5, 40)}
        ),
        Scenario(
            name=BEHAVIOUR,
            when="never",
            capacity=ddos.behaviour - 1,
            leak=300 / ddos.behaviour,
            blackhole=60,
            action=Action.BAN,
            ban=ddos.ban,
            severity=Severity.HIGH,
            technique=Technique.BEHAVIORAL_ANOMALY,
            type="ddos_blocked",
            dry_run=ddos.dry_run,
        ),
    ]
