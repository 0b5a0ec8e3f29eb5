"""A look at a lake beside whoever writes to it: whether its table can be read. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from m365watch.errors import LakeUnusable, OutputUnusable
from m365watch.lake.causes import cause_of
from m365watch.lake.checking import last_batch_of
from m365watch.lake.files import open_table
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.steps import ahead, behind
from m365watch.lake.writer import WRITE_FAILURES


def require_in_step(
    directory: Path, app_id: str, account: Callable[[], tuple[int, int] | None], *, where: str
) -> None:
    """Nothing, where a start of the collector would go on with this lake.

    `account` tells the last batch that the ledger knows to be there and the last number that it ever gave,
    or None. It is asked before and after: beside a running collector both grow, and the lake is ahead.
    Raises: OutputUnusable: lake and ledger are not each other's.
    """
    before = account()
    found = last_batch_of(directory, app_id)
    after = account()
    # An output that the ledger knows nothing of takes over what the lake has.
    if before is None or after is None or found is None or not before[0]:
        return
    if found < before[0]:
        cause = behind(before[0], found)
    elif found > after[1]:
        cause = ahead(after[0], found)
    else:
        return
    raise OutputUnusable(cause.what, fix=cause.fix, where=where)


def try_lake(directory: Path, *, where: str) -> str:
    """What is there, in a few words.

    Raises: OutputUnusable: the table cannot be read, or is not this version's.
    """
    try:
        table = open_table(directory, AUDIT_TABLE)
        if table is None:
            return "no table there yet"
        present = pa.schema(table.schema().to_arrow()).names
        files = len(table.file_uris())
    except LakeUnusable as error:
        raise OutputUnusable(error.what, fix=error.fix, where=where) from None
    except WRITE_FAILURES as failure:
        cause = cause_of(directory, failure)
        raise OutputUnusable(f"its table cannot be read: {cause.what}", fix=cause.fix, where=where) from None
    if not all(name in present for name in AUDIT_TABLE.schema.names):
        raise OutputUnusable(
            "the table `audit` there has other columns than this version's",
            fix="move it away, or name another directory for the lake",
            where=where,
        )
    counted = "1 file" if files == 1 else f"{files:,} files"
    return f"its table can be read (version {table.version()}, {counted})"
