"""How each tenant stands: one state, judged from what the ledger knows of its feeds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from m365watch.common.errors import (
    AccessRefused,
    ConsentMissing,
    CredentialsRefused,
    PermissionMissing,
    Throttled,
)
from m365watch.common.model import Feed, GraphContent, TenantId
from m365watch.common.progress import FeedProgress
from m365watch.ledger.queries import TriedInVain

LATE_S = 3_600.0
"""A lag beyond this is no ordinary one: several polls were missed, or the backfill is still on."""
_CONSENT = frozenset({ConsentMissing.code, PermissionMissing.code})
_REFUSED = frozenset({CredentialsRefused.code, AccessRefused.code})


class TenantState(StrEnum):
    """What a tenant is in, the worst first."""

    NO_CONSENT = "no-consent"
    """Its consent was revoked, its application disabled there, or a permission of the API is missing."""
    REFUSED = "refused"
    """Credentials or requests are refused for another reason."""
    IN_TROUBLE = "in-trouble"
    """Something else needs a person."""
    FAILING = "failing"
    """Its service does not answer as it should; tried again by itself."""
    THROTTLED = "throttled"
    POISONED = "poisoned"
    """Blobs of it wait after tries that failed; everything else of it goes on."""
    SILENT = "silent"
    """A feed has no content at a time at which it usually has."""
    BEHIND = "behind"
    """Listed up to more than `LATE_S` ago."""
    NEW = "new"
    """Not all of its feeds were listed yet."""
    RUNNING = "running"
    STOPPED = "stopped"
    """The configuration does not name it any more; the ledger keeps where it was."""


RANKS = {state: place for place, state in enumerate(TenantState)}


@dataclass(frozen=True, slots=True)
class TenantStanding:
    """One tenant at one moment."""

    tenant_id: TenantId
    inputs: tuple[str, ...]
    """The inputs that collect it; none of one that is stopped."""
    state: TenantState
    feeds: Sequence[FeedProgress]
    """Those of the configuration, or of the ledger where that is all there is."""
    states: Mapping[Feed, TenantState]
    """Of each of its feeds."""
    lag_s: float | None
    """Of the feed that is furthest behind; None before all were listed.

    Service health without its permission counts only where nothing else is collected.
    """
    error: str | None = None
    """What is wrong with it, in one sentence; None where nothing is."""
    error_at: datetime | None = None
    fix: str | None = None
    """What a person has to do about it; None if it passes by itself."""


@dataclass(frozen=True, slots=True)
class LedgerSays:
    """What tenants are judged by."""

    feeds: Iterable[FeedProgress]
    tried: Mapping[Feed, TriedInVain] = field(default_factory=dict)
    """The blobs that wait after a failed round of tries."""
    silent_since: Mapping[Feed, datetime] = field(default_factory=dict)


def judge_tenants(inputs: Mapping[Feed, str], says: LedgerSays, *, now: datetime) -> list[TenantStanding]:
    """Every tenant of the configuration and of the ledger, the worst first.

    `inputs` names the input of each feed that the configuration has.
    """
    known = {row.feed: row for row in says.feeds}
    tenants: dict[TenantId, list[FeedProgress]] = {}
    for feed in inputs:
        tenants.setdefault(feed.tenant_id, []).append(known.get(feed) or FeedProgress(feed))
    running = frozenset(tenants)
    for feed, row in known.items():
        if feed.tenant_id not in running:
            tenants.setdefault(feed.tenant_id, []).append(row)
    found = [_judge(tenant_id, rows, inputs, says, now) for tenant_id, rows in tenants.items()]
    return sorted(found, key=_badness)


def _badness(one: TenantStanding) -> tuple[int, float, str]:
    return (RANKS[one.state], -(one.lag_s or 0.0), one.tenant_id)


def _judge(
    tenant_id: TenantId,
    rows: Sequence[FeedProgress],
    inputs: Mapping[Feed, str],
    says: LedgerSays,
    now: datetime,
) -> TenantStanding:
    states = {row.feed: _state_of(row, inputs, says, now) for row in rows}
    worst = min(rows, key=lambda row: (RANKS[states[row.feed]], -(row.lag_s(now) or 0.0)))
    lags = [row.lag_s(now) for row in rows if not (len(rows) > 1 and _wants_permission_of_graph(row))]
    return TenantStanding(
        tenant_id,
        tuple(dict.fromkeys(inputs[row.feed] for row in rows if row.feed in inputs)),
        states[worst.feed],
        rows,
        states,
        None if None in lags else max(lag for lag in lags if lag is not None),
        *_error_of(worst, states[worst.feed], says),
    )


def _state_of(row: FeedProgress, inputs: Mapping[Feed, str], says: LedgerSays, now: datetime) -> TenantState:
    if row.feed not in inputs:
        return TenantState.STOPPED
    if row.last_error is not None:
        return _state_in_error(row)
    if row.feed in says.tried:
        return TenantState.POISONED
    lag_s = row.lag_s(now)
    if lag_s is None:
        return TenantState.NEW
    if row.feed in says.silent_since:
        return TenantState.SILENT
    return TenantState.BEHIND if lag_s > LATE_S else TenantState.RUNNING


def _state_in_error(row: FeedProgress) -> TenantState:
    if _wants_permission_of_graph(row):
        # What the administrator consented to is collected; only what was never asked of Graph is not.
        return TenantState.IN_TROUBLE
    if row.error_code in _CONSENT:
        return TenantState.NO_CONSENT
    if row.error_code in _REFUSED:
        return TenantState.REFUSED
    if row.needs_operator:
        return TenantState.IN_TROUBLE
    return TenantState.THROTTLED if row.error_code == Throttled.code else TenantState.FAILING


def _wants_permission_of_graph(row: FeedProgress) -> bool:
    return row.error_code == PermissionMissing.code and row.feed.content_type is GraphContent.SERVICE_HEALTH


def _error_of(
    row: FeedProgress, state: TenantState, says: LedgerSays
) -> tuple[str | None, datetime | None, str | None]:
    """What is wrong with the feed, since when, and the cure."""
    if state is TenantState.STOPPED:
        return None, None, None
    if row.last_error is not None:
        return bare_error(row), row.last_error_at, row.fix
    if state is TenantState.POISONED:
        tried = says.tried[row.feed]
        blobs = "1 blob waits" if tried.blobs == 1 else f"{tried.blobs:,} blobs wait"
        return f"{blobs} after failed tries: {tried.last_error}", None, None
    if state is TenantState.SILENT:
        since = says.silent_since[row.feed]
        return f"{row.feed.content_type} has had no content since {since:%Y-%m-%d %H:%MZ}", since, None
    return None, None, None


def bare_error(row: FeedProgress) -> str | None:
    """The feed's error without its name in front and its cure at the end, which stand beside it."""
    if row.last_error is None:
        return None
    error = row.last_error.removeprefix(str(row.feed)).removeprefix(f"{row.feed.tenant_id}/token")
    return error.lstrip(": ").removesuffix(f"; {row.fix}")
