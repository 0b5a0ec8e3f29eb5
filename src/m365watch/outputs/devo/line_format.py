"""What Devo's collector adds to each record; the rest of the record stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from m365watch.common.model import Batch, BatchPart, BlobKey, RefusedRecord
from m365watch.outputs.devo.tags import Tags


def list_fields(part: BatchPart) -> bytes:
    """`@devo_pulling_id` and `@devo_environment` of a part's records, as members of a JSON object.

    Empty where neither is known. Source: Devo's Collector SDK 1.8.0, whose pulling id is a string.
    """
    fields = {}
    if part.pulling_id:
        fields["@devo_pulling_id"] = str(part.pulling_id)
    if part.environment is not None:
        fields["@devo_environment"] = part.environment
    return msgspec.json.encode(fields)[1:-1]


def add_fields(record: bytes, fields: bytes) -> bytes:
    """`record` with `fields` before its closing brace, and not another byte changed.

    A record that has such a key gets a second one behind it, which is the one that counts for
    whoever reads JSON; Devo's collector overwrites it. What ends with no brace is no object and stays as
    it is.
    """
    brace = record.rfind(b"}")
    if not fields or brace < 0 or record[brace + 1 :].strip():
        return record
    comma = b"" if record[:brace].rstrip().endswith(b"{") else b","
    return b"".join((record[:brace], comma, fields, record[brace:]))


HeaderOf = Callable[[str, datetime], bytes]
"""What stands before a record of a table that was received at an instant."""

_LINE_BREAK = ord("\n")


class Source(NamedTuple):
    """What a line was made of."""

    blob: BlobKey
    record: bytes


class LineMaker:
    """Makes the lines of batches."""

    def __init__(self, header: HeaderOf, framing: Framing, *, adds_devo_fields: bool) -> None:
        """`framing` is what tells the lines apart on the way that they go."""
        self._header = header
        self._framing = framing
        self._adds_devo_fields = adds_devo_fields

    def lines(
        self, batch: Batch, *, refused: list[RefusedRecord], sources: list[Source] | None = None
    ) -> Iterator[bytes]:
        """The batch's lines in order; `refused` grows by the records that cannot be one.

        `sources`, where it is given, grows by what each line is made of.
        """
        frame, bytes_max = self._framing.line, self._framing.line_bytes_max
        for part in batch.parts:
            headers: dict[str, bytes] = {}
            fields = list_fields(part) if self._adds_devo_fields else b""
            for record, table in zip(part.records, part.tables, strict=True):
                header = headers.get(table)
                if header is None:
                    header = headers[table] = self._header(table, part.received_at)
                sent = frame(header, add_fields(record, fields) if fields else record)
                if len(sent) > bytes_max or _LINE_BREAK in record:
                    reason = _reason(record, len(sent), bytes_max)
                    refused.append(RefusedRecord(part.blob, record, reason))
                    continue
                if sources is not None:
                    sources.append(Source(part.blob, record))
                yield sent

    def line(self, tag: str, body: bytes, *, at: datetime) -> bytes:
        """One line that is no record; `body` has no line break, and `tag` stands where a table would."""
        return self._framing.line(self._header(tag, at), body)


class Framing:
    """Tells one line from the next: by a newline, by its length, or by nothing (one line a datagram)."""

    def __init__(self, kind: str, *, line_bytes_max: int) -> None:
        """`kind` is newline, octet-counting or datagram; `line_bytes_max` counts what goes on the wire."""
        self._counts = kind == "octet-counting"
        self._end = b"\n" if kind == "newline" else b""
        self.line_bytes_max = line_bytes_max

    def line(self, header: bytes, record: bytes) -> bytes:
        """What goes on the wire for `record`."""
        if self._counts:
            return b"%d %b%b" % (len(header) + len(record), header, record)
        return b"".join((header, record, self._end))


def _reason(record: bytes, line_bytes: int, line_bytes_max: int) -> str:
    """Why `record` cannot go out as a line."""
    if _LINE_BREAK in record:
        return "a line break inside the record"
    return f"a line of {line_bytes:,} bytes, more than the {line_bytes_max:,} that are sent"


CHUNK_BYTES = 128 * 1024
"""About how many bytes of lines are sent, and sent again, as one."""


def devo_header(tags: Tags, *, host: str) -> HeaderOf:
    """Headers such as `<14>2026-11-17 09:30:00.000 host cloud.office365.management.exchange: `.

    Blanks of `host` would end it, so they are replaced; a table that Devo lacks becomes the fallback tag.
    """
    host = "".join(letter if letter.isprintable() and letter != " " else "_" for letter in host)

    def header(table: str, at: datetime) -> bytes:
        return f"<14>{_date(at)} {host} {tags.tag_of(table)}: ".encode()

    return header


def join_chunks(lines: Iterator[bytes], *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The lines put together to chunks of at least `chunk_bytes`, but for the last."""
    gathered: list[bytes] = []
    size_bytes = 0
    for line in lines:
        gathered.append(line)
        size_bytes += len(line)
        if size_bytes >= chunk_bytes:
            yield b"".join(gathered)
            gathered, size_bytes = [], 0
    if gathered:
        yield b"".join(gathered)


def _date(at: datetime) -> str:
    """2026-11-17 09:30:00.000, in UTC."""
    return at.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")[:23]
