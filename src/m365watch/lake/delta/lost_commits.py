"""Whether a table is there, is new, or was there: its log is gone, beside files that only the log told of.

An empty table made there would hide them, and its upkeep remove them. But a power cut in the first seconds
of a table leaves files too, and no commit: its first one comes to the disk with the first batch.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import Enum
from pathlib import Path

from deltalake import DeltaTable

from m365watch.lake.delta.transaction_log import is_unmade
from m365watch.lake.schema import AUDIT, PARTITION

LAKE_GONE = "the lake is gone: its folder is not where it was"

BATCHES_OF_YOUNG_MAX = 8
"""Batches of one collector whose files may be there before any commit is: one that is committed and one that
is prepared, of four starts that each ended so."""
_OF_BATCH = re.compile(r"([0-9a-f]{12})-[0-9]{12}\.parquet")


class Standing(Enum):
    """How a table stands."""

    THERE = "there"
    NEW = "new"
    """Nothing was ever acknowledged to be in it, as far as is known: a start may make it."""
    LOST = "lost"


class CommitsLost(OSError):
    """The table was there, and its log is no more."""

    def __init__(self, table_directory: Path) -> None:
        """Of that table."""
        super().__init__(said_of(table_directory))
        self.table_directory = table_directory


def standing_of(table_directory: Path, *, is_acknowledged: bool = False) -> Standing:
    """Whether the table is there, for whoever reads or looks; its folders can be entered.

    `is_acknowledged` says that the ledger has delivered a batch there: without it, a lake that is gone with
    all its files is new, and so is one of few batches whose log is gone.
    """
    if are_commits_lost(table_directory, is_acknowledged=is_acknowledged):
        return Standing.LOST
    if DeltaTable.is_deltatable(str(table_directory)):
        return Standing.THERE
    return Standing.LOST if is_acknowledged else Standing.NEW


def require_commits(table_directory: Path, *, is_acknowledged: bool = False) -> None:
    """Nothing, where the table is whole or may be made. Raises: CommitsLost."""
    if standing_of(table_directory, is_acknowledged=is_acknowledged) is Standing.LOST:
        raise CommitsLost(table_directory)


def said_of(table_directory: Path) -> str:
    """What is wrong there."""
    if not _has_files(table_directory):
        return LAKE_GONE
    return f"{table_directory.name}/_delta_log has no commit, but files of records lie beside it"


def _has_files(table_directory: Path) -> bool:
    return any(table_directory.glob(f"{PARTITION}=*/*.parquet"))


def are_commits_lost(table_directory: Path, *, is_acknowledged: bool = False) -> bool:
    """Whether there was a log that told of the files in the table's folder, and is no more.

    Any file says so where a batch `is_acknowledged`, since its commit was on the disk before; and in a table
    besides, which is on the disk before it has any.
    """
    is_made = is_acknowledged or table_directory.name != AUDIT
    return (
        is_unmade(table_directory)
        and _was_filled(table_directory, batches_max=0 if is_made else BATCHES_OF_YOUNG_MAX)
        # Looked at again: another collector may have made and filled it meanwhile.
        and is_unmade(table_directory)
    )


def _was_filled(table_directory: Path, *, batches_max: int) -> bool:
    """Whether the files are more than power cuts leave of a table that is about to begin.

    What is not named like a batch's file was made of committed ones. One name on several days is one batch.
    """
    found = {path.name for path in table_directory.glob(f"{PARTITION}=*/*.parquet")}
    batches: Counter[str] = Counter()
    for name in found:
        named = _OF_BATCH.fullmatch(name)
        if named is None:
            return True
        batches[named[1]] += 1
    return any(count > batches_max for count in batches.values())
