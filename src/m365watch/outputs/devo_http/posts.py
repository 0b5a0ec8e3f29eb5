"""A batch cut into posts of one tag each, none over the endpoint's limit; pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from m365watch.common.model import Batch, BlobKey, RefusedRecord
from m365watch.outputs.devo.line_format import add_fields, list_fields
from m365watch.outputs.devo.tags import Tags


class Line(NamedTuple):
    """One record and the bytes that are sent for it."""

    blob: BlobKey
    record: bytes
    sent: bytes


@dataclass(frozen=True, slots=True)
class Post:
    """What one request carries."""

    tag: str
    lines: list[Line]

    def body(self) -> bytes:
        """One record a line."""
        return b"".join([line.sent + b"\n" for line in self.lines])

    def halves(self) -> tuple[Post, Post]:
        """The same lines in two posts; neither is empty if there are two lines."""
        middle = len(self.lines) // 2
        return Post(self.tag, self.lines[:middle]), Post(self.tag, self.lines[middle:])


@dataclass(slots=True)
class Delivery:
    """What of one batch the endpoint has not taken yet."""

    number: int
    lanes: dict[str, deque[Post]] = field(default_factory=dict)
    """The posts of each tag, in the order of the records."""
    refused: list[RefusedRecord] = field(default_factory=list)


def plan_posts(batch: Batch, tags: Tags, *, adds_devo_fields: bool, body_bytes_max: int) -> Delivery:
    """The posts of `batch`, each body at most `body_bytes_max`; a record that fits into none is refused."""
    delivery = Delivery(batch.number)
    room: dict[str, int] = {}
    for part in batch.parts:
        fields = list_fields(part) if adds_devo_fields else b""
        for record, table in zip(part.records, part.tables, strict=True):
            tag = tags.tag_of(table)
            line = Line(part.blob, record, add_fields(record, fields) if fields else record)
            size = len(line.sent) + 1
            if (reason := _refusal(record, size, body_bytes_max)) is not None:
                delivery.refused.append(RefusedRecord(part.blob, record, reason))
                continue
            lane = delivery.lanes.setdefault(tag, deque())
            if not lane or room[tag] < size:
                lane.append(Post(tag, []))
                room[tag] = body_bytes_max
            lane[-1].lines.append(line)
            room[tag] -= size
    return delivery


def _refusal(record: bytes, size: int, body_bytes_max: int) -> str | None:
    if b"\n" in record:
        return "a line break inside the record"
    if size > body_bytes_max:
        return f"a line of {size:,} bytes, more than the {body_bytes_max:,} of a request"
    return None
