"""The demo's folder: its own from an earlier demo, or new; never one with anything else in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from m365watch.common.errors import LedgerHeld, NeedsOperator
from m365watch.ledger.lock import LedgerLock

CONFIG_NAME = "config.json"
MARKER = ".m365watch-demo"
"""The file that tells a folder of ours; locked while a demo uses it."""


@contextlib.contextmanager
def demo_folder(directory: Path) -> Iterator[Path]:
    """An empty folder at `directory`, held until the block ends.

    Raises: NeedsOperator: it cannot be written, or holds something that no demo put there;
    LedgerHeld: another demo is using it.
    """
    try:
        _claim(directory)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fix = "name a directory that can be written with --directory"
        raise NeedsOperator(f"cannot be written: {reason}", where=str(directory), fix=fix) from None
    lock = LedgerLock(directory / MARKER)
    try:
        lock.acquire()
    except LedgerHeld as error:
        fix = "let that demo end, or name another directory with --directory"
        raise LedgerHeld(error.what, where=str(directory), fix=fix) from None
    try:
        _empty(directory)
        yield directory
    finally:
        lock.release()


def write_private(path: Path, document: dict[str, Any]) -> None:
    """Write `document` as JSON that only its owner may read, since it holds a secret."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as text:
        json.dump(document, text, indent=2)
        text.write("\n")


def _claim(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()) and not (directory / MARKER).is_file():
        fix = "name a new directory with --directory"
        raise NeedsOperator("is not empty and was not made by a demo", where=str(directory), fix=fix)
    (directory / MARKER).touch(mode=0o600)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
