"""What is wrong with a table's log that cannot be read: a form not known here, or which file is damaged."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from m365watch.lake.delta.missing_commits import LAKE_GONE, are_commits_lost, said_of
from m365watch.lake.delta.table_schema import NEWER_FIX
from m365watch.lake.delta.transaction_log import commit_name, is_whole, list_torn, read_commits
from m365watch.lake.schema import ALERTS, BOARD_TRAIL, COLLECTORS_OUT
from m365watch.lake.store import Store
from m365watch.lake.writer.table_writer import plain_reason, system_number_of

_OF_FILES = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.SerializationException,
    duckdb.InternalException,
)


def is_of_a_file(error: duckdb.Error) -> bool:
    """Whether the failure comes of a file that a query of ours reads, and not of the query.

    What it says is not for anybody's eyes: it may quote a record.
    """
    return isinstance(error, _OF_FILES) or type(error) is duckdb.Error


BACK_FIX = (
    "put it back from a copy of the lake; without one, rename the output and name another directory in the"
    " configuration, to fill a new lake from now on"
)
_AWAY = "move the folder `{}` out of the lake: "
_FIXES = {
    ALERTS: _AWAY + "the next start of `m365watch run` makes it anew from the detections",
    # Whoever writes these keeps them open.
    COLLECTORS_OUT: f"stop `m365watch run` and {_AWAY}the next start begins a new one, without these notices",
    BOARD_TRAIL: f"stop the board and {_AWAY}it begins a new one; keep this one, its lines are nowhere else",
}
LAKE_BACK = (
    "put the folder back, or correct the output's path in the configuration; to fill a new lake from now on,"
    " rename the output"
)
ROOM_FIX = "see to it that the directory can be written and that its disk has room"
_CLOSED = {errno.EACCES, errno.EPERM}
_OF_CONTENT = {None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR}
"""Numbers of failures that may come of what is in the lake."""
_NEWER = re.compile(r"(?:.*Unsupported: )?(.*(?:not supported|[Uu]nsupported).*)")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something failed, as the end of a sentence, and what to do about it."""

    what: str
    fix: str


def back_fix(table: str) -> str:
    """What to do about a file of that table that is damaged or gone; only `audit` is the whole lake."""
    if table not in _FIXES:
        return BACK_FIX
    return f"put it back from a copy of the lake; without one, {_FIXES[table].format(table)}"


def torn_fix(table: str) -> str:
    """What becomes of the end of that table's log where a power cut has torn it: its writer mends it."""
    command = "board" if table == BOARD_TRAIL else "run"
    return f"nothing hangs on it: the next start of `m365watch {command}` moves it aside"


def refusal_of(place: Path, failure: BaseException) -> Cause | None:
    """What the operating system refused; None where the failure may come of what is in the lake."""
    number = system_number_of(failure)
    if number in _OF_CONTENT:
        return None
    fix = ROOM_FIX
    if number in _CLOSED:
        fix = f"let user {os.geteuid()}, who runs this, read and write all that is in {place}"
    return Cause(plain_reason(failure), fix)


def cause_in_commits(store: Store, failure: BaseException) -> Cause:
    """Why the log of the table could not be read, given what the library said of it."""
    refusal = refusal_of(store.path(""), failure)
    if refusal is not None:
        return refusal
    newer = why_newer(store.table, failure)
    if newer is not None:
        return newer
    if are_commits_lost(store):
        return cause_of_loss(store)
    torn = torn_off(store)
    if torn:
        return Cause(f"a power cut has torn {store.table}/{torn}", torn_fix(store.table))
    for name, reason in list_commit_faults(store):
        return Cause(f"{store.table}/{name} {reason}", back_fix(store.table))
    return Cause(
        f"the log of table {store.table} cannot be read ({plain_reason(failure)})", back_fix(store.table)
    )


def cause_of_loss(store: Store) -> Cause:
    """What is to be said and done of a table that is `Standing.LOST`."""
    said = said_of(store)
    return Cause(said, LAKE_BACK if said == LAKE_GONE else back_fix(store.table))


def why_newer(table: str, failure: BaseException) -> Cause | None:
    """What the table asks for that is not known here; None where that is not what failed."""
    said = plain_reason(failure)
    found = _NEWER.fullmatch(said)
    if found is None:
        return None
    what = f"table {table} needs what this version does not know ({found[1]})"
    return Cause(what, NEWER_FIX)


def torn_off(store: Store) -> str:
    """What a power cut has torn at the end of the table's log; empty where that is not all that is wrong.

    Raises: OSError: the log cannot be listed.
    """
    torn = sorted(list_torn(store))
    return "" if not torn or any(list_commit_faults(store, without=torn)) else torn[0]


def list_commit_faults(store: Store, *, without: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Each file of the table's log that is missing or damaged, from its last checkpoint on, and how it is.

    Files are named from the table's folder on; those `without` count as if they were not there.
    Raises: OSError: the log cannot be listed.
    """
    commits, checkpoints = read_commits(store)
    made = {number for number, file in commits.items() if file.name not in without}
    parts = {
        number: [one.name for one in files if one.name not in without]
        for number, files in checkpoints.items()
    }
    last = max((number for number, names in parts.items() if names), default=-1)
    for name in parts.get(last, ()):
        if not is_whole(store, name):
            yield name, "is damaged"
    for number in range(last + 1, max(made, default=last) + 1):
        name = commit_name(number)
        reason = _why_no_commit(store, name) if number in made else "is missing"
        if number == 0 and not reason and not commits[number].size_bytes:
            reason = "is empty"  # Of a later one it is no fault that keeps the table closed.
        if reason:
            yield name, reason


def _why_no_commit(store: Store, name: str) -> str:
    """What is wrong with a commit's file; empty for nothing."""
    try:
        body = store.get(name) or b""
        for line in body.splitlines():
            json.loads(line)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        return "is damaged" if body.strip(b"\0") else "holds zeros in place of a commit"
    return ""


def behind(last_batch: int, found: int) -> Cause:
    """The lake ends with batch `found`, before the last one that the ledger knows to be there."""
    return Cause(
        f"the ledger has delivered batch {last_batch} here, but the lake ends with batch {found}",
        "put back the lake that belongs to this state directory,"
        " or rename the output in the configuration and name another directory,"
        " to fill a new lake from now on",
    )


def ahead(last_batch: int, found: int) -> Cause:
    """The lake ends with batch `found`, which the ledger knows nothing of."""
    return Cause(
        f"the lake ends with batch {found}, but the ledger knows only of batch {last_batch}",
        "put back the state directory that belongs to this lake,"
        " or name another directory for the lake;"
        " `m365watch ledger restore` with the present ledger's own file goes on with it",
    )
