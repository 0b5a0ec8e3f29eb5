"""Steps on the rules of a mailbox, and on where it forwards its mail."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from m365watch.detect.containment import RULE_ACTIONS
from m365watch.respond.accounts import path_of
from m365watch.respond.clues import Account, Clues
from m365watch.respond.exchange_names import may_be_an_id
from m365watch.respond.mailboxes import EXCHANGE_ONLY, REFUSED, named_mailboxes, own_mailboxes
from m365watch.respond.quoting import is_account, powershell
from m365watch.respond.renames import BY_NAME, Names, Renamed, names_in
from m365watch.respond.steps import GraphCall, Remove, Step
from m365watch.values import dataclass

Alternatives = tuple[tuple[str, str], ...]
"""Properties of Graph and their values, of which one has to be so."""
_OF_RULES = ("-inboxrule", "updateinboxrules")
_SENDS = ("forwardTo", "forwardAsAttachmentTo", "redirectTo")
_DELETES = (("actions.delete", "True"), ("actions.permanentDelete", "True"))
_AT_GRAPH: Mapping[str, Alternatives] = {
    "DeleteMessage": _DELETES,
    "MarkAsRead": (("actions.markAsRead", "True"),),
    "SoftDeleteMessage": _DELETES,
    "StopProcessingRules": (("actions.stopProcessingRules", "True"),),
}
"""How Graph has what a cmdlet's parameter makes a rule do."""
_INTO_FOLDERS = {"MoveToFolder": "moveToFolder", "CopyToFolder": "copyToFolder"}
_OF_OUTLOOK = (
    ("delete", "DeleteMessage"),
    ("markasread", "MarkAsRead"),
    ("move", "MoveToFolder"),
    ("copy", "CopyToFolder"),
    ("stopprocessing", "StopProcessingRules"),
)
"""How the kinds of a rule's actions begin that Outlook saved, once softness and underscores are left out."""
_RULE = ("displayName", "sequence", "isEnabled", "conditions", "actions", "exceptions")
_FORWARDING = ("ForwardingSmtpAddress", "ForwardingAddress")


@dataclass(frozen=True, slots=True)
class _Rule:
    """An inbox rule as a record names it."""

    told: str
    identity: str
    """As PowerShell takes it; empty where Exchange may take it for another's number."""
    name: str
    """What it is called; empty where the record has it by a number, or where that is not certain."""


def remove_inbox_rule(clues: Clues) -> list[Step]:
    """The rules of that name; where the alert knows no name, a person picks.

    Source: Microsoft Graph, messageRule. Hidden rules, and those of Outlook alone, are not in its list.
    """
    if not clues.is_about(*_OF_RULES):
        return []
    if clues.is_refused:
        return [_look_at_rules(one) for one in own_mailboxes(clues)]
    steps: list[Step] = []
    for mailbox in own_mailboxes(clues):
        rules, names = _rules(clues, mailbox), names_in(clues.records, clues.records_at_s, mailbox)
        gone = {rule: told for rule in rules if (told := names.became(rule.name))}
        steps += [_look_at_name(mailbox, rule, told) for rule, told in gone.items() if told.is_certain]
        left = tuple(rule for rule in rules if rule not in gone or not gone[rule].is_certain)
        if left or not rules:
            is_made = any(rule.name.lower() in names.made for rule in left)
            was_there = clues.operation == "set-inboxrule" and not is_made
            step = _inbox_rule(mailbox, left, _agrees(clues, names, left), was_there=was_there)
            steps.append(_ask(step, gone[left[0]]) if left and left[0] in gone else step)
    return steps


def _look_at_rules(mailbox: str) -> Step:
    return Step(
        "remove_inbox_rule",
        f"See that nothing came of what was tried with the inbox rules of {mailbox}",
        powershell=(_list_rules(mailbox),),
        notes=(REFUSED,),
    )


def _look_at_name(mailbox: str, rule: _Rule, renamed: Renamed) -> Step:
    said = f"-Mailbox {powershell(mailbox)}"
    return Step(
        "remove_inbox_rule",
        (
            f'See whose inbox rule "{rule.name}" of {mailbox} is, if there is one: the alert\'s is called'
            f' "{renamed.to}" by now'
        ),
        powershell=(
            _list_rules(mailbox),
            f"{_IF_IT_IS}Remove-InboxRule {said} -Identity {_identity(rule)} -Confirm:$false",
        ),
        notes=(
            "By hand: the alert's gave that name up, and what has it may be its owner's.",
            *_remarks_on((rule,)),
        ),
    )


def _ask(step: Step, renamed: Renamed) -> Step:
    why = f'It may be called "{renamed.to}" by now, and its owner\'s as it was: --yes leaves it alone.'
    return replace(step, notes=(why, *step.notes), asks_always=True)


def _identity(rule: _Rule) -> str:
    """As -Identity takes it, else a place for what the list shows beside the name."""
    return powershell(rule.identity) if rule.identity else "IDENTITY"


def _remarks_on(rules: tuple[_Rule, ...]) -> tuple[str, ...]:
    return () if all(rule.identity for rule in rules) else (_NO_IDENTITY,)


def _list_rules(mailbox: str) -> str:
    columns = "Name,Identity,Enabled,Description"
    return f"Get-InboxRule -Mailbox {powershell(mailbox)} -IncludeHidden | Format-List {columns}"


def _rules(clues: Clues, mailbox: str) -> tuple[_Rule, ...]:
    if clues.has(*BY_NAME):
        return tuple(_Rule(one, "" if may_be_an_id(one) else one, one) for one in clues.values(*BY_NAME))
    return tuple(_by_identity(one, mailbox) for one in clues.values("Parameters.Identity"))


def _agrees(clues: Clues, names: Names, rules: tuple[_Rule, ...]) -> tuple[Alternatives, ...]:
    """What the alert's records say that a rule of these names does by now: all of it has to be so."""
    wanted = {rule.name for rule in rules if rule.name}
    said = [record for name in wanted for record in names.told_of(name)]
    does: dict[str, str] = {}
    receivers: set[str] = set()
    for record in said or [record for record in clues.records if _names_in(record) & wanted]:
        if saved := record.get("m365.rule_actions", ""):  # Outlook tells the whole rule
            does, receivers = dict(_done_by(saved)), set()
        does |= {name: told for name in RULE_ACTIONS if (told := record.get(f"Parameters.{name}", ""))}
        receivers = {one for one in record.get("m365.recipients", "").split(", ") if one} or receivers
    sends = (
        tuple((f"actions.{action}.emailAddress.address", one) for action in _SENDS)
        for one in sorted(receivers)
    )
    done = (_at_graph(name, told) for name, told in sorted(does.items()) if _is_set(told))
    return tuple(dict.fromkeys((*sends, *done)))


def _at_graph(name: str, told: str) -> Alternatives:
    """A folder is the same by its id, or by its name without the path."""
    if name not in _INTO_FOLDERS:
        return _AT_GRAPH[name]
    action = _INTO_FOLDERS[name]
    folder = re.split(r"\\|:(?!.*:)", told)[-1]
    return ((action, folder), (f"actions.{action}", told))


def _done_by(saved: str) -> Iterator[tuple[str, str]]:
    """By the parameter of a cmdlet, what a rule does that Outlook saved: `Move: RSS Feeds, Delete`."""
    for one in saved.split(", "):
        kind, _, value = one.partition(": ")
        plain = re.sub(r"^(soft|hard|permanent)|[^a-z]", "", kind.lower())
        plain = plain.replace("markmessageasread", "markasread")
        name = next((name for begins, name in _OF_OUTLOOK if plain.startswith(begins)), "")
        if name:
            yield name, value if name in _INTO_FOLDERS else "True"


def _names_in(record: Mapping[str, str]) -> set[str]:
    named = {record.get(name, "") for name in (*BY_NAME, "Parameters.Identity")}
    return {*named, *(one.partition("\\")[2] for one in named)}


def _is_set(value: str) -> bool:
    return value.lower() not in ("", "false", "$false")


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


def _inbox_rule(
    mailbox: str, rules: tuple[_Rule, ...], agrees: tuple[Alternatives, ...], *, was_there: bool
) -> Step:
    named = " or ".join(f'"{rule.told}"' for rule in rules)
    said = f"-Mailbox {powershell(mailbox)}"
    removals = tuple(
        f"{_IF_IT_IS}Remove-InboxRule {said} -Identity {_identity(rule)} -Confirm:$false" for rule in rules
    )
    is_known = is_account(mailbox) and all(rule.name for rule in rules)
    return Step(
        "remove_inbox_rule",
        f"Remove the inbox rule {named} of {mailbox}" if rules else f"Remove bad inbox rules of {mailbox}",
        operations=(_remove_rules(mailbox, rules, agrees),) if is_known else (),
        powershell=(
            _list_rules(mailbox),
            *(removals or (f"Remove-InboxRule {said} -Identity NAME -Confirm:$false",)),
        ),
        permissions=("MailboxSettings.ReadWrite",) if is_known else (),
        notes=(
            _why(mailbox) if not is_known else _HIDDEN,
            *((_CHANGED,) if was_there else ()),
            *((_LATER,) if rules else ()),
            *_remarks_on(rules),
            *((_COMPARED,) if agrees and is_known else ()),
            *((_FOLDERS,) if is_known and _folders(mailbox, agrees) else ()),
        ),
    )


_HIDDEN = "Graph does not list hidden rules: Get-InboxRule -IncludeHidden does."

_IF_IT_IS = "# if it does what the record tells: "
_NO_IDENTITY = (
    "Exchange may take its name for another's number: IDENTITY stands for what the list shows beside it."
)
_LATER = "No record tells what became of it since: it may be called otherwise by now, and another as it was."
_COMPARED = "Graph compares what it does with what the record tells; where that differs, a person picks."
_FOLDERS = "Which folder that is Graph tells with Mail.ReadBasic.All only: without it, a person picks."
_CHANGED = "It was there before, and was changed: its owner may have to make it again as it was."


def _why(mailbox: str) -> str:
    if not is_account(mailbox):
        return "By hand: the record names the mailbox by an alias, which Graph does not know."
    return "By hand: the record has the rule by a name of Exchange's, which Graph does not know."


def _folders(mailbox: str, agrees: tuple[Alternatives, ...]) -> tuple[tuple[str, str], ...]:
    told = {name for one in agrees for name, _ in one}
    where = f"{path_of(Account(mailbox))}/mailFolders" if told.intersection(_INTO_FOLDERS.values()) else ""
    return tuple(
        (f"actions.{action}", f"{where}/{{found.actions.{action}}}")
        for action in _INTO_FOLDERS.values()
        if action in told
    )


def _remove_rules(mailbox: str, rules: tuple[_Rule, ...], agrees: tuple[Alternatives, ...]) -> Remove:
    path = f"{path_of(Account(mailbox))}/mailFolders/inbox/messageRules"
    return Remove(
        path,
        GraphCall("DELETE", f"{path}/{{found.id}}"),
        label=(
            *("displayName", "isEnabled", "actions.moveToFolder", "actions.delete", "actions.markAsRead"),
            *(f"actions.{action}.emailAddress.address" for action in _SENDS),
        ),
        wanted=tuple(("displayName", rule.name) for rule in rules),
        agrees=agrees,
        folders=_folders(mailbox, agrees),
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
    if clues.is_refused:
        return [_look_after_trial(one) for one in named_mailboxes(clues)]
    given = tuple(name for name in _FORWARDING if clues.has(f"Parameters.{name}"))
    return [
        _stop_forwarding(one, given) if given else _look_at_forwarding(one) for one in named_mailboxes(clues)
    ]


def without_needless_looks(steps: Sequence[Step]) -> list[Step]:
    """The steps on forwarding, but no look at a mailbox of which another record says that it forwards."""
    stopped = {step.powershell[0] for step in steps if _stops(step)}
    return [step for step in steps if _stops(step) or not {*step.powershell[:1]} & stopped]


def _stops(step: Step) -> bool:
    return any(line.startswith("Set-Mailbox ") for line in step.powershell)


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


def _look_after_trial(mailbox: str) -> Step:
    return Step(
        "remove_forwarding",
        f"See that nothing came of what was tried with the forwarding of {mailbox}",
        powershell=(_get(mailbox),),
        notes=(EXCHANGE_ONLY, REFUSED),
    )


def _get(mailbox: str) -> str:
    return f"Get-Mailbox -Identity {powershell(mailbox)} | Format-List {','.join(_FORWARDING)},DeliverTo*"
