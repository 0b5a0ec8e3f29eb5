"""A table whose log is gone, beside the files of records that only the log told of.

An empty table made there would hide them, and its upkeep remove them. But a power cut in the first seconds
of a table leaves files too, and no commit: its first one comes to the disk with the first batch.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from m365watch.lake.commits import commits_of, is_unmade
from m365watch.lake.schema import PARTITION

BATCHES_OF_YOUNG_MAX = 8
"""Batches of one collector whose files may be there before any commit is: one that is committed and one that
is prepared, of four starts that each ended so."""
_OF_BATCH = re.compile(r"([0-9a-f]{12})-[0-9]{12}\.parquet")


class CommitsLost(OSError):
    """No commit is there for the files of records beside it."""


def require_commits(table_directory: Path, *, is_acknowledged: bool = False) -> None:
    """Nothing, where the table is whole or may be made. Raises: CommitsLost."""
    if are_commits_lost(table_directory, is_acknowledged=is_acknowledged):
        raise CommitsLost(said_of(table_directory))


def said_of(table_directory: Path) -> str:
    """What is wrong there."""
    log = f"{table_directory.name}/{commits_of(table_directory).name}"
    return f"{log} has no commit, but files of records lie beside it"


def are_commits_lost(table_directory: Path, *, is_acknowledged: bool = False) -> bool:
    """Whether there was a log that told of the files in the table's folder, and is no more.

    Any file says so where a batch `is_acknowledged`, since its commit was on the disk before.
    """
    return (
        is_unmade(table_directory)
        and _was_filled(table_directory, batches_max=0 if is_acknowledged else BATCHES_OF_YOUNG_MAX)
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
