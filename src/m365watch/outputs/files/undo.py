"""A note of published files that the ledger may not have committed yet.

The hand that ends a run, or publishes in a quiet moment, cannot know whether the ledger has
committed the newest batch. Before it publishes a file that holds some of that batch, it notes how
long the file was without it. The next start reads the note: if the ledger lacks the batch, the
files are cut back; if not, the note is stale.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from m365watch.common.atomic_files import put_file
from m365watch.outputs.files.file_layout import FILE_MODE, parse_published_name

_NAME = ".parts/undo.json"
_log = structlog.get_logger(__name__)


class UndoNote(msgspec.Struct, frozen=True):
    """How to take batch `number` out of files that are already published."""

    number: int
    previous: int
    """The batch with records before it; a ledger that ends earlier belongs to another past."""
    lengths: dict[str, int]
    """Each file's length in bytes without the batch; 0: the batch opened it."""


def write_undo(directory: Path, note: UndoNote) -> None:
    """Replace the note, durably."""
    put_file(directory / _NAME, (msgspec.json.encode(note),), mode=FILE_MODE)


def read_undo(directory: Path) -> UndoNote | None:
    """The note; None if there is none, or none that can be believed, which is told.

    Without it nothing is cut. Where that would have been needed, the files are longer than the ledger says,
    or newer, and the start is refused for that.

    Raises: OSError.
    """
    path = directory / _NAME
    try:
        note = msgspec.json.decode(path.read_bytes(), type=UndoNote)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        note = None
    if note is not None and all(map(_is_ours, note.lengths, note.lengths.values())):
        return note
    _log.warning(f"{path} is damaged and not used; no file is cut back by it, and nothing is lost")
    return None


def _is_ours(name: str, length: int) -> bool:
    """Whether the note speaks of a file that this output may have published, here and nowhere else."""
    folder, _, file = name.partition("/")
    return length >= 0 and not folder.startswith(".") and parse_published_name(folder, file) is not None


def remove_undo(directory: Path) -> None:
    """Forget the note."""
    (directory / _NAME).unlink(missing_ok=True)
