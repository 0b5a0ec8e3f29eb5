"""From a value to all that has it: the URL of its investigation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import urlencode

from m365watch.board.query.dimension_filters import DIMENSIONS, NUMBERS, Narrowing
from m365watch.board.query.query_context import MENTIONS, View
from m365watch.board.query.time_range import HOUR_S, TimeRange
from m365watch.board.widgets.labels import application_words
from m365watch.board.widgets.widget_types import Way
from m365watch.detection.alerts.alert import Alert
from m365watch.records.derived_values import plain_address

PATH = "/investigate"
OVERVIEW = "/overview"
DAY_S = 86_400
_KIND_OF_ENTITY = {
    "user": "user",
    "actor": "user",
    "address": "ip",
    "ip": "ip",
    "app": "app",
    "mailbox": "mailbox",
    "site": "site",
    "session": "session",
    "operation": "operation",
}
_KIND_OF_FIELD = {
    "userid": "user",
    "userkey": "text",
    "mailboxownerupn": "mailbox",
    "clientip": "ip",
    "clientipaddress": "ip",
    "actoripaddress": "ip",
    "applicationid": "app",
    "appid": "app",
    "clientappid": "app",
    "sessionid": "session",
    "aadsessionid": "session",
    "siteurl": "site",
    "operation": "operation",
    "workload": "workload",
    "recordtype": "type",
    "usertype": "usertype",
    "organizationid": "tenant",
    "tenantid": "tenant",
}
_OF_MANY = frozenset({"workload", "type", "usertype", "tenant"})
"""What is of too many records to be investigated: it leads to what happens there at all."""
_SAYS_NOTHING = frozenset({"true", "false", "success", "succeeded", "none", "null"})
"""Values that half of all records have somewhere: to look for them is slow, and tells nobody anything."""
TEXT_MIN, TEXT_MAX = 4, 200
"""Characters of a value that is looked for as a text."""


def pivot_url(view: View, kind: str, value: str) -> str:
    """The investigation of a value, at the time of the view and within its tenants."""
    return view.once(("pivot", kind, value), lambda: _pivot(view, kind, value))


def _pivot(view: View, kind: str, value: str) -> str:
    if kind == "tenant":
        return _bare(view).narrowed_url(PATH, kind, value)
    kept = view.once(("bare",), lambda: _bare(view).query())
    about = urlencode({kind if kind in DIMENSIONS or kind in MENTIONS else "text": value})
    return f"{PATH}?{kept}&{about}" if kept else f"{PATH}?{about}"


def _bare(view: View) -> View:
    """The same time and the same tenants, narrowed to nothing else."""
    kept = {"tenant": view.narrowing.of("tenant")} if view.narrowing.of("tenant") else {}
    return replace(view, narrowing=Narrowing(kept), options=())


def field_url(view: View, name: str, value: str) -> str:
    """The same for the value of a record's field; empty where nothing could be found by it."""
    kind = _KIND_OF_FIELD.get(name.lower(), "text")
    if kind == "ip":
        value = plain_address(value) or ""
    if kind in NUMBERS and not value.isdigit():
        return ""
    if kind == "text" and (not TEXT_MIN <= len(value) <= TEXT_MAX or value.lower() in _SAYS_NOTHING):
        return ""
    if kind in _OF_MANY and value:
        return view.once(("pivot", kind, value), lambda: _bare(view).narrowed_url(OVERVIEW, kind, value))
    return pivot_url(view, kind, value) if value else ""


def entity_ways(view: View, entities: Iterable[tuple[str, str]], apps: Mapping[str, str]) -> list[Way]:
    """A link for each entity of an alert; `apps` are what applications are called, by their ids."""
    return [
        Way(
            apps.get(value.lower()) or application_words(value) if kind == "app" else value,
            pivot_url(view, _KIND_OF_ENTITY.get(kind, "text"), value),
            kind,
        )
        for kind, value in entities
        if value
    ]


def around(view: View, alert: Alert) -> View:
    """The view, at a time that holds the alert with a day before and after where it did not."""
    first_s, last_s = alert.first_at_ms // 1000, alert.last_at_ms // 1000
    if view.range.start_s <= first_s and last_s < view.range.end_s:
        return view
    start_s = (first_s - DAY_S) // HOUR_S * HOUR_S
    return replace(view, range=TimeRange(start_s, -(-(last_s + DAY_S) // HOUR_S) * HOUR_S))
