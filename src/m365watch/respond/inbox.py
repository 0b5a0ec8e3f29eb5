"""Steps on the rules of a mailbox, and on where it forwards its mail."""

from __future__ import annotations

from m365watch.respond.accounts import path_of
from m365watch.respond.clues import Account, Clues
from m365watch.respond.mailboxes import EXCHANGE_ONLY, named_mailboxes, own_mailboxes
from m365watch.respond.quoting import is_account, powershell
from m365watch.respond.steps import GraphCall, Remove, Step
from m365watch.values import dataclass

_OF_RULES = ("-inboxrule", "updateinboxrules")
_RULE = ("displayName", "sequence", "isEnabled", "conditions", "actions", "exceptions")
_FORWARDING = ("ForwardingSmtpAddress", "ForwardingAddress")


@dataclass(frozen=True, slots=True)
class _Rule:
    """An inbox rule as a record names it."""

    told: str
    identity: str
    """As PowerShell takes it."""
    name: str
    """What it is called; empty where the record has it by a number, or where that is not certain."""


def remove_inbox_rule(clues: Clues) -> list[Step]:
    """The rules of that name; where the alert knows no name, a person picks.

    Source: Microsoft Graph, messageRule. Hidden rules, and those of Outlook alone, are not in its list.
    """
    if not clues.is_about(*_OF_RULES):
        return []
    was_there = clues.operation == "set-inboxrule"
    return [
        _inbox_rule(mailbox, _rules(clues, mailbox), was_there=was_there) for mailbox in own_mailboxes(clues)
    ]


def _rules(clues: Clues, mailbox: str) -> tuple[_Rule, ...]:
    by_name = ("Parameters.Name", "OperationProperties.RuleName")
    if clues.has(*by_name):
        return tuple(_Rule(one, one, one) for one in clues.values(*by_name))
    return tuple(_by_identity(one, mailbox) for one in clues.values("Parameters.Identity"))


def _by_identity(identity: str, mailbox: str) -> _Rule:
    """An identity is the rule's name or number, or the mailbox, a backslash and one of these.

    A name may have a backslash, too, and a mailbox has none: it ends at the first one.
    """
    path, mark, rest = identity.partition("\\")
    if not mark:
        rest = identity
    elif path.rpartition("/")[2].lower() not in (mailbox.lower(), mailbox.lower().partition("@")[0]):
        return _Rule(identity, identity, "")
    return _Rule(rest or identity, identity if mark else rest, "" if rest.isdecimal() else rest)


def _inbox_rule(mailbox: str, rules: tuple[_Rule, ...], *, was_there: bool) -> Step:
    named = " or ".join(f'"{rule.told}"' for rule in rules)
    said = f"-Mailbox {powershell(mailbox)}"
    removals = tuple(
        f"Remove-InboxRule {said} -Identity {powershell(rule.identity)} -Confirm:$false" for rule in rules
    )
    is_known = is_account(mailbox) and all(rule.name for rule in rules)
    return Step(
        "remove_inbox_rule",
        f"Remove the inbox rule {named} of {mailbox}" if rules else f"Remove bad inbox rules of {mailbox}",
        operations=(_remove_rules(mailbox, rules),) if is_known else (),
        powershell=(
            f"Get-InboxRule {said} -IncludeHidden | Format-List Name,Identity,Enabled,Description",
            *(removals or (f"Remove-InboxRule {said} -Identity NAME -Confirm:$false",)),
        ),
        permissions=("MailboxSettings.ReadWrite",) if is_known else (),
        notes=(_why(mailbox) if not is_known else _HIDDEN, *((_CHANGED,) if was_there else ())),
    )


_HIDDEN = "Graph does not list hidden rules: Get-InboxRule -IncludeHidden does."

_CHANGED = "It was there before, and was changed: its owner may have to make it again as it was."


def _why(mailbox: str) -> str:
    if not is_account(mailbox):
        return "By hand: the record names the mailbox by an alias, which Graph does not know."
    return "By hand: the record has the rule by a name of Exchange's, which Graph does not know."


def _remove_rules(mailbox: str, rules: tuple[_Rule, ...]) -> Remove:
    path = f"{path_of(Account(mailbox))}/mailFolders/inbox/messageRules"
    return Remove(
        path,
        GraphCall("DELETE", f"{path}/{{found.id}}"),
        label=("displayName", "isEnabled", "actions.moveToFolder", "actions.delete", "actions.markAsRead"),
        wanted=tuple(("displayName", rule.name) for rule in rules),
        is_one=True,  # an intruder may call a rule as the owner's is called
        restored_at=path,
        restored=_RULE,
    )


def remove_forwarding(clues: Clues) -> list[Step]:
    """What a record set is taken back; where none set anything, somebody looks."""
    if clues.is_about(*_OF_RULES):
        named = own_mailboxes(clues) if clues.operation else named_mailboxes(clues)
        return [_look_at_forwarding(one) for one in named]
    if not clues.is_about("set-mailbox"):
        return []
    given = tuple(name for name in _FORWARDING if clues.has(f"Parameters.{name}"))
    return [
        _stop_forwarding(one, given) if given else _look_at_forwarding(one) for one in named_mailboxes(clues)
    ]


def _stop_forwarding(mailbox: str, given: tuple[str, ...]) -> Step:
    cleared = " ".join(f"-{name} $null" for name in given)
    return Step(
        "remove_forwarding",
        f"Stop {mailbox} from forwarding",
        powershell=(_get(mailbox), f"Set-Mailbox -Identity {powershell(mailbox)} {cleared}"),
        notes=(EXCHANGE_ONLY, "The first command shows what it was: keep that, nothing else knows it then."),
    )


def _look_at_forwarding(mailbox: str) -> Step:
    both = " ".join(f"-{name} $null" for name in _FORWARDING)
    return Step(
        "remove_forwarding",
        f"See whether {mailbox} forwards its mail besides, and to whom",
        powershell=(
            _get(mailbox),
            "# where it goes to somebody whom its owner does not know:",
            f"# Set-Mailbox -Identity {powershell(mailbox)} {both}",
        ),
        notes=(EXCHANGE_ONLY, "The record of a rule does not say it: what is there may be the owner's."),
    )


def _get(mailbox: str) -> str:
    return f"Get-Mailbox -Identity {powershell(mailbox)} | Format-List {','.join(_FORWARDING)},DeliverTo*"
