"""What a record's own text tells: names and values of it, and what they were before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import operation_words
from m365watch.board.widgets.widget_types import Cell
from m365watch.records.headers import object_of

TEXT_CHARACTERS_MAX = 240
_TELL_NOTHING = frozenset(
    {"identity", "domaincontroller", "force", "alwaysdeleteoutlookrulesblob", "stopprocessingrules"}
    | {"ruleoperation", "rulestate"}
)
"""Parameters that say which object is meant, or how it was called, and not what is new."""

_FIRST = re.compile("forward|redirect|copyto|recipient|delete|folder|scl|audit|accessrights", re.IGNORECASE)
"""Names of parameters that tell most."""


def text_of(value: object) -> str:
    """Any value in one line."""
    match value:
        case None:
            text = ""
        case str():
            text = value
        case list() if all(isinstance(one, str | int | float) for one in value):
            text = ", ".join(str(one) for one in value)
        case _:
            text = msgspec.json.encode(value).decode()
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + "…"


def field_of(record: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that says something; a dotted name leads into objects and lists."""
    for name in names:
        value: object = record
        for part in name.split("."):
            if isinstance(value, list):
                value = value[0] if value else None
            value = value.get(part) if isinstance(value, dict) else None
        if text := text_of(value):
            return text
    return ""


def listed(record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of a list."""
    found = record.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def named_in(record: Mapping[str, Any], *lists: str) -> dict[str, str]:
    """Values by name, of lists that have both."""
    return {
        str(one["Name"]): text_of(one.get("Value", one.get("NewValue")))
        for name in lists
        for one in listed(record, name)
        if one.get("Name")
    }


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that a change has set."""

    name: str
    before: str | None
    """None: not known."""
    after: str


def settings_of(record: Mapping[str, Any]) -> list[Setting]:
    """What a record says to have set, and what stood there, where it says so itself."""
    modified = listed(record, "ModifiedProperties")
    if modified:
        return [
            Setting(str(one.get("Name", "")), text_of(one.get("OldValue")), text_of(one.get("NewValue")))
            for one in modified
        ]
    given = named_in(record, "Parameters", "OperationProperties")
    if rule := object_of(_whole_rule(record)):
        given = {name: value for name, value in given.items() if name != "ServerRule"} | _done_by(rule)
    # An empty value of what tells most takes something away; of others, as DomainController, it says nothing.
    return [
        Setting(name, None, value)
        for name, value in given.items()
        if name.lower() not in _TELL_NOTHING and (value or _FIRST.search(name))
    ]


def _whole_rule(record: Mapping[str, Any]) -> str:
    """A rule that Outlook made, which stands as a text in the record."""
    found = [
        one.get("Value") for one in listed(record, "OperationProperties") if one.get("Name") == "ServerRule"
    ]
    return found[0] if found and isinstance(found[0], str) else ""


def _done_by(rule: Mapping[str, Any]) -> dict[str, str]:
    """What the actions of such a rule name: recipients, folders."""
    return {
        name: text_of(value)
        for action in listed(rule, "Actions")
        for name, value in action.items()
        if name != "ActionType"
    }


def with_before(changes: Sequence[tuple[object, list[Setting]]]) -> list[list[Setting]]:
    """The settings of each change; what one does not say stood there is taken from the last one before it.

    `changes` are of (what was changed, settings), the newest first.
    """
    last: dict[tuple[object, str], str] = {}
    told: list[list[Setting]] = []
    for changed, settings in reversed(changes):
        told.append(
            [
                Setting(
                    one.name, last.get((changed, one.name)) if one.before is None else one.before, one.after
                )
                for one in settings
            ]
        )
        last.update({(changed, one.name): one.after for one in settings})
    return told[::-1]


def change_words(settings: Sequence[Setting], *, is_removed: bool = False) -> str:
    """What was set, and what stood there as far as that is known: `Mode: Test → Enforce; Name: x`."""
    # What is known to have stayed is left out; what leads mail away or hides it comes first.
    shown = [one for one in settings if one.before != one.after] or settings
    shown = sorted(shown, key=lambda one: not _FIRST.search(one.name))
    told = "; ".join(_setting_words(one) for one in shown)
    return f"removed; {told}".removesuffix("; ") if is_removed else told


def _setting_words(one: Setting) -> str:
    after = one.after or "nothing"
    if one.before is None or one.before == one.after:
        return f"{one.name}: {after}"
    return f"{one.name}: {one.before or 'nothing'} → {after}"


def instant(seconds: int) -> Cell:
    """A time to the minute."""
    return Cell(f"{datetime.fromtimestamp(seconds, UTC):%m-%d %H:%M}", sorts=seconds, tone="muted")


def opening(view: View, row: Sequence[Any], cells: list[Cell]) -> list[Cell]:
    """The cells of a record of which the first opens it; a row begins with its time and ends with its id."""
    opens = view.option_url("/record", "record", f"{row[0]}:{row[-1]}") if row[-1] else ""
    return [replace(cells[0], tone="" if opens else cells[0].tone, url=opens), *cells[1:]]


def person(user: str) -> Cell:
    """Somebody, whom a click narrows to."""
    words = "anonymous visitor" if user.startswith("urn:spo:anon#") else user or "not said"
    return Cell(words, narrows=("user", user) if user else None)


def address(given: str) -> Cell:
    """An address, which a click narrows to."""
    return Cell(given or "not said", narrows=("ip", given) if given else None, tone="" if given else "muted")


def operation(name: str, tone: str = "") -> Cell:
    """An operation, which a click narrows to."""
    return Cell(operation_words(name) or "not said", narrows=("operation", name) if name else None, tone=tone)


def deed(row: Sequence[Any], *between: Cell, tone: str = "") -> list[Cell]:
    """When, what and by whom, what is `between`, and from where; that it failed is worse than any `tone`."""
    at_s, name, user, ip, outcome, *_ = row
    what = operation(name, "failed" if outcome == "failed" else tone)
    return [instant(at_s), what, person(user), *between, address(ip)]


def number(count: int, tone: str = "") -> Cell:
    """A count."""
    return Cell(f"{count:,}", sorts=count, tone=tone)
