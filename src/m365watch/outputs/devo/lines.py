"""Lines of a header and a record's own bytes, and how one line is told from the next; pure.

Source: RFC 6587 section 3.4 (framing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from m365watch.common.model import Batch, BlobKey, RefusedRecord
from m365watch.outputs.devo.line_format import add_fields, list_fields

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
