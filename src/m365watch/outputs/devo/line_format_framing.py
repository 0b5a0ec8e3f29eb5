r"""The line that Devo reads: `<14>{date} {host} {tag}: {message}\n`.

Source: devo-sdk 7.0.2, whose facility is user (1) and severity informational (6); the date's form is that
of Devo's Collector SDK 1.8.0. The date becomes Devo's eventdate: when the record was collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from m365watch.outputs.devo.lines import HeaderOf
from m365watch.outputs.devo.tags import Tags

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
