"""Records in the guises in which the service hands them out: again, shuffled, or damaged.

Source: api-contract 5.2 (duplicates with other key order), 4.6 (record texts), architecture 7.
"""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any

import msgspec

from m365watch.common.model import Header
from m365watch_simulator.service.scenario import Answer, Rule

_decode_header = msgspec.json.Decoder(Header).decode
_decode: Any = msgspec.json.decode


def identity(record: bytes) -> bytes | None:
    """What makes a record the same record again; None if it has no Id and counts each time.

    A text that the fast decoder refuses is read by the lenient one.
    """
    try:
        header = _decode_header(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient_identity(record)
    if header.Id is None:
        return None
    return _digest(header.Id, header.CreationTime, header.Operation, header.RecordType)


def shuffled(record: bytes, random: Random) -> bytes:
    """The same record with its outer keys in another order."""
    fields = list(_decode(record).items())
    random.shuffle(fields)
    return msgspec.json.encode(dict(fields))


def sibling(record: bytes) -> bytes:
    """Another record with the same Id: the operation differs."""
    fields = _decode(record)
    fields["Operation"] = f"{fields.get('Operation', '')}Extended"
    return msgspec.json.encode(fields)


def has_id(record: bytes) -> bool:
    """Whether the record can be told from a copy of it, and be decoded."""
    try:
        return _decode_header(record).Id is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def is_readable(element: bytes) -> bool:
    """Whether the lenient decoder makes a record of it."""
    try:
        return isinstance(json.loads(element), dict)
    except (ValueError, RecursionError):
        return False


def shape_content(elements: list[bytes], rules: list[Rule]) -> int:
    """Damage a blob's `elements` in place as `rules` say; gives how many are no JSON at all."""
    unreadable = 0
    for rule in rules:
        if rule.answer is Answer.UNREADABLE_RECORD:
            elements.append(_with_field(elements[0], b'"Size":undefined'))
            unreadable += 1
        else:
            place = len(elements) - 1 - unreadable
            elements[place] = _damaged(elements[place], rule)
    return unreadable


def _damaged(record: bytes, rule: Rule) -> bytes:
    if rule.answer is Answer.LONE_SURROGATE:
        return _with_field(record, b'"Subject":"half a pair: \\ud83d"')
    if rule.answer is Answer.NAN:
        return _with_field(record, b'"Score":NaN')
    if rule.answer is Answer.HUGE_RECORD:
        return _with_field(record, b'"Details":"' + b"x" * rule.size_bytes + b'"')
    fields = _decode(record)
    fields.pop("Id", None)
    return msgspec.json.encode(fields)


def _with_field(record: bytes, pair: bytes) -> bytes:
    return record[: record.rindex(b"}")] + b"," + pair + b"}"


def _lenient_identity(record: bytes) -> bytes | None:
    try:
        fields = json.loads(record)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("Id") is None:
        return None
    names = ("Id", "CreationTime", "Operation", "RecordType")
    return _digest(*(fields.get(name) for name in names))


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
