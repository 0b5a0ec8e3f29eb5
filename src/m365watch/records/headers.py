"""The dozen fields of a record that are decoded; the rest of it stays bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from m365watch.common.model import Header, WideHeader

_BRIEF_HEADERS = msgspec.json.Decoder(list[Header])
_WIDE_HEADERS = msgspec.json.Decoder(list[WideHeader])
_FIELDS = {False: Header.__struct_fields__, True: WideHeader.__struct_fields__}
_ANY = msgspec.json.Decoder()


def read_headers(body: bytes, records: list[bytes], *, wide: bool) -> list[Header] | None:
    """The header of each record, in order; None where an element is not an object.

    One pass over the whole array where every field has its documented type; otherwise
    record by record, a field of another type read as text or left out, never refused.
    """
    try:
        return list(_WIDE_HEADERS.decode(body)) if wide else _BRIEF_HEADERS.decode(body)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        pass
    except msgspec.DecodeError:
        return None
    headers: list[Header] = []
    for record in records:
        try:
            value = _ANY.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        headers.append(header_of_object(value, wide=wide))
    return headers


def object_of(raw: str | bytes) -> dict[str, Any]:
    """A record as its text has it; nothing where that is no object."""
    try:
        found = _ANY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def headers_of(records: Sequence[bytes]) -> list[Header]:
    """The header of each; an empty one for what is no record."""
    whole = read_headers(b"[" + b",".join(records) + b"]", list(records), wide=False)
    if whole is not None:
        return whole
    return [(read_headers(b"[" + one + b"]", [one], wide=False) or [Header()])[0] for one in records]


def header_of_object(value: dict[str, Any], *, wide: bool) -> Header:
    """The header of a record that is decoded already; its text can always be encoded."""
    fields = {name: _scalar(value.get(name)) for name in _FIELDS[wide]}
    for name in ("RecordType", "UserType"):
        number = value.get(name)
        if name in fields and isinstance(number, int) and not isinstance(number, bool):
            fields[name] = number
    return (WideHeader if wide else Header)(**fields)  # type: ignore[arg-type]


def _scalar(value: object) -> str | int | None:
    """Text as it is (unpaired surrogates replaced), a number as text, anything else as absent."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(value)
