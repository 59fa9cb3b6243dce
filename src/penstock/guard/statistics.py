"""What a guard counts about itself: one counter for each kind of end, tier, action and detector, shared by all
workers."""

from __future__ import annotations

from penstock._records import COUNTERS, Records
from penstock.guard.verdict import GRAVER, Action, Tier

TOTAL = 0
PARTS = {"rate_limited": 1, "ddos_blocked": 2, "ip_blocked": 3, "threat_detected": 4}
"""What requests are blocked for. blocked_requests is their sum."""
PART_OF = PARTS | {
    "in_flight": PARTS["ddos_blocked"],
    "banned": PARTS["ip_blocked"],
    "unidentified": PARTS["ip_blocked"],
    "bypass_detected": PARTS["threat_detected"],
    "challenge": PARTS["threat_detected"],
    "unavailable": PARTS["rate_limited"],
}
_TIERS = 8
_ACTIONS = 16
_ERRORS = 24
_DRY = 25
_DETECTORS = 32
DETECTORS_MOST = COUNTERS - _DETECTORS


class Statistics:
    """The counters of one guard; detectors: what can refuse, by name."""

    def __init__(self, records: Records, detectors: tuple[str, ...]) -> None:
        self._records = records
        self._numbers = {name: _DETECTORS + place for place, name in enumerate(detectors[:DETECTORS_MOST])}
        self.count = records.count

    def end(self, kind: str, tier: Tier | None, action: Action, detector: str, dry: bool) -> None:
        """A request with evidence: what came of it, by which detector. tier: None for one that was counted already."""
        count = self.count
        if tier is not None:
            count(_TIERS + tier)
        count(_ACTIONS + GRAVER[action])
        if dry:
            count(_DRY)
        elif kind:
            count(PART_OF[kind])
        if kind:
            count(self._numbers.get(detector, self._numbers["detector"]))  # of the application's, all in one

    def error(self) -> None:
        self.count(_ERRORS)

    def read(self) -> dict[str, int]:
        counters = self._records.counters()
        parts = {name: counters[number] for name, number in PARTS.items()}
        return {
            "total_requests": counters[TOTAL],
            "blocked_requests": sum(parts.values()),
            **parts,
            "would_have_been_blocked": counters[_DRY],
            "errors": counters[_ERRORS],
            "forgotten_records": self._records.evicted,
        }

    def tiers(self) -> dict[str, int]:
        counters = self._records.counters()
        with_evidence = {tier.name: counters[_TIERS + tier] for tier in Tier if tier is not Tier.NORMAL}
        return {"NORMAL": counters[TOTAL] - sum(with_evidence.values()), **with_evidence}

    def actions(self) -> dict[str, int]:
        counters = self._records.counters()
        return {str(action): counters[_ACTIONS + place] for place, action in enumerate(Action)}

    def refusals(self) -> dict[str, int]:
        counters = self._records.counters()
        return {name: counters[number] for name, number in self._numbers.items() if counters[number]}
