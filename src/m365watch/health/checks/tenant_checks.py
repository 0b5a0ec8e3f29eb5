"""Judgements on what the service says of a tenant's feeds: audit, subscriptions, content. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from m365watch.common.errors import CollectorError, NotSubscribed
from m365watch.common.model import ContentType
from m365watch.common.progress import FeedProgress
from m365watch.health.checks.reachable import judge_failure
from m365watch.registry.checks import Finding, Step, broken, note, ok
from m365watch.sources.management_api.codes import AUDIT_OFF_CAUSE, AUDIT_OFF_FIX

_START = (
    "start `m365watch run`, which starts subscriptions by itself; the first content then takes up to 12 h"
)


@dataclass(frozen=True, slots=True)
class Served:
    """What a listing of one feed came to."""

    blobs: int = 0
    """On the first page of the newest day that has any."""
    newest_at: datetime | None = None
    error: CollectorError | None = None


def judge_audit(served: Mapping[ContentType, Served], feeds: Sequence[FeedProgress]) -> Finding:
    """Whether the tenant keeps an audit log, as the service says now or said to the collector."""
    told = [one.error.what for one in served.values() if one.error]
    told += [row.last_error for row in feeds if row.last_error]
    if any(AUDIT_OFF_CAUSE in what for what in told):
        return broken(Step.AUDIT, AUDIT_OFF_CAUSE, fix=AUDIT_OFF_FIX)
    return ok(Step.AUDIT, "nothing says that auditing is off")


def judge_subscriptions(
    enabled: frozenset[ContentType], wanted: Sequence[ContentType], served: Mapping[ContentType, Served]
) -> Finding:
    """Whether each feed has its subscription, by the list and by the listing of its content."""
    refused = {one for one in wanted if isinstance(served[one].error, NotSubscribed)}
    missing = [one for one in wanted if one not in enabled or one in refused]
    seen = f"enabled: {_names([one for one in wanted if one not in missing]) or 'none'}"
    if not missing:
        return ok(Step.SUBSCRIPTIONS, seen)
    seen = f"{seen}; missing or disabled: {_names(missing)}"
    if len(missing) == len(wanted):
        return broken(Step.SUBSCRIPTIONS, seen, fix=_START)
    return note(Step.SUBSCRIPTIONS, seen, fix=_START)


def judge_served(served: Mapping[ContentType, Served]) -> Finding:
    """Whether the service lists any content of the last 7 days."""
    found = {one: lot for one, lot in served.items() if lot.newest_at is not None}
    failed = [lot.error for lot in served.values() if lot.error and not isinstance(lot.error, NotSubscribed)]
    if not found and failed:
        return judge_failure(Step.SERVED, failed[0])
    if not found:
        fix = (
            "look whether anything happens in the tenant (Purview, Audit); a new subscription serves its "
            "first content after up to 12 hours, and nothing from before"
        )
        return broken(Step.SERVED, f"no content in 7 days: {_names(list(served))}", fix=fix)
    newest = ", ".join(f"{_name(one)} {lot.newest_at:%m-%d %H:%MZ}" for one, lot in found.items())
    empty = [one for one in served if one not in found]
    if empty:
        return note(Step.SERVED, f"newest content: {newest}; none of: {_names(empty)}")
    return ok(Step.SERVED, f"newest content: {newest}")


def _name(content_type: ContentType) -> str:
    return str(content_type).removeprefix("Audit.").removesuffix(".All")


def _names(content_types: Sequence[ContentType]) -> str:
    return ", ".join(map(_name, content_types))
