"""What a guard answers: the tier that was reached, what is done about it, and the evidence."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import shown

if TYPE_CHECKING:
    from penstock.guard.scan import Finding


class Tier(IntEnum):
    """How bad it is."""

    NORMAL = 0
    SUSPICIOUS = 1
    BLOCK = 2
    BANNED = 3


class Severity(IntEnum):
    """How grave one piece of evidence is."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Action(StrEnum):
    """What is done about a request, the mildest first."""

    ALLOW = "allow"
    LOG = "log"
    TARPIT = "tarpit"
    CHALLENGE = "challenge"
    BLOCK = "block"
    BAN = "ban"

    @property
    def refuses(self) -> bool:
        """Whether the application does not see the request."""
        return self in _REFUSING


_REFUSING = frozenset({Action.CHALLENGE, Action.BLOCK, Action.BAN})
GRAVER = {action: place for place, action in enumerate(Action)}
"""The order of actions, to take the gravest of several."""


def action_of(name: str, given: object) -> Action:
    """An Action, or its name. ValueError that has the setting's name for anything else."""
    try:
        return Action(given)  # type: ignore[arg-type]
    except ValueError:
        raise ValueError(f"{name}={shown(given)} must be one of {', '.join(Action)}") from None


class Technique(StrEnum):
    """The ways around a rate limit that are told apart."""

    IP_ROTATION = "ip_rotation"
    USER_AGENT_SPOOFING = "user_agent_spoofing"
    DISTRIBUTED_ATTACK = "distributed_attack"
    BEHAVIORAL_ANOMALY = "behavioral_anomaly"
    FINGERPRINT_MISMATCH = "fingerprint_mismatch"
    RATE_LIMIT_EVASION = "rate_limit_evasion"
    SESSION_HIJACKING = "session_hijacking"


class Evidence(NamedTuple):
    """One reason. detector: what found it; value, limit: what was counted and what is allowed; key: what it is about,
    such as "ip:192.0.2.1" or "user:ada"."""

    detector: str
    severity: Severity
    detail: str
    value: float = 0
    limit: float = 0
    key: str = ""
    technique: Technique | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Verdict:
    """The answer to one request; true when it is allowed. Frozen: requests that nothing speaks against share one.

    action: what is done, or with a dry run what would have been. reasons: the evidence, the gravest first. kind: ""
    when allowed, else the type that the answer's body names ("rate_limited", "ddos_blocked", "ip_blocked" …). status,
    headers, body: the answer in the application's place; an allowed request has status 200, no body, and the headers
    that are added to the application's. retry_after: seconds, None where waiting does not help. delay: seconds to hold
    the request before it goes on (a tarpit), else 0.
    """

    allowed: bool
    tier: Tier = Tier.NORMAL
    action: Action = Action.ALLOW
    reasons: tuple[Evidence, ...] = ()
    _: KW_ONLY
    kind: str = ""
    retry_after: float | None = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0.0

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        why = ", ".join(reason.detector for reason in self.reasons)
        return (
            f"<Verdict {'allowed' if self.allowed else 'refused'}, {self.tier.name}, {self.action}: {why or 'nothing'}>"
        )
