"""Why working with a lake failed, and what helps: rights and disk, a form not known here, or which damage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from deltalake import DeltaTable

from m365watch.lake.delta.lost_commits import CommitsLost, Standing, standing_of
from m365watch.lake.delta.missing_commits import list_lost_batches
from m365watch.lake.integrity_errors import (
    BACK_FIX,
    ROOM_FIX,
    Cause,
    back_fix,
    cause_in_commits,
    cause_of_loss,
    refusal_of,
)
from m365watch.lake.maintenance.integrity_check import MISSING, list_file_faults
from m365watch.lake.schema import AUDIT, TABLES, TableShape
from m365watch.lake.writer.table_writer import WRITE_FAILURES, plain_reason, system_number_of

LOOK_FIX = f"see what `m365watch lake check --read-all` names, and {BACK_FIX}"
_REPAIR_FIX = "put it back from a copy; without one, stop the collector and run `m365watch lake repair`"


def cause_of(lake: Path, failure: BaseException) -> Cause:
    """Why it failed; of a damaged lake the first file that is missing or damaged is named.

    Looks at the tables' logs and at the end of each file; reads no record.
    """
    if isinstance(failure, CommitsLost):
        return cause_of_loss(failure.table_directory)
    cause = refusal_of(lake, failure) or find_fault(lake)
    if cause is not None:
        return cause
    fix = LOOK_FIX if system_number_of(failure) is None else ROOM_FIX
    return Cause(plain_reason(failure), fix)


def find_fault(lake: Path, tables: Sequence[TableShape] = TABLES) -> Cause | None:
    """The first thing that is wrong with the tables or their files; None for nothing that can be seen."""
    for shape in tables:
        table = lake / shape.name
        try:
            standing = standing_of(table)
            if standing is Standing.LOST:
                return cause_of_loss(table)
            if standing is Standing.THERE:
                opened = DeltaTable(table)
                lost = list_lost_batches(table, opened.version())
                for path, reason in chain(list_file_faults(table, opened), lost):
                    can_repair = shape.name == AUDIT and reason == MISSING
                    fix = _REPAIR_FIX if can_repair else back_fix(shape.name)
                    return Cause(f"{shape.name}/{path} {reason}", fix)
        except WRITE_FAILURES as failure:
            return cause_in_commits(table, failure)
    return None
