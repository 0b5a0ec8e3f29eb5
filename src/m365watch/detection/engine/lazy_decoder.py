"""Looks at a record's bytes: some of its top fields, decoded no further than they are needed."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypedDict

import msgspec
from msgspec import Raw, defstruct
from msgspec.structs import astuple

from m365watch.detection.engine.prefilter import Probe

Written = bytes | memoryview
"""A record as it came; one that another process has sent is seen where it was read to, for a while."""
TRIES_MIN = 256
"""So often a way of looking is tried before it is judged by what it has spared."""
GLANCED_AT_ONCE = 1_000
"""Records that are decoded in one call: for these two milliseconds no other thread has its turn."""

_ESCAPED = re.compile(r'["\\\x00-\x1f]')
"""Characters that JSON writes with a backslash before them."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What strict decoders raise; such a record is looked at in full, tolerantly."""
_ANY = msgspec.json.Decoder()


class Odds:
    """Whether a way of looking pays: how often it was tried, and how often it has spared the next one."""

    __slots__ = ("pays", "spared", "tries")

    def __init__(self) -> None:
        """Until it has been tried, it is taken to pay."""
        self.pays = True
        self.tries = 0
        self.spared = 0

    def judge(self) -> None:
        """Think again, of what has come since the last time."""
        if self.tries >= TRIES_MIN:
            self.pays = 2 * self.spared >= self.tries
            self.tries = self.spared = 0


class Glance(Odds):
    """A look at the fields that guards ask, each by itself."""

    __slots__ = ("_decode", "_places", "_probes", "_values")

    def __init__(self, probes: Sequence[Probe], rule_ids: Sequence[str]) -> None:
        """One probe for each field; the ids of the rules, place by place."""
        super().__init__()
        self._places = {rule_id: place for place, rule_id in enumerate(rule_ids)}
        self._decode, self._values = _look_of({one.field: Raw if one.is_raw else Any for one in probes})
        self._probes = tuple(probes)

    def ask(self, records: Sequence[Written]) -> list[tuple[int, Sequence[int]]]:
        """The records of which guards pass: the place of each, and those of the rules.

        Raises: one of UNREADABLE.
        """
        found: defaultdict[int, set[str]] = defaultdict(set)
        for start in range(0, len(records), GLANCED_AT_ONCE):
            some = records[start : start + GLANCED_AT_ONCE]
            # Field by field over many records: the interpreter has a say only where a value is new.
            columns = zip(*map(self._values, map(self._decode, some)), strict=True)
            for probe, values in zip(self._probes, columns, strict=True):
                answers = probe.ask(values)
                if any(answers):
                    for at, passing in enumerate(answers, start):
                        if passing:
                            found[at].update(passing)
        self.tries += len(records)
        self.spared += len(records) - len(found)
        place_of = self._places.__getitem__
        return [(at, sorted(map(place_of, passing))) for at, passing in sorted(found.items())]


TEXTS = frozenset(
    {
        "ActorInfoString",
        "ActorIpAddress",
        "AppId",
        "ApplicationId",
        "ClientAppId",
        "ClientIP",
        "ClientIPAddress",
        "ClientInfoString",
        "LogonError",
        "LogonUserSid",
        "MailboxOwnerSid",
        "MailboxOwnerUPN",
        "ObjectId",
        "Operation",
        "OrganizationName",
        "QueryText",
        "ResultStatus",
        "SearchQueryText",
        "SessionId",
        "SiteUrl",
        "SourceFileExtension",
        "SourceFileName",
        "TargetUserOrGroupName",
        "TargetUserOrGroupType",
        "UserAgent",
        "UserId",
        "UserSessionId",
        "Workload",
    }
)
"""Fields that are text in every record that was seen: one in which they are not is looked at in full.

Source: the shapes that 10,833 published records have, by record type.
"""
Piece = str | bytes | None
"""A field: one of `TEXTS` as it reads, any other as it is written; None where the record lacks it."""
Read = tuple[Any, Any, list[Piece]]
"""A record's Id and CreationTime, whatever they are, and some top fields."""


class Parts:
    """Some top fields of a record, decoded no further than they have to be, beside its id and time."""

    __slots__ = ("_decode", "_raw", "_values", "fields")

    def __init__(self, fields: Iterable[str]) -> None:
        """`fields` without Id and CreationTime."""
        self.fields = tuple(fields)
        wanted: dict[str, Any] = {"Id": Any, "CreationTime": Any}
        wanted |= {name: str | None if name in TEXTS else Raw for name in self.fields}
        self._decode, self._values = _look_of(wanted)
        self._raw = tuple(place for place, name in enumerate(self.fields) if name not in TEXTS)

    def read(self, record: Written) -> Read:
        """Id, time, and the fields. Raises: one of UNREADABLE."""
        record_id, created, *pieces = self._values(self._decode(record))
        for place in self._raw:
            raw = pieces[place]
            if raw is not None:
                pieces[place] = bytes(raw)
        return record_id, created, pieces


def read_part(piece: str | bytes) -> Any:
    """What a field says. Raises: one of UNREADABLE."""
    return piece if type(piece) is str else _ANY.decode(piece)


def _look_of(fields: Mapping[str, Any]) -> tuple[Callable[[Written], Any], Callable[[Any], tuple[Any, ...]]]:
    """What decodes these top fields of a record, each as its type, and what gives their values in order."""
    return _make_look(tuple(fields.items()))


@lru_cache(maxsize=4_096)
def _make_look(
    fields: tuple[tuple[str, Any], ...],
) -> tuple[Callable[[Written], Any], Callable[[Any], tuple[Any, ...]]]:
    """A struct of these fields; what a record lacks is None."""
    if any(_ESCAPED.search(name) for name, _ in fields):
        return _make_look_of_escaped(fields)
    numbered = {f"field_{number}": name for number, (name, _) in enumerate(fields)}
    types = dict(fields)
    look = defstruct(
        "Look",
        [(one, types[name], None) for one, name in numbered.items()],
        rename=numbered,
        gc=False,
    )
    return msgspec.json.Decoder(look).decode, astuple


def _make_look_of_escaped(
    fields: tuple[tuple[str, Any], ...],
) -> tuple[Callable[[Written], Any], Callable[[Any], tuple[Any, ...]]]:
    """The same where a name is written with escapes, which no struct can have: all top fields are cut out."""

    def values(found: dict[str, Raw]) -> tuple[Any, ...]:
        raws = [(found.get(name), kind) for name, kind in fields]
        return tuple([raw if raw is None or kind is Raw else _ANY.decode(raw) for raw, kind in raws])

    return msgspec.json.Decoder(dict[str, Raw]).decode, values


@lru_cache(maxsize=4_096)
def decoder_of(fields: frozenset[str] | None) -> msgspec.json.Decoder[Any]:
    """What decodes these top fields of a record, and steps over the others; all where it is None."""
    if fields is None:
        return _ANY
    names = dict.fromkeys(sorted(fields), Any)
    wanted = TypedDict("wanted", names, total=False)  # type: ignore[misc] # what rules name, known only now
    return msgspec.json.Decoder(wanted)


def decode_by(record: Written, decoder: msgspec.json.Decoder[Any]) -> Mapping[str, Any] | None:
    """The record's fields that `decoder` knows, or all; None where it is no JSON object that can be read."""
    try:
        decoded: Mapping[str, Any] = decoder.decode(record)
    except UNREADABLE:
        return decode_record(record)
    return decoded if isinstance(decoded, dict) else None


def decode_record(record: Written) -> Mapping[str, Any] | None:
    """The record's fields; None where it is no JSON object that can be read."""
    try:
        decoded = _ANY.decode(record)
    except UNREADABLE:
        decoded = _decode_tolerantly(record)
    return decoded if isinstance(decoded, dict) else None


def _decode_tolerantly(record: Written) -> object:
    """What is no strict JSON: half a character, bytes of no text, control characters; None otherwise."""
    try:
        return json.loads(bytes(record).decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
