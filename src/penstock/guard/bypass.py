"""Ways around limits, as scenarios: rotation, spoofing, distributed attacks, odd behaviour, stolen sessions,
evasion."""

from __future__ import annotations

from penstock.guard.scenario import Scenario
from penstock.guard.settings import Bypass
from penstock.guard.verdict import Severity, Technique

SUSPICION = "bypass.behaviour"
DAY = 86_400


def scenarios(bypass: Bypass) -> tuple[Scenario, ...]:
    """Those of a configuration. A count of 0 switches one off."""
    found: list[Scenario] = []

    def detector(name: str, capacity: int, severity: Severity, technique: Technique, **how: object) -> None:
        if capacity:
            how = {"window": bypass.window, "blackhole": bypass.window, "action": bypass.action} | how
            found.append(
                Scenario(
                    name=f"bypass.{name}",
                    capacity=capacity,
                    severity=severity,
                    technique=technique,
                    ban=bypass.ban,
                    dry_run=bypass.dry_run,
                    **how,  # type: ignore[arg-type]
                )
            )

    detector("ip_rotation", bypass.networks, Severity.HIGH, Technique.IP_ROTATION, by="account", distinct="network")
    detector(
        "user_agent_rotation",
        bypass.agents,
        Severity.MEDIUM,
        Technique.USER_AGENT_SPOOFING,
        by="account",
        distinct="agent",
    )
    if bypass.devices:
        detector(
            "fingerprint",
            bypass.devices,
            Severity.HIGH,
            Technique.FINGERPRINT_MISMATCH,
            by="user",
            distinct="fingerprint",
            window=DAY,
            blackhole=3600,
            action="log",
        )
        found.append(
            Scenario(
                name="bypass.session_networks",
                by="session",
                distinct="network",
                capacity=8,
                window=bypass.window,
                silent=True,
            )
        )
        detector(
            "session_hijacking",
            1,
            Severity.CRITICAL,
            Technique.SESSION_HIJACKING,
            by="session",
            distinct="fingerprint",
            of={"bypass.session_networks": (0, 2)},
        )
    if bypass.distributed:
        found.append(Scenario(name="bypass.endpoint_answers", by="endpoint", on="response", window=60, silent=True))
        found.append(
            Scenario(
                name="bypass.endpoint_baseline",
                by="endpoint",
                on="response",
                when="status:4xx",
                window=3600,
                silent=True,
            )
        )
        detector(
            "distributed",
            bypass.distributed,
            Severity.CRITICAL,
            Technique.DISTRIBUTED_ATTACK,
            by="endpoint",
            on="response",
            when=("status:4xx", "not status:404"),
            distinct="address",
            window=60,
            blackhole=60,
            of={"bypass.endpoint_answers": (0.25, 20), "bypass.endpoint_baseline": (0.05, 1)},
            action="log",
            tighten=bypass.tighten,
        )
    if bypass.behaviour:
        for name, points, how in (
            ("missing_headers", 1, {"when": "bare"}),
            ("long_chain", 2, {"when": "long_chain"}),
        ):
            detector(
                name,
                1,
                Severity.LOW,
                Technique.BEHAVIORAL_ANOMALY,
                blackhole=30,
                adds={SUSPICION: points},
                action="log",
                **how,
            )
        if bypass.rapid:
            detector(
                "rapid",
                bypass.rapid,
                Severity.LOW,
                Technique.BEHAVIORAL_ANOMALY,
                when="not static",
                window=10,
                blackhole=30,
                adds={SUSPICION: 1},
                action="log",
            )
        detector(
            "behaviour",
            bypass.behaviour,
            Severity.MEDIUM,
            Technique.BEHAVIORAL_ANOMALY,
            when="never",
            action="log",
        )
    detector(
        "evasion",
        bypass.networks,
        Severity.HIGH,
        Technique.RATE_LIMIT_EVASION,
        by="account",
        on="limited",
        distinct="network",
    )
    return tuple(found)
