"""What an erasure has done so far, beside the lake, so that a killed one is finished and counted once.

Lines of JSON: first what was asked, then a line for each commit, written before it. Whether the commit
happened is told by its number, which the table keeps. The file names the person, can be read by its owner
alone, and goes when the erasure is complete.
"""

from __future__ import annotations

import os
from datetime import date, datetime
from pathlib import Path

import msgspec

from m365watch.common.atomic_files import put_file, sync_folder
from m365watch.common.errors import ErasureOpen, LakeUnusable

NOTE = "erasing.ndjson"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be erased."""

    names: tuple[str, ...]
    anywhere: bool = False
    start: datetime | None = None
    """Only records created from here on; None: from the first."""
    end: datetime | None = None
    """Only records created before; None: to the last."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    asked: Asked
    started_at: datetime


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One commit."""

    table: str
    """The Delta table: audit or collectors_out."""
    number: int
    """The table's own number for it, one more than that of the erasure's commit before."""
    records: list[tuple[str, date, int]]
    """How many records of each of Devo's tables and days."""
    old: list[str]
    """The files that held them."""
    rewritten: int
    """How many of these are written anew without them."""


class ErasingNote:
    """The file, open for one erasure."""

    def __init__(self, path: Path, opened: Opened, steps: dict[tuple[str, int], Step]) -> None:
        """Use `open_note`."""
        self._path = path
        self.opened = opened
        self.steps = steps
        """By table and number, in order; the last may not have happened."""

    def add(self, step: Step) -> None:
        """Write down, durably, what is about to be committed."""
        self.steps[step.table, step.number] = step
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(step) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """The erasure is complete: nothing of it has to be known any more."""
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)


def open_note(lake: Path, asked: Asked, *, now: datetime) -> ErasingNote:
    """The note of this erasure, new or as a killed one left it.

    Raises: ErasureOpen: that of another was left; LakeUnusable: it cannot be read.
    """
    kept = unfinished(lake)
    if kept is not None and kept.opened.asked != asked:
        raise ErasureOpen(
            f"an erasure that began at {kept.opened.started_at:%Y-%m-%d %H:%M:%SZ} was interrupted",
            fix="finish it first: m365watch lake erase --resume",
            where=str(lake),
        )
    if kept is not None:
        return kept
    path = lake / NOTE
    opened = Opened(asked=asked, started_at=now)
    put_file(path, (msgspec.json.encode(opened), b"\n"))
    return ErasingNote(path, opened, {})


def unfinished(lake: Path) -> ErasingNote | None:
    """The erasure that was interrupted; None where there is none.

    Raises: LakeUnusable: its note cannot be read.
    """
    path = lake / NOTE
    try:
        first, *lines = path.read_bytes().splitlines(keepends=True)
        opened = msgspec.json.decode(first, type=Opened)
        # A line without its end was being written when the process was killed: nothing came of it.
        whole = [line for line in lines if line.endswith(b"\n")]
        steps = [msgspec.json.decode(line, type=Step) for line in whole]
    except FileNotFoundError:
        return None
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise LakeUnusable(
            "what an interrupted erasure left there cannot be read",
            fix="remove the file, and erase once more from the beginning",
            where=str(path),
        ) from error
    if len(whole) < len(lines):
        path.write_bytes(b"".join([first, *whole]))
    return ErasingNote(path, opened, {(step.table, step.number): step for step in steps})
