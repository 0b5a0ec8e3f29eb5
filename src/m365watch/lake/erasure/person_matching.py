"""Which records are one person's: by the fields that name who acted and whom it was done to, or anywhere.

A name is found as a whole word, without regard to case: anna@contoso.example is neither in
joanna@contoso.example nor in anna@contoso.example.org, but it is in i:0h.f|membership|anna@contoso.example.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m365watch.config.models.values import GUID
from m365watch.lake.delta.table_files import ROWS_PER_CHUNK, in_columns
from m365watch.lake.erasure.erasure_journal import Asked
from m365watch.lake.schema import ALERT_TABLE, AUDIT_TABLE, NOTICE_TABLE, TableShape

NAMES_MAX = 20
NAME_LENGTH_MIN = 3
NAME_LENGTH_MAX = 320
"""The longest address that there is."""
PERSON_FIELDS = frozenset(
    {
        # Who acted.
        "UserId",
        "UserKey",
        "UserSid",
        "Username",
        "UserDisplayName",
        "UPN",
        "Upn",
        "Actor",
        "ActorUserId",
        "LogonUserSid",
        "LogonUserDisplayName",
        # Whom it was done to, or whose thing it was done to.
        "Target",
        "TargetUserId",
        "TargetObjectId",
        "TargetUserOrGroupName",
        "ObjectId",
        "UserSharedWith",
        "Members",
        "FileOwner",
        "MailboxOwnerUPN",
        "MailboxOwnerSid",
        "MailboxGuid",
        "DestMailboxOwnerUPN",
        "DestMailboxOwnerSid",
        # Whom one of Microsoft's alerts is about (`actor`).
        "AlertEntityId",
        "Data",
        # In whose name.
        "SendAsUserSmtp",
        "SendAsUserMailboxGuid",
        "SendOnBehalfOfUserSmtp",
        "SendOnBehalfOfUserMailboxGuid",
    }
)
"""Source: the schema of the Management Activity API, the fields described as a user's name or id."""
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_NEED_ESCAPES = frozenset('/"\\')
"""Characters that JSON may write with a backslash."""


class Person:
    """One person, under all the names given for them."""

    def __init__(self, names: Iterable[str], *, anywhere: bool = False) -> None:
        """With `anywhere`, a name counts wherever it stands in a record; else in `PERSON_FIELDS` only."""
        self.names = tuple(sorted({name.strip().casefold() for name in names}))
        self.anywhere = anywhere
        self._words = re.compile("|".join(map(_word, self.names)))
        needs_escapes = any(_NEED_ESCAPES & set(name) or not name.isascii() for name in self.names)
        self._escape = "\\" if needs_escapes else "\\u"
        """Where this stands, a name may be written otherwise."""

    def marks(self, records: pa.ChunkedArray) -> pa.BooleanArray:
        """For each record of a text column, whether it is the person's."""
        maybe = self._maybe(records)
        found = [bool(likely) and self.is_in(raw) for likely, raw in _pairs(maybe, records)]
        return pa.array(found, pa.bool_())

    def _maybe(self, records: pa.ChunkedArray) -> pa.ChunkedArray:
        """A quick look that misses none: the name as it is, or something escaped that may be it."""
        found = None
        for name in self.names:
            plain = pc.match_substring(records, name, ignore_case=True)
            found = plain if found is None else pc.or_(found, plain)
        return pc.or_(found, pc.match_substring(records, self._escape))

    def is_in(self, record: str | bytes) -> bool:
        """Whether the record is the person's; one that is no JSON is, if it has a name anywhere."""
        try:
            read = msgspec.json.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.is_mentioned(record)
        if isinstance(read, dict) and not self.anywhere:
            read = [value for name, value in read.items() if name in PERSON_FIELDS]
        return any(self._words.search(text.casefold()) for text in _texts(read))

    def is_mentioned(self, piece: str | bytes) -> bool:
        """Whether a name stands anywhere in text of whatever kind."""
        if isinstance(piece, bytes):
            if piece.isascii() and not self._may_be_in(piece):
                return False
            text = piece.decode("utf-8", "replace")
        else:
            text = piece
        plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        return self._words.search(plain.replace("\\/", "/").replace("\\\\", "\\").casefold()) is not None

    def _may_be_in(self, piece: bytes) -> bool:
        """A quick look at a piece of ASCII, which misses no name."""
        lower = piece.lower()
        return self._escape.encode() in piece or any(name.encode() in lower for name in self.names)


def _word(name: str) -> str:
    """A name as a whole word; ids come after an underscore too: User_9f2c..."""
    before = r"(?<![^\W_])(?<![.%+@-])" if GUID.fullmatch(name) else r"(?<![\w.%+@-])(?<!\w')"
    return rf"{before}{re.escape(name)}(?![\w@-])(?!\.\w)"


def _pairs(maybe: pa.ChunkedArray, records: pa.ChunkedArray) -> Iterator[tuple[bool, str]]:
    """Each record's likelihood and text; the text only where it is likely, for it costs a copy."""
    for place, likely in enumerate(maybe.to_pylist()):
        yield likely, records[place].as_py() if likely else ""


def _texts(value: object) -> Iterator[str]:
    """Every text in a value, keys included."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one


def name_mistake(names: Sequence[str]) -> str | None:
    """What is wrong with the names given for a person; None for nothing."""
    if not 0 < len(names) <= NAMES_MAX:
        return f"give 1 to {NAMES_MAX} names of one person"
    for name in names:
        if not NAME_LENGTH_MIN <= len(name.strip()) <= NAME_LENGTH_MAX:
            return f"a name has {NAME_LENGTH_MIN} to {NAME_LENGTH_MAX} characters"
    return None


_WORDS = ("entities", "grouped_by", "explanation", "next_steps", "notes", "reason")
"""Columns of an alert that repeat values of records, or what somebody wrote of it."""
_COLUMNS = {
    AUDIT_TABLE.name: ("created_at", "received_at", "devo_table", "raw"),
    NOTICE_TABLE.name: ("time", "msg"),
    ALERT_TABLE.name: ("first_seen_at", "last_seen_at", *_WORDS),
}
_RECEIVED = {
    AUDIT_TABLE.name: "received_at",
    NOTICE_TABLE.name: "time",
    ALERT_TABLE.name: "first_seen_at",
}


def tables_to_search(*, anywhere: bool) -> tuple[TableShape, ...]:
    """Where a person may stand; notices have no fields that name one."""
    return (AUDIT_TABLE, ALERT_TABLE, NOTICE_TABLE) if anywhere else (AUDIT_TABLE, ALERT_TABLE)


def search_chunks(path: Path, shape: TableShape, *, besides: Iterable[str] = ()) -> Iterator[pa.Table]:
    """The columns that a search needs, and those `besides`, in chunks of at most `ROWS_PER_CHUNK` rows."""
    names = [*_COLUMNS[shape.name], *besides]
    schema = pa.schema([shape.file_schema.field(name) for name in names])
    with pq.ParquetFile(path, memory_map=True) as source:
        for rows in source.iter_batches(ROWS_PER_CHUNK, columns=names, use_threads=False):
            yield in_columns(rows, schema)


def received(rows: pa.Table, shape: TableShape) -> pa.ChunkedArray:
    """Since when each row can have been there."""
    return rows[_RECEIVED[shape.name]]


def person_marks(rows: pa.Table, shape: TableShape, person: Person, asked: Asked) -> pa.BooleanArray:
    """Which rows are to go."""
    if shape is AUDIT_TABLE:
        marks = person.marks(rows["raw"])
        first = last = pc.coalesce(rows["created_at"], rows["received_at"])
    else:
        texts = _texts_of(rows, shape)
        marks = pa.array([person.is_mentioned(text) for text in texts], pa.bool_())
        names = ("first_seen_at", "last_seen_at") if shape is ALERT_TABLE else ("time", "time")
        first, last = (rows[name] for name in names)
    if asked.start is not None:
        marks = pc.and_(marks, pc.greater_equal(last, pa.scalar(asked.start, last.type)))
    if asked.end is not None:
        marks = pc.and_(marks, pc.less(first, pa.scalar(asked.end, first.type)))
    return pc.fill_null(marks, fill_value=False)


def _texts_of(rows: pa.Table, shape: TableShape) -> Iterator[str]:
    """All that a row says; one that names the person in any way is to go."""
    names = _WORDS if shape is ALERT_TABLE else ("msg",)
    for row in rows.select(names).to_pylist():
        yield "\n".join(_flat(list(row.values())))


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _flat(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from _flat(one)


def tables_of(rows: pa.Table, marks: pa.BooleanArray, shape: TableShape) -> Iterator[tuple[str, int]]:
    """How many of the marked rows are of each of Devo's tables."""
    if shape.devo_table:
        count = marks.true_count if isinstance(marks, pa.BooleanArray) else pc.sum(marks).as_py() or 0
        if count:
            yield shape.devo_table, count
        return
    for one in rows["devo_table"].filter(marks).value_counts().to_pylist():
        yield one["values"] or "", one["counts"]
