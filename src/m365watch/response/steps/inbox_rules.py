"""Steps on the rules of a mailbox, and on where it forwards its mail."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert import CUT
from m365watch.detection.rules.containment import RULE_ACTIONS, RULE_SENDS, RULE_WORDS
from m365watch.response.plans.alert_evidence import Account, Clues
from m365watch.response.plans.inbox_rule_names import BY_NAME, KnownRule
from m365watch.response.steps.accounts import path_of
from m365watch.response.steps.command_escaping import is_account, is_whole, powershell
from m365watch.response.steps.exchange_identities import (
    EXCHANGE_ONLY,
    REFUSED,
    may_be_an_id,
    named_mailboxes,
    own_mailboxes,
)
from m365watch.response.steps.step import LEAVES, Agreement, Alternatives, GraphCall, Remove, Step

Record = Mapping[str, str]

SENDS = ("forwardTo", "forwardAsAttachmentTo", "redirectTo")
"""Graph's actions that have receivers."""
INTO_FOLDERS = {"MoveToFolder": "moveToFolder", "CopyToFolder": "copyToFolder"}
_DELETES = (("actions.delete", "True"), ("actions.permanentDelete", "True"))
_STOPS = (("actions.stopProcessingRules", "True"),)
_AT_GRAPH: Mapping[str, Alternatives] = {
    "DeleteMessage": _DELETES,
    "MarkAsRead": (("actions.markAsRead", "True"),),
    "SoftDeleteMessage": _DELETES,
    "StopProcessingRules": _STOPS,
}
"""How Graph has what a cmdlet's parameter makes a rule do."""
_OF_OUTLOOK = (
    ("delete", "DeleteMessage"),
    ("markasread", "MarkAsRead"),
    ("move", "MoveToFolder"),
    ("copy", "CopyToFolder"),
    ("stopprocessing", "StopProcessingRules"),
)
"""How the kinds of a rule's actions begin that Outlook saved, once softness and underscores are left out."""
_CONDITIONS = {
    "BodyContainsWords": "bodyContains",
    "FromAddressContainsWords": "senderContains",
    "HeaderContainsWords": "headerContains",
    "RecipientAddressContainsWords": "recipientContains",
    "SubjectContainsWords": "subjectContains",
    "SubjectOrBodyContainsWords": "bodyOrSubjectContains",
}
"""How Graph has the words that a cmdlet's parameter makes a rule look for."""


def doings_of(records: Sequence[Record]) -> Agreement:
    """What a rule does by now whose records these are, the earliest first."""
    told: dict[str, str] = {}
    receivers: set[str] = set()
    for record in records:
        if saved := record.get("m365.rule_actions", ""):  # Outlook tells the whole rule
            told, receivers = dict(_done_by(saved)), set()
        told |= {name: one for name in _KEPT if (one := record.get(f"Parameters.{name}", ""))}
        receivers = {*_addresses_in(record.get("m365.recipients", ""))} or receivers
    every = {name: one for name, one in sorted(told.items()) if _is_set(one)}
    # Of a receiver that is called by another name than an address only that there is one can be compared.
    sends = sorted(receivers) or [""][: any(name in RULE_SENDS for name in every)]
    return (
        *(tuple((f"actions.{action}.emailAddress.address", one) for action in SENDS) for one in sends),
        *dict.fromkeys(_at_graph(name, every[name]) for name in every if name in RULE_ACTIONS),
        *(words for name in every if name in RULE_WORDS for words in _looks_for(name, every[name])),
    )


_KEPT = (*RULE_ACTIONS, *RULE_SENDS, *RULE_WORDS)


def tells_apart(doings: Agreement) -> bool:
    """Whether by any of it a rule is told from another of its name: by something that it does with mail.

    Most rules stop those after them, and two that look for the same words may do different things.
    """
    exact = (one for one in doings if one != _STOPS and all(value for _, value in one))
    return any(not name.startswith("conditions.") for one in exact for name, _ in one)


def _addresses_in(told: str) -> Iterator[str]:
    return (one for one in told.split(", ") if one and not one.endswith(CUT))


def _at_graph(name: str, told: str) -> Alternatives:
    """A folder is the same by its id, or by its name without the path."""
    if name not in INTO_FOLDERS:
        return _AT_GRAPH[name]
    action = INTO_FOLDERS[name]
    folder = re.split(r"\\|:(?!.*:)", told)[-1]
    return ((action, folder), (f"actions.{action}", told))


def _looks_for(name: str, told: str) -> Iterator[Alternatives]:
    """Each word; the last one that was cut is none."""
    words = told.split(";")
    for word in words[:-1] if told.endswith(CUT) else words:
        if word.strip():
            yield ((f"conditions.{_CONDITIONS[name]}", word.strip()),)


def _done_by(saved: str) -> Iterator[tuple[str, str]]:
    """By the parameter of a cmdlet, what a rule does that Outlook saved: `Move: RSS Feeds, Delete`."""
    for one in saved.split(", "):
        kind, _, value = one.partition(": ")
        plain = re.sub(r"^(soft|hard|permanent)|[^a-z]", "", kind.lower())
        plain = plain.replace("markmessageasread", "markasread")
        name = next((name for begins, name in _OF_OUTLOOK if plain.startswith(begins)), "")
        if name:
            yield name, value if name in INTO_FOLDERS else "True"


def _is_set(value: str) -> bool:
    return value.lower() not in ("", "false", "$false")


_OF_RULES = ("-inboxrule", "updateinboxrules")
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
    is_typed: bool = False
    """Whether no record gave it that name: Exchange takes what somebody types for it in either case."""


def remove_inbox_rule(clues: Clues) -> list[Step]:
    """The rules of that name; where the alert knows no name, a person picks.

    Source: Microsoft Graph, messageRule. Hidden rules, and those of Outlook alone, are not in its list.
    """
    if not clues.is_about(*_OF_RULES):
        return []
    mailboxes = own_mailboxes(clues)
    if clues.is_refused:
        return [_look_at_rules(one) for one in mailboxes]
    return [step for one in mailboxes for step in _of_mailbox(clues, one)]


def _of_mailbox(clues: Clues, mailbox: str) -> list[Step]:
    """What is done about the rule of which the record tells."""
    told = _rule(clues, mailbox)
    if told is None:
        return [_pick_rules(mailbox)]
    names = clues.story.names_of(mailbox)
    its = names.rule_in(clues.story.at(clues.places)) if told.name else None
    if its is None:
        return [_by_name(clues, mailbox, told)]
    if not names.take(its):
        return []
    rule = replace(told if told.name == its.name else _called(its.name), is_typed=its.is_typed)
    former = [one for one in _former_names(its, mailbox) if not names.is_held(one)]
    steps = [
        _by_name(clues, mailbox, rule) if is_whole(its.name) else _pick_rules(mailbox),
        *_formerly_called(mailbox, former, its),
    ]
    return [replace(one, since=instant_of_ms(its.seen_at_s * 1_000)) for one in steps]


def _by_name(clues: Clues, mailbox: str, rule: _Rule) -> Step:
    names, records = clues.story.names_of(mailbox), clues.story.at(clues.places)
    renamed = names.became(rule.name)
    if renamed is not None and renamed.is_certain:
        return _formerly_called(mailbox, [rule.name], renamed.rule)[0]
    known = names.rules_of(rule.name, records)
    notes = _origins(known) if known or clues.operation != "set-inboxrule" else (_CHANGED,)
    step = _inbox_rule(mailbox, rule, tuple(doings_of(one.records) for one in known), notes=notes)
    by_others = next((one for one in known if one.given_up_at_s and not one.since.is_own), None)
    if by_others is not None:
        step = _ask(step, f"Another alert alone tells that it was called so, {by_others.since}: {LEAVES}")
    if names.is_shared(rule.name) or len(known) > 1:
        step = _ask(step, _SEVERAL)
    if renamed is not None:
        other = renamed.rule
        step = _ask(
            step, f'It may have been called "{other.name}" {other.since}, and this its owner\'s. {LEAVES}'
        )
    return step


def _origins(known: Sequence[KnownRule]) -> tuple[str, ...]:
    """Where they come from that the alert's own records only changed."""
    made = dict.fromkeys(str(one.first) for one in known if one.is_made and not one.first.is_own)
    beside = tuple(f"It was made {one} and changed since: see there whose it is." for one in made)
    return (*((_CHANGED,) if any(one.was_there for one in known) else ()), *beside)


def _former_names(rule: KnownRule, mailbox: str) -> list[str]:
    """Those that it gave up; an identity has the mailbox before the name."""
    names = (_by_identity(one, mailbox).name or one for one in rule.given_up_at_s)
    return [one for one in dict.fromkeys(names) if one != rule.name and is_whole(one)]


def _called(name: str) -> _Rule:
    return _Rule(name, "" if may_be_an_id(name) else name, name)


def _formerly_called(mailbox: str, names: Sequence[str], its: KnownRule) -> list[Step]:
    """What is called as the alert's was may be the owner's, or that rule again.

    That a rule got a name back, and nothing else, no rule of the packs finds.
    """
    doings = (doings_of(its.records),)
    steps = (_inbox_rule(mailbox, _called(one), doings) for one in names)
    since = f'if it is the alert\'s: that was called "{its.name}" {its.since}'
    return [_ask(replace(one, title=f"{one.title}, {since}"), _FORMER) for one in steps]


def _look_at_rules(mailbox: str) -> Step:
    return Step(
        "remove_inbox_rule",
        f"See that nothing came of what was tried with the inbox rules of {mailbox}",
        powershell=(_list_rules(mailbox),),
        notes=(REFUSED,),
    )


def _ask(step: Step, why: str) -> Step:
    return replace(step, notes=(why, *step.notes), asks_always=True)


def _identity(rule: _Rule) -> str:
    """As -Identity takes it, else a place for what the list shows beside the name."""
    return powershell(rule.identity) if rule.identity else "IDENTITY"


def _list_rules(mailbox: str) -> str:
    columns = "Name,Identity,Enabled,Description"
    return f"Get-InboxRule -Mailbox {powershell(mailbox)} -IncludeHidden | Format-List {columns}"


def _rule(clues: Clues, mailbox: str) -> _Rule | None:
    """None where the record does not name it, or by no name that is known whole."""
    if clues.has(*BY_NAME):
        named = clues.values(*BY_NAME)
        return _called(named[0]) if named else None
    identities = clues.values("Parameters.Identity")
    return _by_identity(identities[0], mailbox) if identities else None


def _by_identity(identity: str, mailbox: str) -> _Rule:
    """An identity is the rule's name or number, or the mailbox, a backslash and one of these.

    A name may have a backslash, too, and a mailbox has none: it ends at the first one.
    """
    path, mark, rest = identity.partition("\\")
    if not mark:
        rest = identity
    elif path.rpartition("/")[2].lower() not in (mailbox.lower(), mailbox.lower().partition("@")[0]):
        return _Rule(identity, identity, "")
    name = "" if rest.isdecimal() else rest
    return _Rule(rest or identity, identity if mark else rest, name, is_typed=True)


def _pick_rules(mailbox: str) -> Step:
    """A person picks among all that the mailbox has."""
    is_known = is_account(mailbox)
    return Step(
        "remove_inbox_rule",
        f"Remove bad inbox rules of {mailbox}",
        operations=(_remove_rules(mailbox),) if is_known else (),
        powershell=(
            _list_rules(mailbox),
            f"Remove-InboxRule -Mailbox {powershell(mailbox)} -Identity NAME -Confirm:$false",
        ),
        permissions=_PERMISSIONS if is_known else (),
        wished=_WISHED if is_known else (),
        notes=(_HIDDEN if is_known else _why(mailbox), _OUTLOOKS),
    )


def _inbox_rule(
    mailbox: str, rule: _Rule, doings: tuple[Agreement, ...], *, notes: tuple[str, ...] = ()
) -> Step:
    remove = f"Remove-InboxRule -Mailbox {powershell(mailbox)} -Identity {_identity(rule)} -Confirm:$false"
    step = Step(
        "remove_inbox_rule",
        f'Remove the inbox rule "{rule.told}" of {mailbox}',
        powershell=(_list_rules(mailbox), f"{_IF_IT_IS}{remove}"),
        notes=(*notes, _LATER, *(() if rule.identity else (_NO_IDENTITY,)), _OUTLOOKS),
    )
    if not (is_account(mailbox) and rule.name):
        return replace(step, notes=(_why(mailbox), *step.notes))
    operation = _remove_rules(mailbox, rule.name, doings, in_either_case=rule.is_typed)
    is_told = bool(doings) and all(map(tells_apart, doings))
    step = replace(
        step,
        operations=(operation,),
        permissions=_PERMISSIONS,
        wished=(*(("Mail.ReadBasic.All",) if operation.folders else ()), *_WISHED),
        notes=(
            _HIDDEN,
            *step.notes,
            *((_COMPARED,) if is_told else ()),
            *((_FOLDERS,) if operation.folders else ()),
        ),
    )
    return step if is_told else _ask(step, _NOT_TOLD)


_PERMISSIONS = ("MailboxSettings.ReadWrite",)
_WISHED = ("User.Read.All",)
_HIDDEN = "Graph does not list hidden rules: Get-InboxRule -IncludeHidden does."

_TAKES_OUTLOOKS = (
    "Remove-InboxRule takes the rules that Outlook itself carries out with it, which may be the owner's:"
)
"""Source: Exchange PowerShell, Remove-InboxRule, "Description"."""
_OUTLOOKS = f"{_TAKES_OUTLOOKS} better by Graph or in Outlook on the web."
_OUTLOOKS_THERE = f"{_TAKES_OUTLOOKS} better in Outlook on the web."
_IF_IT_IS = "# if it does what the record tells: "
_NO_IDENTITY = (
    "Exchange may take its name for another's number: IDENTITY stands for what the list shows beside it."
)
_LATER = "No record tells what became of it since: it may be called otherwise by now, and another as it was."
_COMPARED = "Graph compares what it does with what the record tells; where that differs, a person picks."
_NOT_TOLD = (
    f"No record tells what it does so that Graph could compare it, and another may be called so: {LEAVES}"
)
_SEVERAL = (
    "The records tell of several rules of this name, which may be one, or of which some may be gone:"
    f" {LEAVES}"
)
_FORMER = f"The alert's gave this name up, and what has it may be its owner's: {LEAVES}"
_FOLDERS = "Which folder that is Graph tells with Mail.ReadBasic.All only: without it, a person picks."
_UNSERVED = "By hand: Graph has no inbox rules in this cloud."
_OF_GRAPH = frozenset({_HIDDEN, _COMPARED, _NOT_TOLD, _FOLDERS})
"""Notes on what Graph does and does not."""
_CHANGED = (
    "No record that is known made it: was it there before, its owner may have to make it again as it was."
)


def without_graph(step: Step) -> Step:
    """A step on inbox rules where Graph does not serve them: by PowerShell alone."""
    notes = (one for one in step.notes if one not in _OF_GRAPH)
    notes = (_OUTLOOKS_THERE if one == _OUTLOOKS else one for one in notes)
    return replace(
        step,
        operations=(),
        permissions=(),
        wished=(),
        notes=(_UNSERVED, *notes) if step.operations else tuple(notes),
        asks_always=False,
    )


def _why(mailbox: str) -> str:
    if not is_account(mailbox):
        return "By hand: the record names the mailbox by an alias, which Graph does not know."
    return "By hand: the record has the rule by a name of Exchange's, which Graph does not know."


def _folders(user: str, doings: Sequence[Agreement]) -> tuple[tuple[str, str], ...]:
    told = {name for one in doings for each in one for name, _ in each}
    return tuple(
        (f"actions.{action}", f"{user}/mailFolders/{{found.actions.{action}}}")
        for action in INTO_FOLDERS.values()
        if action in told
    )


def _remove_rules(
    mailbox: str, name: str = "", doings: tuple[Agreement, ...] = (), *, in_either_case: bool = False
) -> Remove:
    user = path_of(Account(mailbox))
    path = f"{user}/mailFolders/inbox/messageRules"
    return Remove(
        path,
        GraphCall("DELETE", f"{path}/{{found.id}}"),
        label=(
            *("displayName", "isEnabled", "actions.moveToFolder", "actions.delete", "actions.markAsRead"),
            *(f"actions.{action}.emailAddress.address" for action in SENDS),
        ),
        wanted=(("displayName", name),) if name else (),
        agrees=doings,
        folders=_folders(user, doings),
        in_either_case=in_either_case,
        is_one=True,  # an intruder may call a rule as the owner's is called
        owner=f"{user}?$select=id",
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
