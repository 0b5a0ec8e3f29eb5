"""Alerts for programs: listed page by page, read with their history, and put into another state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import msgspec
from starlette.responses import Response

from m365watch.board.access.redaction import SeenAlert
from m365watch.board.access.roles import Role, Scope
from m365watch.board.api.operation import BASE, Call, Operation, schema_named
from m365watch.board.api.parameters import TIME, matching, one_of, text, whole
from m365watch.board.api.problem_details import ALERT_CLOSED, BODY_WRONG, NOT_THERE, UNAVAILABLE, Refused
from m365watch.board.app.alert_actions import AT_ONCE_MAX, REASON_MAX, NotAsked, StatesAsked, put_states
from m365watch.board.app.responses import given
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import TimeRange
from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert_document import AlertDocument, document_of
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import AlertClosed, AlertsAsked, NoSuchAlert
from m365watch.detection.rules.extension import Severity

LIMIT, LIMIT_MAX = 100, 500

TAG = "Alerts"
Place = tuple[int, int, str]
"""Where an alert stands in the order: what comes first is smaller."""


class AlertPage(msgspec.Struct, frozen=True):
    """A part of the alerts that were asked for."""

    total: Annotated[
        int, msgspec.Meta(description="All that were asked for, whatever `limit` and `after` are.")
    ]
    alerts: list[AlertDocument]
    next: Annotated[
        str | None,
        msgspec.Meta(description="What `after` has to be for the next part; null: this is the last."),
    ]


class ChangeDocument(msgspec.Struct, frozen=True):
    """What somebody has made of an alert."""

    at: datetime
    state: AlertState
    reason: str
    by: str


class AlertWithChanges(msgspec.Struct, frozen=True):
    """One alert, and what was made of it."""

    alert: AlertDocument
    changes: Annotated[list[ChangeDocument], msgspec.Meta(description="The first change first.")]


class StateWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an alert is to be."""

    state: AlertState
    reason: Annotated[
        str, msgspec.Meta(max_length=REASON_MAX, description="Why; closing needs one that is not empty.")
    ] = ""


class StatesWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What several alerts are to be: all of them, or none changes."""

    ids: Annotated[
        list[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{4,32}$")]],
        msgspec.Meta(min_length=1, max_length=AT_ONCE_MAX, description="Ids, or their first digits."),
    ]
    state: AlertState
    reason: Annotated[
        str, msgspec.Meta(max_length=REASON_MAX, description="Why; closing needs one that is not empty.")
    ] = ""


class AlertsChanged(msgspec.Struct, frozen=True):
    """The alerts as they are now."""

    alerts: list[AlertDocument]


def _worst(kept: KeptAlert) -> Place:
    return (-kept.alert.severity.rank, -kept.alert.last_at_ms, kept.alert.id)


def _latest(kept: KeptAlert) -> Place:
    return (0, -kept.alert.last_at_ms, kept.alert.id)


_ORDERS: dict[str, Callable[[KeptAlert], Place]] = {"worst": _worst, "latest": _latest}
_ID = matching(
    "id", "[0-9a-f]{4,32}", "The alert's id, or its first digits.", "4 to 32 hexadecimal digits", in_path=True
)


async def _list(call: Call) -> Response:
    view = _of_all_time(call)
    states = frozenset(map(AlertState, call.values.get("state", tuple(AlertState))))
    found = await call.sources.list_alerts(
        view, states=states, severity_min=Severity(call.one("severity", Severity.INFORMATIONAL))
    )
    if found is None:
        raise Refused(
            UNAVAILABLE,
            "no run has had its detections on",
            fix="run `m365watch run` with an output of type lake, or with detections.enabled: true",
        )
    asked = AlertsAsked(rule=call.one("rule"), entity=call.one("entity"))
    meant = [one for one in found if asked.holds(one)]
    place = _ORDERS[call.one("order", "worst")]
    part, following = part_of(meant, place, after=call.one("after"), limit=int(call.one("limit", str(LIMIT))))
    return given(AlertPage(len(meant), [document_of(one) for one in part], following))


def part_of(
    found: Sequence[KeptAlert], place: Callable[[KeptAlert], Place], *, after: str, limit: int
) -> tuple[list[KeptAlert], str | None]:
    """The alerts that follow `after`, and what to ask for the rest with; None where there is none.

    `after` names a place in the order, so that what comes or goes meanwhile moves nothing twice.
    """
    ordered = sorted(found, key=place)
    if after:
        rank, at_ms, alert_id = after.split(".")
        begin = (-int(rank), -int(at_ms), alert_id)
        ordered = [one for one in ordered if place(one) > begin]
    part = ordered[:limit]
    if len(part) == len(ordered):
        return part, None
    rank_, at_ms_, last = place(part[-1])
    return part, f"{-rank_}.{-at_ms_}.{last}"


def _of_all_time(call: Call) -> View:
    """The view; where it says no time, all of it."""
    view = call.view
    if {"range", "from", "to"} & set(call.values):
        return view
    return replace(view, range=TimeRange(0, int(call.now.timestamp()) + 86_400))


async def _show(call: Call) -> Response:
    view = call.view
    kept = await call.sources.find_alert(view, call.one("id"))
    if kept is None:
        raise _no_such(call.one("id"))
    changes = [
        ChangeDocument(instant_of_ms(one.at_ms), one.state, one.reason, one.by)
        for one in await call.sources.list_changes(view, kept)
    ]
    return given(AlertWithChanges(document_of(kept), changes))


async def _change_one(call: Call) -> Response:
    wanted: StateWanted = call.body
    [changed] = await _put(call, [call.one("id")], wanted.state, wanted.reason)
    return given(document_of(changed))


async def _change_many(call: Call) -> Response:
    wanted: StatesWanted = call.body
    changed = await _put(call, wanted.ids, wanted.state, wanted.reason)
    return given(AlertsChanged([document_of(one) for one in changed]))


async def _put(call: Call, ids: Sequence[str], state: AlertState, reason: str) -> list[SeenAlert]:
    try:
        changed = await put_states(call.view, call.sources, StatesAsked(ids, state, reason))
    except NotAsked as error:
        raise Refused(BODY_WRONG, str(error)) from None
    except AlertClosed as error:
        raise Refused(ALERT_CLOSED, str(error)) from None
    except NoSuchAlert:
        raise _no_such(", ".join(ids)) from None
    call.tell(f"{state}: {' '.join(one.alert.id for one in changed)}")
    return changed


def _no_such(given_id: str) -> Refused:
    what = given_id if len(given_id) <= 40 else "one of these"
    return Refused(NOT_THERE, f"{what}: there is no such alert, or several begin so")


def alert_operations() -> list[Operation]:
    """List them, read one, and change one or many."""
    listing = (
        one_of("state", AlertState, "Only those in this state; left out, in any.", repeats=True),
        one_of("severity", Severity, "Only these and worse ones; left out, all."),
        text("rule", "Only of rules of this number in the catalogue, this id, or with this in the title."),
        text("entity", "Only about users, addresses and so on with this in them."),
        text("tenant", "Only of this tenant, by its id.", repeats=True),
        *TIME,
        one_of("order", _ORDERS, "The worst first, or the latest; left out, the worst."),
        whole("limit", f"At most so many; left out, {LIMIT}.", 1, LIMIT_MAX),
        matching(
            "after",
            r"[0-4]\.[0-9]{1,14}\.[0-9a-f]{32}",
            "Only those that follow: the `next` of the part before.",
            "the `next` of an answer",
        ),
    )
    return [
        Operation(
            name="alerts.list",
            method="GET",
            path=f"{BASE}/alerts",
            title="List alerts",
            says="Of all times, unless `range` or `from` is there; then those that were going on in it.",
            tag=TAG,
            answer=_list,
            gives=schema_named("AlertPage"),
            parameters=listing,
        ),
        Operation(
            name="alerts.show",
            method="GET",
            path=f"{BASE}/alerts/{{id}}",
            title="One alert",
            says="With what analysts have made of it. Its records are those of the panel `alert/evidence`.",
            tag=TAG,
            answer=_show,
            gives=schema_named("AlertWithChanges"),
            parameters=(_ID,),
            may_answer=(404,),
        ),
        *_changes(),
    ]


def _changes() -> list[Operation]:
    return [
        Operation(
            name="alerts.change",
            method="PATCH",
            path=f"{BASE}/alerts/{{id}}",
            title="Acknowledge, close or reopen an alert",
            says="The change is kept with the token's name. Closing needs a reason.",
            tag=TAG,
            answer=_change_one,
            gives=schema_named("AlertDocument"),
            scope=Scope.ALERTS_WRITE,
            role=Role.ANALYST,
            parameters=(_ID,),
            body=StateWanted,
            may_answer=(404, 409),
        ),
        Operation(
            name="alerts.change-many",
            method="POST",
            path=f"{BASE}/alerts/state",
            title="Acknowledge, close or reopen many alerts",
            says=f"At most {AT_ONCE_MAX}: all of them, or none where one of them is not there.",
            tag=TAG,
            answer=_change_many,
            gives=schema_named("AlertsChanged"),
            scope=Scope.ALERTS_WRITE,
            role=Role.ANALYST,
            body=StatesWanted,
            may_answer=(404, 409),
        ),
    ]


DOCUMENTS = (AlertPage, AlertWithChanges, AlertsChanged, AlertDocument)
BODIES = (StateWanted, StatesWanted)
