"""Who acted: a person or a service, a guest, somebody on a list."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from m365watch.config.models.values import is_guid
from m365watch.detection.fields.email_addresses import bare_addresses
from m365watch.records import derived_values

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

_SERVICES = {3, 4, "3", "4", "dcadmin", "system"}
"""UserType of Microsoft's data centres and of the system; 5 and more are applications and policies, which a
person may be behind."""


def human(view: View) -> tuple[Value, ...]:
    """Whether the actor is none of Microsoft's own services: by UserType alone, for names vary."""
    kind = view.record.get("UserType")
    if type(kind) is int:
        return (kind not in _SERVICES,)
    for value in view.values("UserType"):
        plain = value.lower() if isinstance(value, str) else value
        return (plain not in _SERVICES or isinstance(plain, bool),)
    return (True,)


_AUTHORS = ("ExchangeMetaData.From", "SharePointMetaData.From", "SharePointMetaData.FileOwner", "UserId")


def author(view: View) -> tuple[Value, ...]:
    """Who sent or keeps what a rule against data loss is about, where UserId is mostly the service."""
    for name in _AUTHORS:
        found = view.first(name).strip()
        if found:
            return (found,)
    return ()


def alerted_user(view: View) -> tuple[Value, ...]:
    """The user that an alert of Microsoft's is about: in its data, or as the entity of its row."""
    found = derived_values.alerted_user(view.first)
    return (found,) if found else ()


def outside_actor(view: View) -> tuple[Value, ...]:
    """Who acted, where that is an account of another organisation: a partner who administers this one.

    Entra says of which organisation the actor is, and Exchange whether somebody from outside ran the cmdlet.

    Source: the API's schema, ActorContextId and ExternalAccess.
    """
    name = view.first("UserId")
    if "@" not in name or "#ext#" in name.lower():
        return ()
    home, own = view.first("ActorContextId").lower(), view.first("OrganizationId").lower()
    is_others = is_guid(home) and is_guid(own) and home != own
    is_delegated = view.first("ExternalAccess").lower() == "true" and not view.knowledge.is_own_domain(
        name.rpartition("@")[2].lower(), tenant=view.tenant
    )
    return (name,) if is_others or is_delegated else ()


def guest(view: View) -> tuple[Value, ...]:
    """Whether a user that the record names as actor or target is a guest of the tenant."""
    names = (*view.values("UserId"), *view.values("TargetUserOrGroupName"), *view.values("Target.ID"))
    kinds = view.values("TargetUserOrGroupType")
    return (
        any(isinstance(name, str) and "#ext#" in name.lower() for name in names)
        or any(isinstance(kind, str) and kind.lower() == "guest" for kind in kinds),
    )


def vip(view: View) -> tuple[Value, ...]:
    """Whether the user, or the owner of the mailbox, is on the list of very important people."""
    return (_is_on(view, view.knowledge.vips),)


def admin(view: View) -> tuple[Value, ...]:
    """Whether the user is on the list of administrators."""
    return (_is_on(view, view.knowledge.admins),)


def _is_on(view: View, people: Collection[str]) -> bool:
    if not people:
        return False
    names = (*view.values("UserId"), *view.values("MailboxOwnerUPN"))
    return any(
        one in people
        for name in names
        if isinstance(name, str)
        for one in (name.lower(), *bare_addresses(name))
    )
