"""Looks at a record's bytes: some of its top fields, decoded no further than they are needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypedDict

import msgspec
from msgspec import Raw, defstruct

from m365watch.detect.guards import Probe
from m365watch.detect.remembering import Memory, Recent

LIKENESS_BYTES_MAX = 4_096
"""Deciding fields that are longer are not remembered."""
LIKENESS_WEIGHT = 8
"""What a remembered record weighs, beside a remembered value."""
TRIES_MIN = 256
"""So often a way of looking is tried before it is judged by what it has spared."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What strict decoders raise; such a record is looked at in full, tolerantly."""
_ANY = msgspec.json.Decoder()
_write = msgspec.json.Encoder().encode


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

    __slots__ = ("_asks", "_decode", "_values")

    def __init__(self, probes: Sequence[Probe]) -> None:
        """One probe for each field."""
        super().__init__()
        self._decode, self._values = _look_of({one.field: Raw if one.is_raw else Any for one in probes})
        self._asks = tuple((one.remembered, one.ask_raw if one.is_raw else one.ask_plain) for one in probes)

    def ask(self, record: bytes) -> tuple[int, ...]:
        """The places of the rules whose guards pass. Raises: one of UNREADABLE."""
        found: tuple[int, ...] = ()
        for value, (remembered, ask) in zip(self._values(self._decode(record)), self._asks, strict=True):
            if value is not None:
                passing = remembered.get(value) if type(value) is str else None
                if passing is None:
                    passing = ask(value)
                if passing:
                    found += passing
        return found


class Likeness(Odds):
    """A look at the fields that decide, as bytes, and what came of such bytes before."""

    __slots__ = ("_decode", "_fulfilled")

    def __init__(self, fields: frozenset[str], memory: Memory) -> None:
        """`fields` decide which rules a record of one kind fulfils, and its tenant besides."""
        super().__init__()
        self._decode = msgspec.json.Decoder(_struct_of(dict.fromkeys(sorted(fields), Raw))).decode
        self._fulfilled: Recent[tuple[int, ...]] = Recent(memory, LIKENESS_WEIGHT)

    def key_of(self, record: bytes, tenant: str) -> tuple[str, bytes]:
        """What records that fulfil the same rules have in common. Raises: one of UNREADABLE."""
        return tenant, _write(self._decode(record))

    def known(self, key: tuple[str, bytes]) -> tuple[int, ...] | None:
        """The places of the rules that such a record fulfils; None where none came before."""
        return self._fulfilled.get(key)

    def learn(self, key: tuple[str, bytes], fulfilled: tuple[int, ...]) -> None:
        """Remember what such a record fulfils."""
        if len(key[1]) <= LIKENESS_BYTES_MAX:
            self._fulfilled.put(key, fulfilled)


def likeness_of(fields: frozenset[str], memory: Memory) -> Likeness | None:
    """None where a record is like no other: its time or its id decides."""
    return None if fields & {"Id", "CreationTime"} or not fields else Likeness(fields, memory)


class Sketch:
    """A look at all that matches repeat of a record, but for its id and its time."""

    __slots__ = ("_decode",)

    def __init__(self, fields: frozenset[str]) -> None:
        """`fields` without Id and CreationTime."""
        wanted: dict[str, Any] = {"Id": Any, "CreationTime": Any}
        self._decode = msgspec.json.Decoder(_struct_of(wanted | dict.fromkeys(sorted(fields), Raw))).decode

    def draw(self, record: bytes) -> tuple[Any, Any, bytes]:
        """The record's id and time, and the bytes of the other fields. Raises: one of UNREADABLE."""
        found = self._decode(record)
        record_id, created = found.field_0, found.field_1
        found.field_0 = found.field_1 = None
        return record_id, created, _write(found)


def _look_of(fields: Mapping[str, Any]) -> tuple[Callable[[bytes], Any], Callable[[Any], tuple[Any, ...]]]:
    """What decodes these top fields of a record, each as its type, and what gives their values in order."""
    look = _struct_of(fields)
    # One name alone would give its value, and no tuple of it.
    values = attrgetter(*look.__struct_fields__) if len(fields) > 1 else lambda found: (found.field_0,)
    return msgspec.json.Decoder(look).decode, values


def _struct_of(fields: Mapping[str, Any]) -> Any:
    """A struct of these top fields; what a record lacks is None, and is left out when it is written."""
    numbered = {f"field_{number}": name for number, name in enumerate(fields)}
    return defstruct(
        "Look",
        [(one, fields[name], None) for one, name in numbered.items()],
        rename=numbered,
        omit_defaults=True,
        gc=False,
    )


@lru_cache(maxsize=4_096)
def decoder_of(fields: frozenset[str] | None) -> msgspec.json.Decoder[Any]:
    """What decodes these top fields of a record, and steps over the others; all where it is None."""
    if fields is None:
        return _ANY
    names = dict.fromkeys(sorted(fields), Any)
    wanted = TypedDict("wanted", names, total=False)  # type: ignore[misc] # what rules name, known only now
    return msgspec.json.Decoder(wanted)


def decode_by(record: bytes, decoder: msgspec.json.Decoder[Any]) -> Mapping[str, Any] | None:
    """The record's fields that `decoder` knows, or all; None where it is no JSON object that can be read."""
    try:
        decoded: Mapping[str, Any] = decoder.decode(record)
    except UNREADABLE:
        return decode_record(record)
    return decoded if isinstance(decoded, dict) else None


def decode_record(record: bytes) -> Mapping[str, Any] | None:
    """The record's fields; None where it is no JSON object that can be read."""
    try:
        decoded = _ANY.decode(record)
    except UNREADABLE:
        decoded = _decode_tolerantly(record)
    return decoded if isinstance(decoded, dict) else None


def _decode_tolerantly(record: bytes) -> object:
    """What is no strict JSON: half a character, bytes of no text, control characters; None otherwise."""
    try:
        return json.loads(record.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
