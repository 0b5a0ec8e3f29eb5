"""What a change of the directory was about, by the name that people know it by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from m365watch.config.models.values import is_guid
from m365watch.detection.fields.record_view import VALUES_MAX, open_json

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_RESOURCE, _NAME, _OTHER, _SPN, _UPN = 0, 1, 2, 4, 5
"""Types of an identity: a claim or resource (in sign-ins), a display name, an id, all names that an
application answers to in one text, a user principal name.

Source: the API's schema, IdentityType, and published records.
"""


def target_name(view: View) -> tuple[Value, ...]:
    """The target's display name, else its user principal name, else `ObjectId`; nothing for a sign-in."""
    found = dict(_identities(view))
    if set(found) == {_RESOURCE}:
        return ()
    name = found.get(_NAME) or found.get(_UPN) or view.first("ObjectId")
    return (name,) if name else ()


_GROUP = "Group_"
_PRINCIPAL = "ServicePrincipal_"
_KIND = "ServicePrincipal"
_APPLICATION = "Application_"
"""What stands before an application's object id, which is not the id that it signs in with."""
_APP_IDS = (
    "ModifiedProperties.Application.AppId.new",
    "ModifiedProperties.ServicePrincipal.AppId.new",
    "ModifiedProperties.AppId.new",
    "ExtendedProperties.additionalDetails.AppId",
)


def changed_app(view: View) -> tuple[Value, ...]:
    """The application that a change of the directory is about.

    The id that it signs in with, where the record tells it: in its properties, its details, or as the
    `ObjectId` of a service principal. Of an application's own record that lacks it, `Application_` and the
    object id.

    Source: 12 published records of new secrets, all with ObjectId `Application_<object id>`; 13 of new
    owners, in which ObjectId is the owner.
    """
    for name in _APP_IDS:
        for value in view.values(name):
            found = str(value)
            if found and found[0] != "[":  # a list of one, which has its element as well
                return (found,)
    found = view.first("ObjectId")
    return (found,) if found and "@" not in found else ()


def target_app(view: View) -> tuple[Value, ...]:
    """The application that something was given to: the id that it signs in with, else its object's.

    `Target` has `ServicePrincipal_` and its object id, that again alone, its kind, its name, and the other
    id; `ObjectId` may be all its names in one text. What it is called may be another's id, and tells nothing.

    Source: one published record of a role that an application got.
    """
    named = [told for kind, told in _identities(view) if kind in (_OTHER, _SPN)]
    if _KIND not in named:
        return ()  # a group that is called so
    principal = next((one for one in named if one.startswith(_PRINCIPAL)), "")
    own = principal.removeprefix(_PRINCIPAL).lower()
    signs_in = (one for one in named if is_guid(one) and one.lower() != own)
    found = next(signs_in, "") or principal
    return (found,) if found else changed_app(view)


def target_group(view: View) -> tuple[Value, ...]:
    """The object id of the group that something was given to, bare; nothing where it is no group.

    `Target` has it after `Group_`; what the group is called, which may look the same, is of another type.
    """
    objects = (one for kind, one in _identities(view) if kind == _OTHER and one.startswith(_GROUP))
    found = next(filter(is_guid, (one.removeprefix(_GROUP) for one in objects)), "")
    return (found.lower(),) if found else ()


def app_object(view: View) -> tuple[Value, ...]:
    """The object id of the application that a change is about, bare; nothing for any other change."""
    found = view.first("ModifiedProperties.Application.ObjectID.new")
    if not found and view.first("ObjectId").startswith(_APPLICATION):
        found = view.first("ObjectId").removeprefix(_APPLICATION)
    return (found,) if found else ()


def target_user(view: View) -> tuple[Value, ...]:
    """The user that a change is about, by name; nothing where it is about something else."""
    found = view.first("ObjectId")
    return (found,) if "@" in found else ()


def _identities(view: View) -> Iterator[tuple[int, str]]:
    targets = open_json(view.record.get("Target"))
    for one in targets[:VALUES_MAX] if isinstance(targets, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("Type"), int) and isinstance(one.get("ID"), str):
            yield one["Type"], one["ID"]
