"""A look at a lake beside whoever writes to it: whether its tables can be read. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from m365watch.common.errors import LakeUnusable, OutputUnusable
from m365watch.lake.delta.table_files import open_table
from m365watch.lake.integrity_errors import cause_in_commits
from m365watch.lake.maintenance.causes import find_fault
from m365watch.lake.maintenance.integrity_check import last_batch_of
from m365watch.lake.schema import TableShape
from m365watch.lake.steps import ahead, behind
from m365watch.lake.writer.table_writer import WRITE_FAILURES


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


def try_table(directory: Path, shape: TableShape, *, where: str, is_acknowledged: bool = False) -> str:
    """What is there of the lake's table, in a few words; of each file its end is looked at.

    `is_acknowledged` says that the ledger has delivered a batch to it.
    Raises: OutputUnusable: the table or a file of it cannot be read, or is not this version's.
    """
    try:
        table = open_table(directory, shape, is_acknowledged=is_acknowledged)
        if table is None:
            return "no table there yet"
        present = pa.schema(table.schema().to_arrow()).names
        files = len(table.file_uris())
    except LakeUnusable as error:
        what = f"its table `{shape.name}` cannot be used: {error.what}"
        raise OutputUnusable(what, fix=error.fix, where=where) from None
    except WRITE_FAILURES as failure:
        cause = cause_in_commits(directory / shape.name, failure)
        what = f"its table `{shape.name}` cannot be read: {cause.what}"
        raise OutputUnusable(what, fix=cause.fix, where=where) from None
    if not all(name in present for name in shape.schema.names):
        raise OutputUnusable(
            f"the table `{shape.name}` there has other columns than this version's",
            fix="move it away, or name another directory for the lake",
            where=where,
        )
    # Looked at twice: an erasure beside it takes files away that the log named a moment before.
    damage = find_fault(directory, [shape]) and find_fault(directory, [shape])
    if damage is not None:
        raise OutputUnusable(
            f"its table `{shape.name}` is damaged: {damage.what}", fix=damage.fix, where=where
        )
    counted = "1 file" if files == 1 else f"{files:,} files"
    return f"its table can be read (version {table.version()}, {counted})"
