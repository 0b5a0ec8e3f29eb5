"""The changes that were made from the board, one file each, for whoever owns the state directory alone.

No secret is in them: a section is kept with marks in their place.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from m365watch.board.config_editor.config_changes import Kept
from m365watch.common.errors import NeedsOperator

FOLDER = "configuration"
"""In the state directory."""
KEPT_MAX = 200
"""Changes that are kept; the oldest go."""
_BYTES_MAX = 4_194_304
_NAME = re.compile(r"([0-9]{6,9})\.json")


class PastChange(msgspec.Struct, frozen=True):
    """One change as it was made."""

    number: int
    at_s: float
    by: str
    what: str
    path: tuple[str, ...]
    before: str | None
    after: str | None
    difference: str
    undoes: int = 0
    """The change that this one took back."""

    @property
    def kept(self) -> Kept:
        """What it can be undone by."""
        return Kept(self.path, self.before, self.after)


def list_past(state_directory: Path, *, count_max: int = KEPT_MAX) -> list[PastChange]:
    """The changes, the last one first; one that cannot be read is left out."""
    numbers = sorted(_numbers(state_directory / FOLDER), reverse=True)[:count_max]
    found = (find_past(state_directory, number) for number in numbers)
    return [one for one in found if one is not None]


def find_past(state_directory: Path, number: int) -> PastChange | None:
    """The change of that number; None where there is none."""
    try:
        with _file(state_directory, number).open("rb") as file:
            return msgspec.json.decode(file.read(_BYTES_MAX), type=PastChange)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def keep_past(state_directory: Path, change: PastChange) -> PastChange:
    """The change with the number that it is kept under.

    Raises: NeedsOperator: the state directory cannot be written.
    """
    folder = state_directory / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = sorted(_numbers(folder))
        numbered = msgspec.structs.replace(change, number=max(numbers, default=0) + 1)
        _write(_file(state_directory, numbered.number), msgspec.json.encode(numbered))
        for old in numbers[: max(0, len(numbers) + 1 - KEPT_MAX)]:
            _file(state_directory, old).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fix = "let the board run as the collector's user; without a history nothing is changed"
        raise NeedsOperator(f"the history cannot be written: {reason}", fix=fix, where=str(folder)) from None
    return numbered


def forget_past(state_directory: Path, number: int) -> None:
    """Take a change out that did not come about."""
    _file(state_directory, number).unlink(missing_ok=True)


def _file(state_directory: Path, number: int) -> Path:
    return state_directory / FOLDER / f"{number:06d}.json"


def _numbers(folder: Path) -> list[int]:
    try:
        names = [one.name for one in folder.iterdir()]
    except OSError:
        return []
    return [int(found[1]) for name in names if (found := _NAME.fullmatch(name))]


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
