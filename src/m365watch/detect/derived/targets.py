"""What a change of the directory was about, by the name that people know it by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from m365watch.detect.fields import VALUES_MAX, open_json

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View

_RESOURCE, _NAME, _UPN = 0, 1, 5
"""Types of an identity: a claim or resource (in sign-ins), a display name, a user principal name.

Source: the API's schema, IdentityType, and published records.
"""


def target_name(view: View) -> tuple[Value, ...]:
    """The target's display name, else its user principal name, else `ObjectId`; nothing for a sign-in."""
    found = dict(_identities(view))
    if set(found) == {_RESOURCE}:
        return ()
    name = found.get(_NAME) or found.get(_UPN) or view.first("ObjectId")
    return (name,) if name else ()


def _identities(view: View) -> Iterator[tuple[int, str]]:
    targets = open_json(view.record.get("Target"))
    for one in targets[:VALUES_MAX] if isinstance(targets, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("Type"), int) and isinstance(one.get("ID"), str):
            yield one["Type"], one["ID"]
