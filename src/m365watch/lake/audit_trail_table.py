"""Table `board_trail`: who has seen and done what on the board, each line exactly once.

Like `collectors_out` it is a table of its own with commits of its own: whatever happens here, `audit` neither
sees nor counts it. A commit carries the number of its last line, so that none is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote_plus

import duckdb
import msgspec
import pyarrow as pa

from m365watch.common.errors import LakeUnusable
from m365watch.common.timestamps import instant_of_us, us_of
from m365watch.lake.delta.missing_commits import BEFORE
from m365watch.lake.delta.table_files import list_files, open_table
from m365watch.lake.schema import OUTBOX_FILE, PARTITION, TRAIL_TABLE
from m365watch.lake.writer.parquet_files import FRESH, write_part
from m365watch.lake.writer.table_writer import OpenTable, file_prefix, plain_reason
from m365watch.storage.database import FAILURES, read_rows


class Deed(msgspec.Struct, frozen=True):
    """One line of the trail."""

    number: int
    """The time in microseconds, or the last number and 1 if that is more."""
    time: datetime
    name: str
    role: str
    address: str
    session: str
    action: str
    status: int
    path: str
    query: str
    says: str

    @property
    def day(self) -> date:
        """The day that it belongs to."""
        return self.time.date()


class TrailWriter:
    """Table `board_trail` of a lake, open for appending by one process."""

    def __init__(self, directory: Path, *, app_id: str) -> None:
        """Open the table below the lake's `directory`; make it if it is not there.

        Raises: ForeignTable; any of WRITE_FAILURES.
        """
        self._app_id = app_id
        self._name = file_prefix(app_id)
        self._table = OpenTable(directory, TRAIL_TABLE)

    @property
    def last_number(self) -> int:
        """The number of the last line that is there; 0 for none."""
        return self._table.number_of(self._app_id)

    def append(self, deeds: Sequence[Deed]) -> None:
        """Make the lines durable as one commit; those that are in already are left alone.

        Raises: any of WRITE_FAILURES: whether they got in, a new TrailWriter will tell.
        """
        before = self.last_number
        fresh = sorted((one for one in deeds if one.number > before), key=lambda one: one.day)
        if not fresh:
            return
        number = max(one.number for one in fresh)
        parts = [
            write_part(
                self._table.store,
                TRAIL_TABLE,
                day=day,
                name=f"{self._name}-{number:012}",
                chunks=[_tabulated(list(some))],
                compression=FRESH,
            )
            for day, some in groupby(fresh, lambda one: one.day)
        ]
        self._table.commit(parts, numbers={self._app_id: number, self._app_id + BEFORE: before})


def _tabulated(deeds: Sequence[Deed]) -> pa.Table:
    rows = [{PARTITION: one.day} | msgspec.structs.asdict(one) for one in deeds]
    return pa.Table.from_pylist(rows, schema=TRAIL_TABLE.schema)


_TEXTS = tuple(name for name in Deed.__struct_fields__ if name != "time")


@dataclass(frozen=True, slots=True)
class DeedsAsked:
    """Which lines are meant; what is empty does not narrow it."""

    start: datetime
    end: datetime
    names: tuple[str, ...] = ()
    """In lower case."""
    addresses: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    most: int = 100
    skipped: int = 0
    """So many of the newest are left out: they are on the pages before."""

    def holds(self, deed: Deed) -> bool:
        """Whether the line is meant."""
        return (
            self.start <= deed.time < self.end
            and (not self.names or deed.name.lower() in self.names)
            and (not self.addresses or deed.address.lower() in self.addresses)
            and (not self.actions or deed.action in self.actions)
        )


def list_deeds(lake: Path | None, state_directory: Path, asked: DeedsAsked) -> list[Deed]:
    """The lines, the newest first; one more than `most` where there are more.

    Raises: LakeUnusable.
    """
    try:
        waits = deeds_of(waiting_lines(state_directory / OUTBOX_FILE))
    except FAILURES:
        waits = iter(())  # the board says why none can be noted
    waiting = {_key(one): one for one in waits if asked.holds(one)}
    kept = _in_lake(lake, asked, besides=len(waiting)) if lake is not None else []
    found = {_key(one): one for one in kept} | waiting
    ordered = sorted(found.values(), key=lambda one: (one.time, one.number), reverse=True)
    return ordered[asked.skipped : asked.skipped + asked.most + 1]


def count_deeds(lake: Path, is_meant: Callable[[bytes], bool]) -> int:
    """How many lines of the lake have what is meant in their texts. Raises: LakeUnusable."""
    table = open_table(lake, TRAIL_TABLE)
    if table is None:
        return 0
    found = 0
    for batch in table.to_pyarrow_dataset().to_batches(columns=["name", "path", "query", "says"]):
        found += sum(is_meant(_text_of(row).encode()) for row in batch.to_pylist())
    return found


def _text_of(row: Mapping[str, str | None]) -> str:
    """All that a line says, its address as people read it."""
    return "\n".join([unquote_plus(row["query"] or ""), *(value or "" for value in row.values())])


def _key(deed: Deed) -> tuple[datetime, int, str, str]:
    """A line may be in the lake and still wait."""
    return deed.time, deed.number, deed.session, deed.path


def waiting_lines(outbox: Path) -> list[tuple[int, bytes]]:
    """The lines that wait in the file, each with its number, in their order. Raises: DatabaseError."""
    return read_rows(outbox, "SELECT number, line FROM trail_outbox ORDER BY number")


def deeds_of(lines: Iterable[tuple[int, bytes]]) -> Iterator[Deed]:
    """The lines under their numbers, but for those that a bad disk has garbled."""
    for number, line in lines:
        try:
            yield msgspec.structs.replace(msgspec.json.decode(line, type=Deed), number=number)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue


def _in_lake(lake: Path, asked: DeedsAsked, *, besides: int) -> list[Deed]:
    table = open_table(lake, TRAIL_TABLE)
    if table is None:
        return []
    files = [
        str(lake / TRAIL_TABLE.name / one.path)
        for one in list_files(table)
        if asked.start.date() <= one.day <= asked.end.date()
    ]
    if not files:
        return []
    conditions = ["epoch_us(time) >= $start", "epoch_us(time) < $end"]
    ends = {name: us_of(at) for name, at in (("start", asked.start), ("end", asked.end))}
    bound: dict[str, object] = {"files": files, **ends}
    lists: tuple[tuple[str, Sequence[str]], ...] = (
        ("lower(name)", asked.names),
        ("lower(address)", asked.addresses),
        ("action", asked.actions),
    )
    for place, (column, wanted) in enumerate(lists):
        if wanted:
            conditions.append(f"list_contains($list{place}, {column})")
            bound[f"list{place}"] = list(wanted)
    try:
        with duckdb.connect(":memory:", config={"threads": 1}) as connection:
            rows = connection.execute(
                f"SELECT epoch_us(time) AS at, {', '.join(_TEXTS)} FROM {TRAIL_TABLE.rows_in('$files')}"  # noqa: S608 - our own words
                f" WHERE {' AND '.join(conditions)} ORDER BY time DESC, number DESC"
                f" LIMIT {asked.skipped + asked.most + 1 + besides}",
                bound,
            ).fetchall()
    except duckdb.Error as error:
        raise LakeUnusable(
            f"the trail cannot be read: {plain_reason(error)}",
            fix="try again: the lake's upkeep may have replaced its files just now",
            where=str(lake / TRAIL_TABLE.name),
        ) from None
    return [_deed_of(row) for row in rows]


def _deed_of(row: Sequence[object]) -> Deed:
    at_us, *others = row
    given = {name: "" if value is None else value for name, value in zip(_TEXTS, others, strict=True)}
    time = instant_of_us(int(str(at_us)))
    return Deed(time=time, **given)  # type: ignore[arg-type]
