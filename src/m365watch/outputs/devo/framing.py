r"""The line that Devo reads: `<14>{date} {host} {tag}: {message}\n`.

Source: devo-sdk 7.0.2, whose facility is user (1) and severity informational (6); the date's form is that
of Devo's Collector SDK 1.8.0. The date becomes Devo's eventdate: when the record was collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from m365watch.model import Batch, BatchPart, RefusedRecord
from m365watch.outputs.devo.fields import add_fields, list_fields
from m365watch.outputs.devo.tags import Tags

CHUNK_BYTES = 128 * 1024
"""About how many bytes of lines are sent, and sent again, as one."""

_LINE_BREAK = ord("\n")


class Framer:
    """Turns batches into lines."""

    def __init__(self, tags: Tags, *, host: str, line_bytes_max: int, adds_devo_fields: bool) -> None:
        """`host` stands in every line; its blanks would end it, so they are replaced."""
        self._tags = tags
        self._host = "".join(letter if letter.isprintable() and letter != " " else "_" for letter in host)
        self._line_bytes_max = line_bytes_max
        self._adds_devo_fields = adds_devo_fields

    def list_lines(self, batch: Batch, *, refused: list[RefusedRecord]) -> Iterator[bytes]:
        """The batch's lines in order, each with its end; `refused` grows by the records that are none."""
        for part in batch.parts:
            yield from self._list_lines_of_part(part, refused)

    def make_line(self, tag: str, at: datetime, body: bytes) -> bytes:
        """One line of what the collector says itself; `body` has no line break."""
        return b"".join((self._prefix(tag, _date(at)), body, b"\n"))

    def _list_lines_of_part(self, part: BatchPart, refused: list[RefusedRecord]) -> Iterator[bytes]:
        fields = list_fields(part) if self._adds_devo_fields else b""
        date = _date(part.received_at)
        prefixes: dict[str, bytes] = {}
        bytes_max = self._line_bytes_max
        for record, table in zip(part.records, part.tables, strict=True):
            prefix = prefixes.get(table)
            if prefix is None:
                prefix = prefixes[table] = self._prefix(self._tags.tag_of(table), date)
            line = b"".join((prefix, add_fields(record, fields) if fields else record, b"\n"))
            if len(line) > bytes_max or _LINE_BREAK in record:
                refused.append(RefusedRecord(part.blob, record, self._reason(record, len(line))))
            else:
                yield line

    def _prefix(self, tag: str, date: str) -> bytes:
        return f"<14>{date} {self._host} {tag}: ".encode()

    def _reason(self, record: bytes, line_bytes: int) -> str:
        if _LINE_BREAK in record:
            return "a line break inside the record"
        return f"a line of {line_bytes:,} bytes, more than the {self._line_bytes_max:,} that are sent"


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
