"""Which records of a batch become lines of which folder's file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from m365watch.common.model import Batch, RefusedRecord
from m365watch.outputs.files.file_layout import folder_of

_LINE_BREAK = ord("\n")


def sort_by_folder(batch: Batch) -> dict[str, list[bytes]]:
    """The batch's records by folder, in order; a part of one table is taken whole."""
    by_folder: dict[str, list[bytes]] = {}
    for part in batch.parts:
        if not part.records:
            continue
        first = part.tables[0]
        if part.tables.count(first) == len(part.tables):
            by_folder.setdefault(folder_of(first), []).extend(part.records)
            continue
        for folder, record in zip(map(folder_of, part.tables), part.records, strict=True):
            by_folder.setdefault(folder, []).append(record)
    return by_folder


def is_line_each(records: Sequence[bytes]) -> bool:
    """Whether no record has a line break inside; a view never has one."""
    if set(map(type, records)) == {msgspec.Raw}:
        return True
    return not any(map(_has_line_break, records))


def list_lines(records: Sequence[bytes]) -> list[bytes]:
    """The records without a line break inside."""
    return [record for record in records if not _has_line_break(record)]


def list_refused(batch: Batch) -> list[RefusedRecord]:
    """The batch's records that would not be one line."""
    return [
        RefusedRecord(part.blob, record, "a line break inside the record")
        for part in batch.parts
        for record in part.records
        if _has_line_break(record)
    ]


def _has_line_break(record: bytes) -> bool:
    # A number is found faster than a byte string.
    return type(record) is not msgspec.Raw and _LINE_BREAK in record
