"""What an inbox rule looks for and does, by its records, in the words that Graph has for it.

Source: Microsoft Graph, messageRuleActions and messageRulePredicates; Exchange, New-InboxRule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from m365watch.detection.alerts.alert import CUT
from m365watch.detection.rules.containment import RULE_ACTIONS, RULE_SENDS, RULE_WORDS
from m365watch.response.steps.step import Agreement, Alternatives

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
