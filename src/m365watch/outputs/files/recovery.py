"""Bring a directory back to what the ledger committed, whatever happened in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from m365watch.common.atomic_files import size_of, sync_folder
from m365watch.common.errors import OutputUnusable
from m365watch.outputs.files.file_layout import FileKey, cut_file, parse_part_name, parse_published_name
from m365watch.outputs.files.undo import UndoNote, read_undo, remove_undo

_log = structlog.get_logger(__name__)


def cut_back(
    directory: Path, *, last_batch: int, newest_batch: int | None, committed: Mapping[str, int], where: str
) -> list[FileKey]:
    """Undo what came after `last_batch`; answer the files in `.parts` that are left to publish.

    `committed` gives the length in bytes of each file that was growing then, by published name.
    A published file is never touched, unless the undo note names it. What a batch beyond `newest_batch`
    (the highest number that the ledger has ever given, None if not known) wrote is another ledger's.

    Raises: OutputUnusable: the ledger is older than the directory, or belongs to another one.
    """
    note = read_undo(directory)
    is_foreign = newest_batch is not None and newest_here(directory, note) > newest_batch
    if note is not None and note.number <= last_batch:
        note = None
    if is_foreign or _is_ahead(directory, last_batch=last_batch, committed=committed, note=note):
        raise OutputUnusable(
            f"{directory} holds batches that the ledger does not know (it ends at {last_batch})",
            fix="put back the ledger that belongs to these files, or set another `directory`;"
            " `m365watch ledger restore` with the present ledger's own file goes on with it",
            where=where,
        )
    if note is not None:
        _undo_published(directory, note)
    remove_undo(directory)
    parts = [
        key
        for key in list_parts(directory)
        if _cut_part(directory, key, last_batch=last_batch, committed=committed)
    ]
    sync_folder(directory / ".parts")
    return parts


def newest_here(directory: Path, note: UndoNote | None) -> int:
    """The highest number of a batch that has left its name here; 0 if none has."""
    keys = [*list_parts(directory), *list_published(directory)]
    return max([key.number for key in keys] + ([note.number] if note else []), default=0)


def _is_ahead(
    directory: Path, *, last_batch: int, committed: Mapping[str, int], note: UndoNote | None
) -> bool:
    """Whether files were published that hold more than one batch beyond the ledger's last."""
    if note is not None and last_batch < note.previous:
        return True
    undoable = note.lengths if note is not None else {}
    opened_later = (
        key.number > last_batch and key.published_name not in undoable for key in list_published(directory)
    )
    grown = (
        size_of(directory / name) > length and name not in undoable for name, length in committed.items()
    )
    return any(opened_later) or any(grown)


def _undo_published(directory: Path, note: UndoNote) -> None:
    """Cut the files of the note back; one that the batch opened goes away whole."""
    for name, length in note.lengths.items():
        path = directory / name
        if not path.exists():
            continue
        if length:
            cut_file(path, length=length)
        else:
            path.unlink()
            sync_folder(path.parent)


def _cut_part(directory: Path, key: FileKey, *, last_batch: int, committed: Mapping[str, int]) -> bool:
    """Whether the growing file `key`, cut back to what was committed, is left to publish."""
    path = directory / key.part_name
    length = committed.get(key.published_name)
    if length is None and key.number > last_batch:
        path.unlink()
        return False
    if length is None or path.stat().st_size < length:
        kept = path.rename(path.with_name(f"{path.name}.damaged"))
        _log.warning(
            "a file was changed by somebody else; it is kept aside and not published",
            file=str(kept),
            committed_bytes=length,
        )
        return False
    cut_file(path, length=length)
    return True


def list_parts(directory: Path) -> list[FileKey]:
    """The files that were growing, in the order of their names."""
    names = sorted(path.name for path in (directory / ".parts").iterdir())
    return [key for key in map(parse_part_name, names) if key is not None]


def list_published(directory: Path) -> Iterator[FileKey]:
    """Every published file of ours."""
    for folder in directory.iterdir():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        for path in folder.iterdir():
            key = parse_published_name(folder.name, path.name)
            if key is not None:
                yield key
