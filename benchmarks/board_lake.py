"""A lake of so many records as a large organisation leaves in 30 days, quickly made.

Three days are the simulated organisation's own, record by record: two working days and one of a weekend.
Every day of the lake is one of them with times, Ids and texts of its own, written by the lake's own writer in
files of the sizes that upkeep leaves: 320,000 records in a merged file, and today's last ones as they came.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain, groupby, islice
from multiprocessing import get_context
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from m365watch.common.model import Batch, BatchPart, BlobKey, Feed, Header, TenantId
from m365watch.lake.delta.table_files import ROWS_PER_CHUNK
from m365watch.lake.schema import AUDIT, AUDIT_TABLE, PARTITION
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.parquet_files import FRESH, MERGED, Part, write_part
from m365watch.lake.writer.record_columns import tabulate
from m365watch.lake.writer.table_writer import OpenTable
from m365watch.records.routing import Router
from m365watch.records.split import split_blob
from m365watch_simulator.organization.organization import Organisation
from m365watch_simulator.organization.records import SimulatedRecord

DAYS = 30
LAST_DAY = date(2026, 11, 27)
"""Days of the lake end with this one: what is measured is the same whenever it is measured."""
TENANT = TenantId("3f2504e0-4f89-41d3-9a0c-0305e82c3301")
RECORDS_PER_USER = 130
"""A day's; so 20 million are of 5,100 users."""
_MODELS = {"tuesday": date(2026, 11, 24), "thursday": date(2026, 11, 26), "sunday": date(2026, 11, 22)}
_MERGED_CHUNKS = 40
"""Of 8,192 rows each."""
_FRESH_FILES = 12
_SLOT = timedelta(minutes=10)
"""Records of one kind and slot came together."""
_NOTE = "lake.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class BoardLake:
    """What was made."""

    records: int
    users: int
    days: int
    bytes: int
    record_bytes: int
    """The mean length of a record."""
    format: int = _FORMAT

    @property
    def start_s(self) -> int:
        """The first second of its first day."""
        return self.end_s - self.days * 86_400

    @property
    def end_s(self) -> int:
        """The second after its last day."""
        return int(datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC).timestamp()) + 86_400


def board_lake(folder: Path, records: int) -> BoardLake:
    """The lake in `folder`/lake, made unless it is there already; some 14 µs of CPU a record."""
    kept = _read_note(folder)
    if kept is not None and kept.format == _FORMAT and abs(kept.records - records) <= records // 5:
        return kept
    shutil.rmtree(folder, ignore_errors=True)
    models = folder / "models"
    models.mkdir(parents=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        users = max(50, records // DAYS // RECORDS_PER_USER)
        _make_models(models, users, records // DAYS, workers)
        found = _fill(folder / "lake", models, workers)
    shutil.rmtree(models)
    size = sum(path.stat().st_size for path in (folder / "lake" / AUDIT).rglob("*.parquet"))
    made = BoardLake(found.records, users, DAYS, size, found.record_bytes // max(1, found.records))
    (folder / _NOTE).write_text(json.dumps(asdict(made)))
    return made


def _read_note(folder: Path) -> BoardLake | None:
    try:
        return BoardLake(**json.loads((folder / _NOTE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _make_models(models: Path, users: int, records_per_day: int, workers: Executor) -> None:
    asked = [
        workers.submit(_make_hour, models / f"{name}-{hour:02}.parquet", users, records_per_day, day, hour)
        for name, day in _MODELS.items()
        for hour in range(24)
    ]
    for one in asked:
        one.result()


def _make_hour(path: Path, users: int, records_per_day: int, day: date, hour: int) -> None:
    """The records of an hour as the lake's writer makes rows of them, their texts cut open at Id and time."""
    at = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    organisation = _organisation(users, records_per_day)
    made = organisation.records_between(at, at + timedelta(hours=1))
    made.sort(key=lambda one: ((one.happened_at - at) // _SLOT, str(one.content_type)))
    parts = [
        _part(list(of), number)
        for number, (_, of) in enumerate(
            groupby(made, key=lambda one: ((one.happened_at - at) // _SLOT, one.content_type)), start=1
        )
    ]
    rows = tabulate(Batch(1, parts))
    cut = list(zip(*map(_cut, rows["id"].to_pylist(), rows["raw"].to_pylist()), strict=True))
    for name, values in zip(("id_first", "head", "middle", "tail"), cut, strict=True):
        rows = rows.append_column(name, pa.array(values))
    pq.write_table(
        rows.drop_columns(["raw", PARTITION]), path, compression="zstd", row_group_size=ROWS_PER_CHUNK
    )


_organisations: dict[tuple[int, int], Organisation] = {}


def _organisation(users: int, records_per_day: int) -> Organisation:
    """Founded once in each process: an estate of thousands takes a while."""
    key = users, records_per_day
    if key not in _organisations:
        _organisations[key] = Organisation(1, TENANT, users=users, records_per_day=records_per_day)
    return _organisations[key]


def _part(made: list[SimulatedRecord], number: int) -> BatchPart:
    split = split_blob(b"[" + b",".join(one.body for one in made) + b"]", wide=True)
    headers: list[Header] = split.headers
    return BatchPart(
        blob=BlobKey(number),
        feed=Feed(TENANT, made[0].content_type),
        received_at=made[-1].happened_at.replace(microsecond=0) + timedelta(minutes=7),
        records=split.records,
        headers=headers,
        tables=Router().tables(headers, override_tag=None),
        missing_outputs=frozenset({"lake"}),
    )


def _cut(record_id: str | None, raw: str) -> tuple[bool, str, str, str]:
    """Whether the Id comes first, and what stands around Id and CreationTime; uncut where they are odd."""
    time_at = raw.find('"CreationTime":"') + len('"CreationTime":"')
    id_at = raw.find(f'"Id":"{record_id}"') + len('"Id":"')
    if record_id is None or len(record_id) != 36 or id_at < 6 or time_at < 16:
        return True, "", "", raw
    (first, first_length), (second, second_length) = sorted([(time_at, 10), (id_at, 36)])
    head, middle = raw[:first], raw[first + first_length : second]
    return first == id_at, head, middle, raw[second + second_length :]


@dataclass(slots=True)
class _Found:
    records: int = 0
    record_bytes: int = 0


def _fill(lake: Path, models: Path, workers: Executor) -> _Found:
    """Every day's files, written by the workers, and a commit for each day."""
    table = OpenTable(lake, AUDIT_TABLE)
    days = [LAST_DAY - timedelta(days=back) for back in reversed(range(DAYS))]
    found = _Found()
    asked = [workers.submit(_write_day, lake / AUDIT, models, day) for day in days]
    for number, one in enumerate(asked, start=1):
        parts, records, record_bytes = one.result()
        table.commit(parts, numbers={"m365watch/lake/benchmark": number})
        found.records += records
        found.record_bytes += record_bytes
    return found


def _write_day(directory: Path, models: Path, day: date) -> tuple[list[Part], int, int]:
    """A day's files, how many records are in them, and how long these are together."""
    name = "sunday" if day.weekday() >= 5 else ("tuesday", "thursday")[day.toordinal() % 2]
    parts: list[Part] = []
    count = _Found()
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "1GiB"}) as connection:
        connection.execute("SET enable_progress_bar = false")
        hours = sorted(str(path) for path in models.glob(f"{name}-*.parquet"))
        asked = {"files": hours, "day": day.isoformat(), "by": (day - _MODELS[name]).days}
        shifted = connection.sql(_SHIFTED, params=asked)
        rows = _counted(shifted.to_arrow_reader(ROWS_PER_CHUNK), count)
        fresh = _FRESH_FILES if day == LAST_DAY else 0
        left = sum(pq.read_metadata(path).num_rows for path in hours) // ROWS_PER_CHUNK - fresh
        while True:
            is_fresh = left <= 0 and fresh > 0
            wanted = 1 if is_fresh else min(left, _MERGED_CHUNKS) if fresh else _MERGED_CHUNKS
            chunks = islice(rows, wanted)
            first = next(chunks, None)
            if first is None:
                return parts, count.records, count.record_bytes
            parts.append(
                write_part(
                    LocalStore(directory),
                    AUDIT_TABLE,
                    day=day,
                    name=f"{'benchmark' if is_fresh else 'merged'}-{day:%m%d}-{len(parts):04}",
                    chunks=chain([first], chunks),
                    compression=FRESH if is_fresh else MERGED,
                )
            )
            left -= _MERGED_CHUNKS


def _counted(batches: Iterable[pa.RecordBatch], count: _Found) -> Iterator[pa.Table]:
    """The batches as rows of the table, counted as they pass."""
    for batch in batches:
        rows = pa.Table.from_batches([batch]).select(AUDIT_TABLE.schema.names).cast(AUDIT_TABLE.schema)
        count.records += rows.num_rows
        count.record_bytes += rows["raw"].nbytes
        yield rows


_NEW_ID = (
    "CASE WHEN head = '' THEN id ELSE h[1:8] || '-' || h[9:12] || '-' || h[13:16] || '-' || h[17:20] || '-'"
    " || h[21:32] END"
)
_SHIFTED = f"""
    WITH stamped AS (SELECT *, md5(id || $day) AS h FROM read_parquet($files)),
    named AS (SELECT * REPLACE ({_NEW_ID} AS id, created_at + to_days(CAST($by AS INTEGER)) AS created_at,
        received_at + to_days(CAST($by AS INTEGER)) AS received_at) FROM stamped)
    SELECT CAST($day AS DATE) AS day, * EXCLUDE (h, id_first, head, middle, tail),
        CASE WHEN head = '' THEN tail WHEN id_first THEN head || id || middle || $day || tail
        ELSE head || $day || middle || id || tail END AS raw
    FROM named
"""
