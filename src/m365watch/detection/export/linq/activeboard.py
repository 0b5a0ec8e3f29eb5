"""The Exchange board for Devo: what its panels ask, as queries for the widgets of an Activeboard.

Each counts records by their Id and not rows: a wire without acknowledgement may bring a record twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from m365watch.detection.export.linq.condition_to_linq import ask
from m365watch.detection.export.linq.devo_schema import PREFIX, Columns, table_of
from m365watch.detection.export.linq.query_builder import Draft
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.condition import (
    Compared,
    Condition,
    Every,
    Exists,
    Like,
    Never,
    OneOf,
    Order,
    SameAs,
    Some,
    Test,
    Wildcard,
)
from m365watch.detection.rules.condition_operations import operations_of

HOUR_S = 3_600
TIME, TABLE, BARS = "line over time", "table", "bars"
_NUMBER = f"{PREFIX}records"


@dataclass(frozen=True, slots=True)
class Panel:
    """One widget."""

    name: str
    title: str
    chart: str
    """What to draw it as."""
    query: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a panel wants to know."""

    name: str
    title: str
    chart: str
    condition: Condition
    by: tuple[str, ...]
    """The fields that it groups by."""
    shown: tuple[str, ...] = ()
    """Further fields of a group's first record."""
    summed: tuple[str, ...] = ()


def exchange_board(knowledge: Knowledge) -> list[Panel]:
    """The panels of Exchange, in the order in which they are read."""
    return [_panel(asked, knowledge) for asked in _EXCHANGE]


def _panel(asked: _Asked, knowledge: Knowledge) -> Panel:
    operations = operations_of(asked.condition)
    columns = Columns(table_of("exchange", knowledge), knowledge, operations=operations)
    draft = Draft(columns, wanted=ask(asked.condition, columns), operations=operations)
    draft.carried = "shown_"
    draft.every_s = HOUR_S if asked.chart == TIME else 0
    for name in asked.by:
        draft.keys.append(columns.text(name))
    draft.totals[_NUMBER] = f"sizedistinct({columns.text('Id')})"
    for name in asked.summed:
        draft.totals[f"{PREFIX}sum_{name}"] = f"sum(nvl(float({columns.text(name)}), 0.0))"
    if asked.chart == TABLE:
        created = draft.created()
        draft.totals |= {f"{PREFIX}first": f"min({created})", f"{PREFIX}last": f"max({created})"}
    for name in asked.shown:
        draft.carry((name,))
    return Panel(asked.name, asked.title, asked.chart, draft.text())


def _is(field: str, *values: str) -> Condition:
    return Test(field, OneOf(frozenset(value.lower() for value in values)))


def _there(*fields: str) -> Condition:
    tests = tuple(Test(field, Exists(True)) for field in fields)
    return tests[0] if len(tests) == 1 else Some(tests)


_PERSON = Test("m365.human", Like(("true",)))
_ADMIN = Every((_is("RecordType", "1"), _PERSON))
_READ = _is("Operation", "MailItemsAccessed")
_NOT_OWNER = Every((_is("LogonType", "1", "2", "6"), Never(Test("LogonUserSid", SameAs("MailboxOwnerSid")))))
_RULES = _is("Operation", "New-InboxRule", "Set-InboxRule", "UpdateInboxRules", "Remove-InboxRule")
_FORWARDING = Every(
    (
        _is("Operation", "Set-Mailbox"),
        _there("Parameters.ForwardingSmtpAddress", "Parameters.ForwardingAddress"),
    )
)
_TRANSPORT = Test("Operation", Like((Wildcard.MANY, "-TransportRule")))
_CONNECTORS = Some(
    (
        Test("Operation", Like((Wildcard.MANY, "-InboundConnector"))),
        Test("Operation", Like((Wildcard.MANY, "-OutboundConnector"))),
    )
)
_GRANTS = _is(
    "Operation",
    "Add-MailboxPermission",
    "Remove-MailboxPermission",
    "Add-RecipientPermission",
    "Add-MailboxFolderPermission",
    "Set-MailboxFolderPermission",
    "AddFolderPermissions",
    "ModifyFolderPermissions",
)
_EVERYTHING: Condition = Test("Operation", Exists(True))

_EXCHANGE: Sequence[_Asked] = (
    _Asked("activities", "Activities over time", TIME, _EVERYTHING, ("Operation",)),
    _Asked("activities_by_kind", "Activities by kind of user", TIME, _EVERYTHING, ("UserType",)),
    _Asked(
        "admin_activities", "What administrators did", TABLE, _ADMIN, ("UserId", "Operation"), ("m365.ip",)
    ),
    _Asked("mailbox_logins", "Sign-ins to mailboxes", TIME, _is("Operation", "MailboxLogin"), ("LogonType",)),
    _Asked(
        "non_owner_access",
        "Work in mailboxes of others",
        TABLE,
        Every((_is("RecordType", "2", "3", "50"), _PERSON, _NOT_OWNER)),
        ("UserId", "MailboxOwnerUPN", "Operation"),
        ("m365.ip", "ClientInfoString"),
    ),
    _Asked(
        "external_access",
        "Access from outside the organisation, by people",
        TABLE,
        Every((_is("ExternalAccess", "true"), _PERSON)),
        ("UserId", "Operation"),
        ("m365.ip",),
    ),
    _Asked("hard_deletes", "Mail deleted for good", BARS, _is("Operation", "HardDelete"), ("UserId",)),
    _Asked(
        "inbox_rules",
        "Inbox rules",
        TABLE,
        _RULES,
        ("UserId", "Operation", "Parameters.Name"),
        (
            "Parameters.ForwardTo",
            "Parameters.RedirectTo",
            "Parameters.ForwardAsAttachmentTo",
            "Parameters.MoveToFolder",
            "Parameters.DeleteMessage",
            "Parameters.SubjectOrBodyContainsWords",
            "m365.ip",
        ),
    ),
    _Asked(
        "forwarding",
        "Mailboxes that are forwarded",
        TABLE,
        _FORWARDING,
        ("ObjectId", "UserId"),
        (
            "Parameters.ForwardingSmtpAddress",
            "Parameters.ForwardingAddress",
            "Parameters.DeliverToMailboxAndForward",
            "m365.ip",
        ),
    ),
    _Asked(
        "transport_rules",
        "Transport rules and connectors",
        TABLE,
        Every((Some((_TRANSPORT, _CONNECTORS)), _PERSON)),
        ("UserId", "Operation", "ObjectId"),
        (
            "Parameters.Name",
            "Parameters.BlindCopyTo",
            "Parameters.RedirectMessageTo",
            "Parameters.SmartHosts",
        ),
    ),
    _Asked(
        "permissions",
        "Rights on mailboxes and folders",
        TABLE,
        Every((_GRANTS, _PERSON)),
        ("UserId", "Operation", "ObjectId"),
        ("Parameters.User", "Parameters.AccessRights", "Item.ParentFolder.MemberUpn", "m365.ip"),
    ),
    _Asked(
        "mail_read",
        "Mail read, by how",
        TIME,
        _READ,
        ("OperationProperties.MailAccessType",),
        (),
        ("OperationCount",),
    ),
    _Asked(
        "mail_read_by_app", "Mail read, by application", BARS, _READ, ("m365.app",), (), ("OperationCount",)
    ),
    _Asked(
        "mail_read_by_place",
        "Mail read, by country and address",
        TABLE,
        _READ,
        ("m365.country", "m365.ip"),
        ("MailboxOwnerUPN",),
        ("OperationCount",),
    ),
    _Asked(
        "mail_read_in_masses",
        "Mail read in masses",
        TABLE,
        Every(
            (
                _READ,
                Some(
                    (
                        _is("OperationProperties.IsThrottled", "true"),
                        Test("OperationCount", Compared(Order.AT_LEAST, 100)),
                    )
                ),
            )
        ),
        ("MailboxOwnerUPN", "UserId", "m365.app"),
        ("m365.ip",),
        ("OperationCount",),
    ),
)

BOARDS: dict[str, Callable[[Knowledge], list[Panel]]] = {"exchange": exchange_board}
"""By name."""
