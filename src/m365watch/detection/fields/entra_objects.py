"""What a change of the directory was about, by the name that people know it by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from m365watch.config.models.values import is_guid
from m365watch.detection.fields.privilege_ranking import gravest_first
from m365watch.detection.fields.record_view import VALUES_MAX, open_json

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View


_FIELDS = (
    "ModifiedProperties.ConsentAction.Permissions.new",
    "ModifiedProperties.DelegatedPermissionGrant.Scope.new",
    "ModifiedProperties.OAuth2PermissionGrant.Scope.new",
    "ModifiedProperties.AppRole.Value.new",
)
_GRANT = re.compile(r"\[Id:[^\]]*\]")
_TYPE = re.compile(r"ConsentType:\s*(\w+)")
_SCOPE = re.compile(r"\bScope:\s*([^\],\r\n]*)")
_PLAIN = re.compile(r"[^\s,;\[\]\"]+")
_TEXT_MAX = 262_144
_SCOPES_MAX = 1_000
_MADE = re.compile(r"\[Id: *([A-Za-z0-9_-]{2,100}),")
_NO_CLIENT = re.compile(r"ClientId: *00000000-0000-0000-0000-000000000000\b|\[Id: *AAAAAAAAAAAAAAAAAAAAA")
"""A grant's id begins with its client's, which is all zeros here."""


def scopes(view: View) -> tuple[Value, ...]:
    """Each scope or role that the record says is granted now, each once, as written, the gravest first.

    Entra writes `[old grants] => [[Id: ..., ConsentType: ..., Scope: A B], ...]`; what stands before the
    arrow was granted before.
    """
    found: dict[str, None] = {}
    for name in _FIELDS:
        for value in view.values(name):
            if isinstance(value, str):
                found.update(dict.fromkeys(_scopes_in(value[:_TEXT_MAX])))
    return tuple(gravest_first(found)[:_SCOPES_MAX])


def _scopes_in(text: str) -> list[str]:
    before, arrow, after = text.partition("=>")
    if not arrow:
        return _words(_SCOPE.findall(text)) if "Scope:" in text else _PLAIN.findall(text)
    old = set(_words(_SCOPE.findall(before)))
    now = _words(_SCOPE.findall(after))
    # Where both sides are the same, which scopes are new is not told: all are what was consented to.
    return now if old == set(now) else [scope for scope in now if scope not in old]


def consent_types(view: View) -> tuple[Value, ...]:
    """For whom the grants are that the record says are given now: AllPrincipals, Principal; each once.

    A grant that stood before the arrow already, word for word, is not given now.
    """
    found: dict[str, None] = {}
    for value in view.values("ModifiedProperties.ConsentAction.Permissions.new"):
        if isinstance(value, str):
            before, arrow, after = value[:_TEXT_MAX].partition("=>")
            old = set(_GRANT.findall(before)) if arrow else set()
            now = _GRANT.findall(after if arrow else before)
            given = " ".join(grant for grant in now if grant not in old)
            found.update(dict.fromkeys(_TYPE.findall(given)))
    return tuple(found)


def made_grants(view: View) -> tuple[Value, ...]:
    """The ids of the grants that a consent made; none where not all of them are known.

    A grant that stood before got more, and is not made now. Where the application came to the tenant with
    this very consent, the text has no client yet, and an id that no grant has.
    """
    found: dict[str, None] = {}
    for value in view.values("ModifiedProperties.ConsentAction.Permissions.new"):
        before, arrow, after = str(value)[:_TEXT_MAX].partition("=>")
        ids = [one[1] for one in map(_MADE.match, _GRANT.findall(after)) if one]
        is_whole = after.rstrip('; \t\r\n"').endswith("]]")
        is_certain = arrow and is_whole and len(ids) == after.count("[Id:") and not _NO_CLIENT.search(after)
        if not is_certain or any(one in before for one in ids):
            return ()
        found.update(dict.fromkeys(ids))
    return tuple(found)


def _words(texts: list[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


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
