"""Which mailbox a record is of, as PowerShell takes it.

By its address where the record has one, and else by the name that it has: an alias, which two domains may
each have, so that nobody makes an address of it but for a mailbox whose owner acted.
"""

from __future__ import annotations

from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.command_escaping import is_account

EXCHANGE_ONLY = "Exchange PowerShell only: Graph cannot do it."
REFUSED = (
    "By hand: its record says that it was refused, so what is there is not the record's, and may be yours."
)
_STATED = ("Parameters.Mailbox", "MailboxOwnerUPN")
_BY_IDENTITY = ("-mailbox", "-mailboxpermission", "-recipientpermission", "-mailboxauditbypassassociation")
"""Cmdlets whose identity is the mailbox."""


def named_mailboxes(clues: Clues) -> tuple[str, ...]:
    """Those that the record names; none where it names none that is known whole."""
    if clues.has(*_STATED):
        return clues.values(*_STATED)
    if clues.operation.endswith(_BY_IDENTITY):
        identities = clues.values("Parameters.Identity")
        by_address = tuple(one for one in identities if is_account(one))
        return by_address or clues.entity("mailbox") or clues.values("ObjectId") or identities
    return clues.entity("mailbox")


def own_mailboxes(clues: Clues) -> tuple[str, ...]:
    """The same of what people do in their own mailboxes: theirs, where the record names no other."""
    own = {user.partition("@")[0].lower(): user for user in clues.entity("user") if is_account(user)}
    if clues.has(*_STATED) or clues.has_entity("mailbox"):
        found = named_mailboxes(clues)
        return (
            found if clues.has(*_STATED) else tuple(dict.fromkeys(own.get(one.lower(), one) for one in found))
        )
    return tuple(own.values())
