"""What a diagnosis is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from m365watch.common.errors import CollectorError, NeedsOperator


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

    step: str
    """A `Step`, or the name of a check of this machine."""
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


class Check(StrEnum):
    """The usual steps; those that `why` knows as well have the names that they have there."""

    CONFIGURATION = "configuration"
    PERMISSIONS = "permissions"
    STATE = "state"
    DISK = "disk"
    WEBHOOK = "webhook"
    DETECTIONS = "detections"
    PROXY = "proxy"
    DNS = "dns"
    TLS = "tls"
    CLOCK = "clock"
    CREDENTIAL = "credential"
    TOKEN = "token"
    TENANT = "tenant"
    AUDIENCE = "audience"
    ROLES = "roles"
    AUDIT = "audit"
    SUBSCRIPTIONS = "subscriptions"
    LISTING = "listing"
    OUTPUT = "output"
    NOTIFICATION = "notification"


class Place(StrEnum):
    """What a group of steps is about."""

    MACHINE = "machine"
    NETWORK = "network"
    TENANT = "tenant"
    OUTPUTS = "outputs"


@dataclass(frozen=True, slots=True)
class Checked:
    """One step, and what was seen there."""

    check: str
    """A `Check`, or what a spec calls its own."""
    verdict: Verdict
    seen: str
    fix: str | None = None
    """What to do, without a full stop; never missing where the step is broken."""
    subject: str = ""
    """What the step was about where there are several: a host, a credential, a service, an output."""
    waits_for: str | None = None
    """The broken step because of which this one was skipped."""

    @property
    def told(self) -> str:
        """What was seen, and what it was about where that does not begin it anyway."""
        return self.seen if self.seen.startswith(self.subject) else f"{self.subject}: {self.seen}"


@dataclass(frozen=True, slots=True)
class Group:
    """Steps that belong together."""

    place: Place
    name: str = ""
    """The tenant's id; empty for the groups of which there is one."""
    steps: tuple[Checked, ...] = ()

    @property
    def is_broken(self) -> bool:
        """Whether one of the steps is."""
        return any(step.verdict is Verdict.BROKEN for step in self.steps)

    @property
    def is_untried(self) -> bool:
        """Whether not even a token was asked for, since the network leads nowhere."""
        return any(
            step.check is Check.TOKEN
            and step.verdict is Verdict.SKIPPED
            and step.waits_for is not Check.CREDENTIAL
            for step in self.steps
        )


@dataclass(slots=True)
class Preflight:
    """All groups in their order."""

    groups: list[Group] = field(default_factory=list)
    is_refused: bool = False
    """Whether the configuration itself cannot be used."""

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many steps have each verdict."""
        counted = Counter(step.verdict for group in self.groups for step in group.steps)
        return {verdict: counted[verdict] for verdict in Verdict}

    @property
    def is_broken(self) -> bool:
        """Whether any step is; notes alone break nothing."""
        return any(group.is_broken for group in self.groups)


def checked(finding: Finding, *, subject: str = "") -> Checked:
    """The step that `finding` judges."""
    return Checked(Check(finding.step), finding.verdict, finding.seen, finding.fix, subject)


def good(check: str, seen: str, *, subject: str = "") -> Checked:
    """The step is as it should be."""
    return Checked(check, Verdict.OK, seen, subject=subject)


def odd(check: str, seen: str, *, fix: str | None = None, subject: str = "") -> Checked:
    """Something is odd, and a run would work all the same."""
    return Checked(check, Verdict.NOTE, seen, fix, subject)


def bad(check: str, seen: str, *, fix: str, subject: str = "") -> Checked:
    """A run would not work."""
    return Checked(check, Verdict.BROKEN, seen, fix, subject)


def skipped(check: str, waits_for: str, *, subject: str = "") -> Checked:
    """Not looked at, because `waits_for` is broken."""
    return Checked(check, Verdict.SKIPPED, f"waits for {waits_for}", subject=subject, waits_for=waits_for)


def all_skipped(checks: Iterable[str], waits_for: str) -> list[Checked]:
    """None of `checks` was looked at."""
    return [skipped(check, waits_for) for check in checks]


def first_broken(steps: Sequence[Checked]) -> str | None:
    """The first step that is broken."""
    return next((step.check for step in steps if step.verdict is Verdict.BROKEN), None)


AWAY_FIX = (
    "see that the receiver is up and that this machine may reach it; a run starts all the same, and keeps "
    "what it cannot send in the output's queue"
)


def failed_output(name: str, error: CollectorError) -> Checked:
    """The output of that name cannot be used, or not now."""
    fix = error.fix if isinstance(error, NeedsOperator) else AWAY_FIX
    return bad(Check.OUTPUT, error.what, fix=fix, subject=name)
