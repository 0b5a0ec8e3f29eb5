"""What a diagnosis is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Step(StrEnum):
    """The steps, in the order in which they are looked at: each needs those before it."""

    CONFIGURATION = "configuration"
    PROXY = "proxy"
    DNS = "dns"
    TLS = "tls"
    CLOCK = "clock"
    TOKEN = "token"
    TENANT = "tenant"
    ROLES = "roles"
    AUDIT = "audit"
    SUBSCRIPTIONS = "subscriptions"
    SERVED = "served"
    """Content that the service lists now."""
    LISTED = "listed"
    """Content that the collector knows."""
    FETCHED = "fetched"
    DEDUPLICATED = "deduplicated"
    ROUTED = "routed"
    DELIVERED = "delivered"


class Verdict(StrEnum):
    """How a step stands."""

    OK = "ok"
    NOTE = "note"
    """Something is odd, and records can arrive all the same."""
    BROKEN = "broken"
    """Records cannot get past it."""
    SKIPPED = "skipped"
    """Not looked at, because what it needs is broken; of a preflight only."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One step, and what was seen there."""

    step: Step
    verdict: Verdict
    seen: str
    fix: str | None = None
    """What to do, one sentence without its full stop; never missing where the step is broken."""


@dataclass(slots=True)
class Diagnosis:
    """One tenant's findings; the last one is the first that is broken, if any is."""

    tenant_id: str
    findings: list[Finding] = field(default_factory=list)
    next: str = ""
    """Where to look next, where nothing is broken."""

    @property
    def is_broken(self) -> bool:
        """Whether some step is."""
        return any(finding.verdict is Verdict.BROKEN for finding in self.findings)


def ok(step: Step, seen: str) -> Finding:
    """The step is as it should be."""
    return Finding(step, Verdict.OK, seen)


def note(step: Step, seen: str, *, fix: str | None = None) -> Finding:
    """The step is odd."""
    return Finding(step, Verdict.NOTE, seen, fix)


def broken(step: Step, seen: str, *, fix: str) -> Finding:
    """The step stops the records."""
    return Finding(step, Verdict.BROKEN, seen, fix)


def joined(step: Step, findings: Sequence[Finding]) -> Finding:
    """The first that is broken, or what was seen in all, on one line."""
    stopped = next((one for one in findings if one.verdict is Verdict.BROKEN), None)
    return stopped or ok(step, ", ".join(dict.fromkeys(one.seen for one in findings)))
