r"""Which mailbox a rule or a setting is of, in one spelling for all the ways in which records name it.

The same mailbox is ada@contoso.example where its owner acts, `ada` in ObjectId of Set-Mailbox, and
`<server>/<organisation>/ada\<rule>` in that of a rule. Two domains may each have an ada: addresses tell
them apart where a record has one, and else the bare name is left (`correlation/mailboxes.py` counts both).

Source: 11 published records of rules and forwarding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from m365watch.config.models.values import GUID
from m365watch.detection.fields.operations import normalise_operation

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View


_ACTIONS_MAX = 10
_KINDS = ("actiontype", "type", "action", "name")
"""Keys that say what an action is; what stands under the others is what it does it with."""


def rule_actions(view: View) -> tuple[Value, ...]:
    r"""Each action: "Move: \RSS Feeds", "Delete"; those of the saved rule, else the names of them."""
    from m365watch.detection.fields.record_view import open_json

    rule = open_json(view.first("OperationProperties.ServerRule"))
    named = _below(rule, "actions") if isinstance(rule, Mapping) else None
    told = list(_told(named)) or list(_told(open_json(view.first("OperationProperties.RuleActions"))))
    return tuple(dict.fromkeys(told))[:_ACTIONS_MAX]


def _told(actions: Any) -> Iterator[str]:
    from m365watch.detection.fields.record_view import every_value, open_json

    for one in actions if isinstance(actions, list) else [actions]:
        action = open_json(one)
        if isinstance(action, Mapping):
            kind = next((str(_below(action, key)) for key in _KINDS if _below(action, key)), "")
            rest = {key: value for key, value in action.items() if str(key).lower() not in _KINDS}
            values = ", ".join(every_value(rest))
            yield ": ".join(part for part in (kind.removesuffix("Action"), values) if part)
        elif isinstance(action, str) and action.strip():
            yield action.strip()


def _below(value: Mapping[str, Any], wanted: str) -> Any:
    return next((one for key, one in value.items() if str(key).lower() == wanted), None)


def only_subject(view: View) -> tuple[Value, ...]:
    """The subject of the mails of a record, where they have only one; what else went is nobody's affair."""
    found = dict.fromkeys(view.values("AffectedItems.Subject"))
    return tuple(found) if len(found) == 1 else ()


def mailbox_alias(view: View) -> tuple[Value, ...]:
    """The mailbox's address, or its name behind any path, in lower case; who acted, where none is named."""
    operation = normalise_operation(view.first("Operation"))
    actor = _alias_of(view.first("UserId"))
    by_number = ""
    for name in _names_for(operation):
        alias = _alias_of(view.first(name), is_rule=operation.endswith("inboxrule"))
        if alias and not GUID.fullmatch(alias):
            return (actor if actor.partition("@")[0] == alias else alias,)
        by_number = by_number or (alias if name != "ObjectId" else "")
    alias = by_number or actor
    return (alias,) if alias else ()


def _names_for(operation: str) -> tuple[str, ...]:
    """Where an operation says which mailbox it is about; a transport rule is about all."""
    if operation.endswith("inboxrule"):
        return ("Parameters.Mailbox", "ObjectId")
    if operation.endswith("-mailbox"):
        return ("Parameters.Identity", "ObjectId")
    return () if operation.endswith("transportrule") else ("MailboxOwnerUPN",)


def _alias_of(text: str, *, is_rule: bool = False) -> str:
    r"""The name ada in <server>/<organisation>/ada, and in ada\Invoices of a rule; an address as it is."""
    if is_rule:
        text = text.partition("\\")[0]
    return text.rpartition("/")[2].rpartition("\\")[2].strip().lower()
