"""What settings were before a change, as far as its record tells it: who turns them back has to know.

Source: the shapes of ModifiedProperties in published records, and of TeamsTenantSettingChanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from m365watch.detection.fields.leaves import leaves_with_paths
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.fields.policies import PROPERTIES
from m365watch.detection.fields.record_view import open_json

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_FIELD = "ModifiedProperties"
_MADE = ("add ", "new-", "invite ")
_NO_SETTINGS = frozenset({"included updated properties", "modifieddatetime"})
"""Names that say nothing of what was set, in lower case: of a property, or of what is inside one."""


def earlier_values(view: View) -> tuple[Value, ...]:
    """Each setting that changed, and what it was: "state was enabled; excludeUsers was empty", in one text.

    Empty for what was made new, and where the record has the new values alone.
    """
    if normalise_operation(view.first("Operation")).startswith(_MADE):
        return ()
    told = [*_of_properties(view), *_of_fields(view)]
    return ("; ".join(told),) if told else ()


def _of_properties(view: View) -> Iterator[str]:
    new, old = view.named(_FIELD, "new"), view.named(_FIELD, "old")
    spelt = _spelling(view.record.get(_FIELD))
    for name, before in old.items():
        if before not in ("", None):
            lead = () if name in PROPERTIES else (spelt.get(name, name),)
            yield from _differences(lead, before, new.get(name))


def _of_fields(view: View) -> Iterator[str]:
    """Of a record of one setting, whose sides are fields."""
    before = view.record.get("OldValue")
    if before not in ("", None):
        yield from _differences((view.first("Name") or "it",), before, view.record.get("NewValue"))


def _differences(lead: tuple[str, ...], before: Any, after: Any) -> Iterator[str]:
    was, now = _by_path(before), _by_path(after)
    for path in dict.fromkeys((*was, *now)):
        names = (*lead, *path) or ("it",)
        if was.get(path) != now.get(path) and names[-1].lower() not in _NO_SETTINGS:
            yield f"{'.'.join(names)} was {', '.join(was.get(path, ())) or 'empty'}"


def _by_path(value: Any) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for path, text in leaves_with_paths(value):
        if text:
            found.setdefault(path, []).append(text)
    return found


def _spelling(field: Any) -> dict[str, str]:
    """The names of properties as they are written, by themselves in lower case."""
    opened = open_json(field)
    elements = opened if isinstance(opened, list) else ()
    names = (one.get("Name") for one in elements if isinstance(one, dict))
    return {one.strip().lower(): one.strip() for one in names if isinstance(one, str)}
