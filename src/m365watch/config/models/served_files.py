"""The certificate and the key that something listens with: the receiver of notifications, or the board."""

from __future__ import annotations

import os
from pathlib import Path

from m365watch.common.file_access import read_with_status
from m365watch.config.document import Document
from m365watch.config.secrets import FileGuard
from m365watch.config.validation_report import KeyPath, Report

_KEY_BYTES_MAX = 65_536


def settle_served_file(
    section: Document, path: KeyPath, folder: Path, guard: FileGuard | None, report: Report
) -> None:
    """The path is absolute; the file is there, and a key's is its owner's alone."""
    key = str(path[-1])
    written = section[key]
    if not isinstance(written, str) or path in report.mistakes:
        return
    place = Path(os.path.normpath(folder / written))
    section[key] = str(place)
    if guard is None:
        return
    try:
        _, status = read_with_status(place, bytes_max=_KEY_BYTES_MAX)
        warning = guard.check(place, status) if key == "private_key_file" else None
    except FileNotFoundError:
        report.refuse_value(path, written, "cannot be read: No such file or directory")
    except ValueError as error:
        report.refuse_value(path, written, str(error))
    else:
        if warning is not None:
            report.warn(path, warning)
