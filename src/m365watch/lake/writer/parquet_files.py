"""One Parquet file of the lake, durable before anybody is told of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from m365watch.lake.schema import PARTITION, TableShape
from m365watch.lake.store import Store
from m365watch.lake.writer.arrow_compute import bounds_of


class Compression(NamedTuple):
    """How a file's pages are compressed, by zstd."""

    level: int
    long_alone: bool = False
    """Whether only those of the columns are that the shape calls long."""

    def of(self, shape: TableShape) -> Mapping[str, str]:
        """The codec of each column."""
        names = shape.file_schema.names
        long = names if not self.long_alone else shape.long or names
        return {name: "zstd" if name in long else "none" for name in names}


FRESH = Compression(-7, long_alone=True)
"""Of a batch: 1.0 microseconds of CPU a record for a file of 4,000, and 140 bytes of 1,370; snappy takes 1.2
and 236 bytes, zstd at level 1 takes 1.4 and 82 bytes. To begin with a column takes 17 microseconds: a file of
few records costs 0.34 ms in place of 0.58 where only the long ones are compressed."""
MERGED = Compression(3)
"""Of a merged file, which is there to stay: less than half of the room."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of one day, written, that no commit names yet."""

    path: str
    """Relative to the table, with forward slashes."""
    day: date
    size_bytes: int
    modified_ms: int
    """The file's own time, in milliseconds since 1970."""
    statistics: str
    """Delta's JSON: the number of rows, and per column of the shape's `statistics` least, greatest, nulls."""


def write_part(
    store: Store,
    shape: TableShape,
    *,
    day: date,
    name: str,
    chunks: Iterable[pa.Table],
    compression: Compression,
) -> Part:
    """A new durable file of `day` with the rows of `chunks`, one row group each.

    A file of that name that a crash left behind is overwritten: no commit names it.

    Raises: OSError: the disk is full or refuses.
    """
    is_new_day = not store.path(_folder_of(day)).is_dir()
    part = write_unsynced(store, shape, day=day, name=name, chunks=chunks, compression=compression)
    store.put(part.path)
    if is_new_day:
        # Last: by then the disk has it, more often than not.
        store.sync_folder()
    return part


def write_unsynced(
    store: Store,
    shape: TableShape,
    *,
    day: date,
    name: str,
    chunks: Iterable[pa.Table],
    compression: Compression,
) -> Part:
    """The same, durable once it is put into the store, and the table's own folder is synced for a new day."""
    path = store.path(f"{_folder_of(day)}/{name}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = _Figures(shape)
    try:
        _write(path, chunks, figures, compression)
    except (OSError, pa.ArrowException):
        path.unlink(missing_ok=True)  # On a full disk its room is needed.
        raise
    found = path.stat()
    return Part(
        f"{path.parent.name}/{path.name}",
        day,
        found.st_size,
        found.st_mtime_ns // 1_000_000,
        figures.as_json(),
    )


def _folder_of(day: date) -> str:
    return f"{PARTITION}={day.isoformat()}"


def _write(path: Path, chunks: Iterable[pa.Table], figures: _Figures, compression: Compression) -> None:
    shape = figures.shape
    ordered = [name for name in shape.file_schema.names if name not in shape.plain_texts]
    codecs = compression.of(shape)
    with pq.ParquetWriter(
        path,
        shape.file_schema,
        compression=codecs,
        compression_level={name: compression.level for name, codec in codecs.items() if codec == "zstd"},
        use_dictionary=[name for name in ordered if name not in shape.distinct],
        # The least and greatest of what hardly repeats keep no reader from any row group.
        write_statistics=ordered,
    ) as writer:
        for chunk in chunks:
            rows = chunk.select(shape.file_schema.names)
            writer.write_table(rows, row_group_size=max(1, rows.num_rows))
            figures.add(rows)


class _Figures:
    """The statistics of one file, gathered chunk by chunk."""

    def __init__(self, shape: TableShape) -> None:
        self.shape = shape
        self._rows = 0
        self._least: dict[str, datetime | str | int] = {}
        self._greatest: dict[str, datetime | str | int] = {}
        self._nulls = dict.fromkeys(shape.statistics, 0)

    def add(self, rows: pa.Table) -> None:
        self._rows += rows.num_rows
        for name in self.shape.statistics:
            self._nulls[name] += rows[name].null_count
            if bounds := bounds_of(rows[name]):
                least, greatest = bounds
                self._least[name] = min(least, self._least.get(name, least))
                self._greatest[name] = max(greatest, self._greatest.get(name, greatest))

    def as_json(self) -> str:
        return json.dumps(
            {
                "numRecords": self._rows,
                "minValues": {name: _plain(value) for name, value in self._least.items()},
                "maxValues": {name: _plain(value) for name, value in self._greatest.items()},
                "nullCount": self._nulls,
            }
        )


def _plain(value: datetime | str | int) -> str | int:
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else value
