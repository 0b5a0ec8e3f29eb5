"""What a record says beside who, when and where: what was set or changed, and whether it failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from m365watch.detection.alerts.alert import Alert, clean_text
from m365watch.detection.fields.operations import ok
from m365watch.detection.fields.record_view import View, arguments, open_json
from m365watch.records.headers import object_of

NAMED_MAX = 50
"""Names of one kind that an alert keeps; how many it leaves out is said."""
_ONE = {"address": "addresses", "mailbox": "mailboxes", "policy": "policies"}


def who(alert: Alert, *, most: int = 1) -> str:
    """The users, or else what the alert names first; empty where it names nobody."""
    kinds = list(dict.fromkeys(kind for kind, _ in alert.entities))
    if not kinds:
        return ""
    return names_of(alert, "user" if "user" in kinds else kinds[0], most=most)


def names_of(alert: Alert, kind: str, *, most: int) -> str:
    """The first names of a kind: ann, bob and 4 more."""
    names = alert.named(kind)
    return some_of(names[:most], len(names) + dict(alert.unnamed).get(kind, 0))


def list_kinds(alert: Alert, *, most: int) -> list[tuple[str, str]]:
    """Each kind of entity, in its order, with its first names."""
    kinds = dict.fromkeys(kind for kind, _ in alert.entities)
    return [(kind, names_of(alert, kind, most=most)) for kind in kinds]


def some_of(shown: Sequence[str], total: int) -> str:
    """Those that are shown, and how many more there are."""
    more = total - len(shown)
    line = ", ".join(shown)
    return f"{line} and {more:,} more" if more > 0 else line


def notes_of(unnamed: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """A line for each kind of which some are left out: a lake and a program have it, too."""
    return tuple(
        f"{number:,} more {_ONE.get(kind, f'{kind}s')} are not named here; its records name them."
        for kind, number in unnamed
    )


PAIRS_MAX = 8
VALUE_MAX = 80
"""Characters of one value."""
_FIELDS = ("Parameters", "OperationProperties", "ModifiedProperties")
_GRANTS = frozenset(
    {"consentaction.permissions", "delegatedpermissiongrant.scope", "oauth2permissiongrant.scope"}
)
"""Texts of which only the permissions in them tell a reader something."""
_FINDINGS = (
    "Name",
    "AlertDisplayName",
    "Severity",
    "AlertSeverity",
    "Url",
    "Subject",
    "Verdict",
    "RiskDetail",
)
_NOISE = frozenset(
    {
        "alwaysdeleteoutlookrulesblob",
        "bypassliveid",
        "confirm",
        "domaincontroller",
        "force",
        "identity",
        "ignoredehydratedflag",
        "immutableidentity",
        "included updated properties",
        "ruleid",
        "serverrule",
        "stopprocessingrules",
        "warningaction",
    }
)
"""Names that every such record has, or that say again what is shown elsewhere."""
_NOTHING = frozenset({"", "[]", "[ ]"})
_NO_NEWS = re.compile(r"(?:\[ ?\]|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?", re.IGNORECASE)
_REASONS = ("LogonError", "ErrorNumber", "ResultStatusDetail")


def details_of(raw: str) -> str:
    """What the record sets or changes, a few of them: ForwardTo: ann@example; DeleteMessage: True."""
    record = object_of(raw)
    pairs = dict([*_told(record), *_pairs(record)])
    shown = [f"{name}: {value}" for name, value in pairs.items()][:PAIRS_MAX]
    more = len(pairs) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def failure_of(raw: str) -> str:
    """That it failed, and why where the record says so; empty where it came about."""
    record = object_of(raw)
    if not record or ok(View(record))[0] is not False:
        return ""
    reasons = (record.get(name) for name in _REASONS)
    reason = next((str(one) for one in reasons if one not in (None, "", 0, "0")), "")
    return f"failed: {_short(reason)}" if reason else "failed"


def _told(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What records of Microsoft's own findings say: the alert, the link, the mail, the rule."""
    for name in _FINDINGS:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            yield name, _short(value)
    policies = record.get("PolicyDetails")
    for policy in policies if isinstance(policies, list) else ():
        if isinstance(policy, dict) and policy.get("PolicyName"):
            rules = policy.get("Rules")
            named = [
                str(one["RuleName"])
                for one in (rules if isinstance(rules, list) else ())
                if isinstance(one, dict) and one.get("RuleName")
            ]
            yield f"policy {_short(policy['PolicyName'])}", _short(", ".join(named))


def _pairs(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    view = View(record)
    for field in _FIELDS:
        elements = open_json(record.get(field))
        if isinstance(elements, str):
            # As the compliance centre writes them: -Identity "Keep" -Purge.
            elements = [{"Name": name, "Value": value} for name, value in arguments(elements)]
        for element in elements if isinstance(elements, list) else ():
            if not isinstance(element, dict) or not isinstance(element.get("Name"), str):
                continue
            name = element["Name"].strip()
            told = _told_now(element)
            if name.lower() in _GRANTS:
                yield "permissions", _short(view.shown("m365.scopes"))
            elif name.lower() not in _NOISE and told:
                yield clean_text(name), told


def _told_now(element: Mapping[str, Any]) -> str:
    """What is set now, or was taken away; empty where that is nothing, or an id that says nothing."""
    value, old = (
        "" if one is None else _short(one)
        for one in (element.get("Value", element.get("NewValue")), element.get("OldValue"))
    )
    is_gone = value in _NOTHING and _NO_NEWS.fullmatch(old) is None
    return f"none, was {old}" if is_gone else "" if _NO_NEWS.fullmatch(value) else value


def _short(value: Any) -> str:
    """A value in one line; of a list that is written as JSON, what is in it."""
    text = value if isinstance(value, str) else str(value)
    if text[:1] == "[" and text[-1:] == "]":
        try:
            found = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = []
        if found and all(isinstance(one, str | bool | int) for one in found):
            text = ", ".join(map(str, found))
    text = " ".join(clean_text(text).split())
    return text if len(text) <= VALUE_MAX else f"{text[: VALUE_MAX - 1]}…"
