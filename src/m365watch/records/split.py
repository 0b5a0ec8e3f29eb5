"""One blob's bytes cut into its records, each verbatim.

The quick way is one pass of a fast decoder that keeps every record as raw bytes. What such
decoders refuse (a lone surrogate escape, NaN, a byte order mark, invalid UTF-8) goes the
tolerant way, about ten times slower, and still comes out verbatim. What no decoder
understands is returned as a `Fragment`, so that its neighbours go on and nothing vanishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from m365watch.common.model import Header
from m365watch.records.headers import header_of_object, read_headers
from m365watch.records.json_scanner import TOLERANT, after_space


class Views(list[bytes]):
    """All records of one blob, each a view (`msgspec.Raw`), and the JSON array that they lie in.

    A view has a length, a buffer and no line break inside, and nothing else of what bytes have.
    """

    __slots__ = ("body",)

    def __init__(self, views: Iterable[bytes], body: bytes) -> None:
        """`body` has the views as its elements, in their order."""
        super().__init__(views)
        self.body = body


def body_of(records: list[bytes]) -> bytes:
    """A JSON array of `records`: the blob's own body, if they are all that it has."""
    return records.body if isinstance(records, Views) else b"[" + b",".join(records) + b"]"


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_RAW_RECORDS = msgspec.json.Decoder(list[msgspec.Raw])
_MANDATORY = {"RecordType", "CreationTime", "Operation"}
"""Fields that every record has; by them a record is known where no array says what is one."""
_NO_ARRAY = "not a JSON array"
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


@dataclass(slots=True)
class Fragment:
    """Bytes of a blob that are not a record, and why; they go to quarantine."""

    body: bytes
    reason: str


@dataclass(slots=True)
class SplitBlob:
    """A blob's records and their headers, place by place, and what is not a record."""

    records: list[bytes]
    headers: list[Header]
    fragments: list[Fragment] = field(default_factory=list)
    complete: bool = True
    """False where the array has no proper end: the body was cut short or is no array at all."""
    served_headers: list[Header] | None = None
    """The headers before masking, of which identities are made; None where nothing was masked."""
    overruns: int = 0
    """Values that were masked whole because a pattern took too long over them."""


def split_blob(body: bytes, *, wide: bool, views: bool = False) -> SplitBlob:
    """The records of `body`, a JSON array as the service sends it, and their headers.

    Every record is the body's own bytes; only line breaks between tokens (a pretty-printed
    blob) become spaces, so that a record is one line. Never raises for what the body says.

    With `views` they may be `Views` into it; what has line breaks is copied all the same.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        raws = _RAW_RECORDS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _split_tolerantly(body, wide=wide)
    if b"\n" in body or b"\r" in body:
        # The decoder refuses a line break inside a string, so these stand between tokens.
        records = [bytes(raw).translate(_LINE_BREAKS) for raw in raws]
    else:
        records = Views(raws, body) if views else list(map(bytes, raws))
    headers = read_headers(body, records, wide=wide)
    if headers is None:
        return _split_tolerantly(body, wide=wide)
    return SplitBlob(records, headers)


def _split_tolerantly(body: bytes, *, wide: bool) -> SplitBlob:
    """The slow way; bytes that are no UTF-8 travel through as lone surrogates and back."""
    text = body.decode("utf-8", "surrogateescape")
    found = SplitBlob([], [])
    at = end = after_space(text, 0)
    in_array, is_broken = text.startswith("[", at), False
    at = after_space(text, at + in_array)
    while at < len(text) and text[at] != "]":
        fragments = len(found.fragments)
        end = at = _take_element(text, at, found, in_array=in_array, wide=wide)
        is_broken = len(found.fragments) > fragments
        at = after_space(text, at)
        if text.startswith(",", at):
            at = after_space(text, at + 1)
    found.complete = in_array and at < len(text)
    if in_array and not found.complete and not is_broken:
        # Cut between two records: nothing but perhaps a comma is left to show that some are missing.
        found.fragments.append(Fragment(_bytes_of(text[end:]), "the body ends before its array does"))
    rest = text[at + 1 :].strip(" \t\r\n\0")
    if rest:
        found.fragments.append(Fragment(_bytes_of(rest), "text after the end of the array"))
    if not (found.complete or found.records or found.fragments):
        found.fragments.append(Fragment(body, _NO_ARRAY))
    return found


def _take_element(text: str, at: int, found: SplitBlob, *, in_array: bool, wide: bool) -> int:
    """Put the element at `at` into `found`; the place after it comes back, always further on.

    Outside an array an object is a record only if it has a record's mandatory fields.
    """
    try:
        value, end = TOLERANT.raw_decode(text, at)
    except (ValueError, RecursionError):
        end = _next_record(text, at + 1)
        reason = "not valid JSON" if in_array else _NO_ARRAY
        found.fragments.append(Fragment(_bytes_of(text[at:end].rstrip(", \t\r\n")), reason))
        return end
    source = text[at:end]
    if not isinstance(value, dict) or not (in_array or value.keys() >= _MANDATORY):
        reason = "not a JSON object" if in_array else _NO_ARRAY
        found.fragments.append(Fragment(_bytes_of(source), reason))
        return end
    record = _one_line(source)
    if record is None:
        found.fragments.append(Fragment(_bytes_of(source), "a raw line break inside a string"))
        return end
    found.records.append(record)
    found.headers.append(header_of_object(value, wide=wide))
    return end


def _one_line(source: str) -> bytes | None:
    """The record on one line; None where a line break stands inside a string."""
    if "\n" in source or "\r" in source:
        flat = source.replace("\r", " ").replace("\n", " ")
        try:
            if json.loads(flat, strict=False, parse_constant=str) != json.loads(
                source, strict=False, parse_constant=str
            ):
                return None
        except (ValueError, RecursionError):  # pragma: no cover - the element was decoded just now
            return None
        return _bytes_of(flat)
    return _bytes_of(source)


def _next_record(text: str, at: int) -> int:
    """Where the next thing that looks like a record starts, or the end of the array or text.

    A nested object can look like the start of an element, so only an object that carries a
    record's mandatory fields counts as one.
    """
    while (comma := text.find(",", at)) >= 0:
        start = after_space(text, comma + 1)
        at = comma + 1
        if not text.startswith("{", start):
            continue
        try:
            value, _ = TOLERANT.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and value.keys() >= _MANDATORY:
            return start
    closing = text.rstrip(" \t\r\n\0")
    return len(closing) - 1 if closing.endswith("]") else len(text)


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
