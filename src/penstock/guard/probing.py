"""Scanners, crawlers and guessers, as scenarios: known by what they ask for and by what they are answered."""

from __future__ import annotations

from penstock.guard.scenario import Scenario
from penstock.guard.settings import Threats
from penstock.guard.verdict import Action, Severity

INJECTION = "probing.injections"


def scenarios(threats: Threats) -> tuple[Scenario, ...]:
    """Those of a configuration. Capacities and leaks are those that CrowdSec's scenarios of the same kind have been
    tried with (crowdsecurity/hub); all of them ban."""

    def probe(name: str, capacity: int, leak: float, **how: object) -> Scenario:
        return Scenario(
            name=f"probing.{name}",
            capacity=capacity,
            leak=leak,
            blackhole=300,
            action=Action.BAN,
            ban=threats.ban,
            severity=Severity.HIGH,
            dry_run=threats.dry_run,
            **how,  # type: ignore[arg-type]
        )

    found = [
        probe("scanner", 1, 60, when="agent:scanner"),
        probe("sensitive_files", 4, 5, when=("path:sensitive_file", "not status:2xx"), on="response", distinct="path"),
        probe("technology", 0, 1, when=("path:technology", "status:4xx"), on="response"),
        probe("w00tw00t", 0, 1, when="path:w00tw00t"),
        probe("backdoor", 0, 1, when=("path:backdoor", "status:4xx"), on="response"),
        probe("admin", 2, 10, when=("path:admin", "status:404"), on="response", distinct="path"),
        probe("open_proxy", 0, 1, when=("open_proxy", "not status:2xx"), on="response"),
        probe("user_enumeration", 5, 10, when="query:author=", distinct="target"),
        probe(
            "not_found",
            10,
            10,
            when=("status:4xx", "not static", "not status:401", "not status:429"),
            on="response",
            distinct="path",
        ),
        probe("random_uri", 30, 1, when=("status:404", "not static"), on="response"),
        probe("unauthorised", 5, 10, when="status:401", on="response"),
        probe("logins", 5, 10, when=("login", "method:POST", "status:4xx", "not status:404"), on="response"),
        probe("wordpress_logins", 5, 10, when=("prefix:/wp-login.php", "method:POST", "status:200"), on="response"),
        probe("denied_posts", 5, 10, when=("method:POST", "status:403"), on="response"),
    ]
    if threats.crawl:
        one = ("address", "path")
        read = ("not static", "not agent:bot", "not method:POST", "not signed_in")
        who = ("address", "agent")  # people behind one address are not taken together
        found += [
            probe("crawl", 40, 0.5, when=read, by=who, distinct="path"),
            probe(
                "cache_bypass", 40, 0.5, when=("queried", "not static", "method:GET"), by=one, distinct="target"
            ),
        ]
    found.append(
        Scenario(
            name=INJECTION,
            when="never",
            capacity=2,
            leak=30,
            blackhole=300,
            action=Action.BAN,
            ban=threats.ban,
            severity=Severity.HIGH,
            dry_run=threats.dry_run,
        )
    )
    return tuple(found)
