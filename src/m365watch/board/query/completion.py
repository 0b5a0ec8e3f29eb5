"""What may come at a place of a filter: names of fields, and values that the records of the view have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import DIMENSIONS, OUTCOMES
from m365watch.board.query.display_names import name_tenants
from m365watch.board.query.query_context import View
from m365watch.board.query.sql.activity_queries import values_of
from m365watch.board.widgets.labels import (
    application_words,
    named_so,
    record_type_words,
    short,
    user_type_words,
    workload_words,
)
from m365watch.lake.search.filter_fields import FIELDS, Field, field_named

_NAME = re.compile(r"(?:^|[\s(])-?(?P<typed>[A-Za-z_][\w.]*)$", re.ASCII)
_VALUE = re.compile(
    r"(?:^|[\s(])-?(?P<name>[A-Za-z_][\w.]*)[:~]\(?\s*"
    r'(?:(?:"(?:[^"\\]|\\.)*"|[^\s()",]+)(?:\s*,\s*|\s+or\s+))*(?P<typed>"(?:[^"\\]|\\.)*|[^\s()",]*)$',
    re.IGNORECASE | re.ASCII,
)
_REST = re.compile(r"[^\s()\",]*")
_PLAIN = re.compile(r"[^\s()\",*:~\\-][^\s()\",*\\]*")
TYPED_MAX = 200
_RAW_FIELDS = (
    ("raw.Parameters.", "a parameter of a cmdlet: raw.Parameters.ForwardTo"),
    ("raw.UserAgent", "the program"),
    ("raw.ClientInfoString", "the program that mail was read with"),
    ("raw.MailboxOwnerUPN", "whose mailbox it was"),
    ("raw.SiteUrl", "the site"),
    ("raw.SourceFileName", "the file"),
    ("raw.ErrorNumber", "why a sign-in failed"),
    ("raw.LogonError", "the same in a word"),
)
_WORDS: Mapping[str, Callable[[str], str]] = {
    "workload": workload_words,
    "app": application_words,
    "type": lambda text: record_type_words(int(text)),
    "usertype": lambda text: user_type_words(int(text)),
}
_FEEDS = ("Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All")


@dataclass(frozen=True, slots=True)
class Choice:
    """One text that may stand there."""

    text: str
    says: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the characters from `start` to `end` may become."""

    start: int
    end: int
    choices: Sequence[Choice] = ()


async def complete(view: View, sources: Sources, text: str, at: int) -> Completion:
    """What may stand at the character `at` of a filter; values are those of the view's records."""
    at = min(at, len(text))
    before = text[:at]
    rest = _REST.match(text, at)
    end = rest.end() if rest else at
    if found := _VALUE.search(before[-2 * TYPED_MAX :]):
        field = field_named(found["name"])
        typed = found["typed"]
        if field is None or len(typed) > TYPED_MAX:
            return Completion(at, at)
        values = await _values(view, sources, field, typed.removeprefix('"').lower())
        return Completion(at - len(typed), end, values)
    found = _NAME.search(before[-TYPED_MAX:])
    typed = found["typed"] if found else ""
    if not found and before and not before[-1].isspace() and before[-1] not in "(-":
        return Completion(at, at)
    return Completion(at - len(typed), end, _names(typed.lower()))


def _names(typed: str) -> list[Choice]:
    """The fields that begin so, and then those that have it inside."""
    every = [Choice(f"{one.name}:", one.says) for one in FIELDS]
    alias = {f"{one.name}:": other for one in FIELDS for other in one.others if other.startswith(typed)}
    if typed.startswith("raw"):
        every += [Choice(name if name.endswith(".") else f"{name}:", says) for name, says in _RAW_FIELDS]
    first = [one for one in every if one.text.lower().startswith(typed) or (typed and one.text in alias)]
    return first or [one for one in every if typed in one.text.lower()]


async def _values(view: View, sources: Sources, field: Field, typed: str) -> list[Choice]:
    if few := _FEEDS if field.name == "feed" else field.values:
        return [Choice(one) for one in few if typed in one.lower()]
    found = await list_values(view, sources, field.name, typed)
    return [replace(one, text=_written(one.text)) for one in found]


async def list_values(view: View, sources: Sources, name: str, typed: str) -> list[Choice]:
    """The values that the view's records have of a dimension, those that begin as typed first."""
    typed = typed.lower()
    if name == "result":
        return [Choice(one) for one in OUTCOMES if typed in one]
    if name not in DIMENSIONS or len(typed) > TYPED_MAX:
        return []
    if name == "tenant":
        return await _tenants(view, sources, typed)
    words = _WORDS.get(name)
    named = [one.lower() for one in named_so(name, typed)] if typed else []
    rows = await sources.ask(view, values_of(DIMENSIONS[name]), typed=typed, named=named or [""])
    return [_choice(str(value), count, words(str(value)) if words else "") for value, count in rows]


async def _tenants(view: View, sources: Sources, typed: str) -> list[Choice]:
    """The tenants whose id or name has in it what was typed: nobody knows them by their ids."""
    rows = await sources.ask(view, values_of(DIMENSIONS["tenant"]), typed="", named=[""])
    counts = {str(value): count for value, count in rows}
    names = await name_tenants(view, sources)
    return [
        _choice(one, counts.get(one, 0), names.get(one, ""))
        for one in dict.fromkeys((*counts, *names))
        if typed in one or typed in names.get(one, "").lower()
    ]


def _choice(value: str, count: int, words: str) -> Choice:
    named = f"{words}, " if words and words != value else ""
    return Choice(value, f"{named}{short(count)}")


def _written(value: str) -> str:
    """The value as a filter has it: in quotation marks where it has to be."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
