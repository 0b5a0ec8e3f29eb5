"""The columns that a table has: which it lacks, the commit that adds them, and whether it is ours to write.

A column that is new here is added when a writer opens the table, and is null in files from before; one that
this version does not know stays as it is. Neither keeps anybody from reading or writing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pyarrow as pa
from deltalake import DeltaTable, Schema

from m365watch.common.clock import SystemClock
from m365watch.common.timestamps import ms_of
from m365watch.lake.delta.commit import Line
from m365watch.lake.delta.transaction_log import COMMITS_PER_CHECKPOINT
from m365watch.lake.schema import PARTITION, Column, TableShape

_WRITER_VERSION = 2
"""Delta's protocol that our commits fulfil: it asks nothing of an append."""
NEWER_FIX = (
    "nothing is damaged: switch that off with the engine that switched it on, or use a version of m365watch"
    " that knows it"
)
_AWAY_FIX = "move it away, or name another directory for the lake"


class ForeignTable(Exception):
    """The table is not ours to write."""

    def __init__(self, what: str, fix: str) -> None:
        """Why, as the end of a sentence, and what to do."""
        super().__init__(what)
        self.what = what
        self.fix = fix


def require_ours(table: DeltaTable, shape: TableShape) -> None:
    """Nothing, where this version may write the table.

    Raises: ForeignTable.
    """
    if not is_ours(table, shape):
        raise ForeignTable(f"the table `{shape.name}` there has other columns than this version's", _AWAY_FIX)
    require_writable(table, shape.name)


def require_writable(table: DeltaTable, name: str) -> None:
    """Nothing, where the table asks no more of its writers than our commits do. Raises: ForeignTable."""
    protocol = table.protocol()
    if protocol.min_writer_version > _WRITER_VERSION or protocol.min_reader_version > 1:
        features = ", ".join(protocol.writer_features or ())
        asked = f"{protocol.min_writer_version}{f' ({features})' if features else ''}"
        raise ForeignTable(
            f"the table `{name}` there needs Delta writer version {asked},"
            f" and this version writes {_WRITER_VERSION}",
            NEWER_FIX,
        )


def is_ours(table: DeltaTable, shape: TableShape) -> bool:
    """Whether the table is one of that shape, of whatever version.

    It is partitioned as ours are, has the columns that every version keeps figures of, and none of our
    columns has another type there.
    """
    there, wanted = _fields(table.schema()), _fields(_delta_schema(shape.schema))
    kept = {PARTITION, *shape.statistics}
    return (
        table.metadata().partition_columns == [PARTITION]
        and kept <= there.keys()
        and all(one["type"] == there[name]["type"] for name, one in wanted.items() if name in there)
    )


def lacks_columns(table: DeltaTable, shape: TableShape) -> bool:
    """Whether the table is from before one of the shape's columns."""
    return not _fields(_delta_schema(shape.schema)).keys() <= _fields(table.schema()).keys()


def shape_of(table: DeltaTable, shape: TableShape) -> TableShape:
    """The shape with the columns that the table has: without those it lacks, with those of newer versions.

    Whoever writes rows of the table anew keeps them all.
    """
    there = pa.schema(table.schema().to_arrow())
    known = tuple(column for column in shape.columns if column.name in there.names)
    names = {column.name for column in known}
    more = tuple(Column(one.name, one.type, "") for one in there if one.name not in names)
    return shape if known == shape.columns and not more else replace(shape, columns=(*known, *more))


def metadata_with(table: DeltaTable, shape: TableShape) -> dict[str, Any]:
    """The table's metadata, in Delta's words, with the shape's columns that it lacks."""
    metadata = table.metadata()
    there = _fields(table.schema())
    added = [one for name, one in _fields(_delta_schema(shape.schema)).items() if name not in there]
    named = {"name": metadata.name, "description": metadata.description}
    return {
        "id": metadata.id,
        **{name: text for name, text in named.items() if text is not None},
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": [*there.values(), *added]}),
        "partitionColumns": metadata.partition_columns,
        "configuration": metadata.configuration,
        "createdTime": metadata.created_time,
    }


def new_table_lines(shape: TableShape) -> list[Line]:
    """What the first commit says of a table of that shape."""
    return [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": _WRITER_VERSION}},
        {
            "metaData": {
                "id": str(uuid4()),
                "format": {"provider": "parquet", "options": {}},
                "schemaString": _delta_schema(shape.schema).to_json(),
                "partitionColumns": [PARTITION],
                "configuration": {
                    "delta.checkpointInterval": str(COMMITS_PER_CHECKPOINT),
                    "delta.logRetentionDuration": "interval 6 hours",
                    "delta.deletedFileRetentionDuration": "interval 2 hours",
                    "delta.dataSkippingStatsColumns": ",".join(shape.statistics),
                },
                "createdTime": ms_of(SystemClock().now()),
            }
        },
    ]


def _delta_schema(schema: pa.Schema) -> Schema:
    return Schema.from_arrow(schema)


def _fields(schema: Schema) -> Mapping[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(schema.to_json())["fields"]}
