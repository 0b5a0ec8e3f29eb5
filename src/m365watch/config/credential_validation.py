"""The certificate files of outputs: found where Devo's collector finds them, and looked at before a run."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from m365watch.common.file_access import read_small_file
from m365watch.config.sections import Document, section_at
from m365watch.config.validation_report import KeyPath, Report
from m365watch.http.pem import PEM_KEY, PEM_TRUSTED

CERTIFICATES_FOLDER = "certs"
FILE_BYTES_MAX = 1_048_576

_KINDS = {
    "chain": (PEM_TRUSTED, "holds no certificate in PEM; give the authority's certificates"),
    "cert": (PEM_TRUSTED, "holds no certificate in PEM; give the client's certificate"),
    "key": (PEM_KEY, "holds no private key in PEM; give the key that belongs to cert"),
}
_OTHERS_CAN_READ = 0o044
_NOTIFICATIONS = ("detections", "notifications")


def find_certificates(document: Document, *, folder: Path, report: Report) -> None:
    """Set `chain`, `cert` and `key` of outputs and targets of notifications to absolute paths, in place.

    A file that is missing or of the wrong kind is a mistake. A key that others can read is a warning only:
    certificates are often mounted into a container with a mode that nobody in it can change.
    """
    places = [("outputs", name, "config") for name in section_at(document, "outputs")]
    places += [(*_NOTIFICATIONS, name) for name in section_at(document, *_NOTIFICATIONS)]
    for place in places:
        config = section_at(document, *place)
        for key in _KINDS:
            path: KeyPath = (*place, key)
            file = config.get(key)
            if isinstance(file, str) and file.strip() and path not in report.mistakes:
                try:
                    found, mode = _find(file, key, folder)
                except ValueError as error:
                    report.refuse_value(path, file, str(error))
                    continue
                config[key] = str(found)
                if key == "key" and mode & _OTHERS_CAN_READ:
                    report.warn(path, f"others can read this key; run: chmod 600 {shlex.quote(str(found))}")


def _find(file: str, key: str, folder: Path) -> tuple[Path, int]:
    """The file's absolute path and its mode.

    Raises:
        ValueError: the end of a sentence that starts with the file's name.
    """
    if file.startswith("~"):
        raise ValueError("starts with ~, which is not expanded here; write ${HOME}")
    places = [Path(os.path.normpath(place / file)) for place in _places(folder)]
    for place in dict.fromkeys(places):
        try:
            content, mode = read_small_file(place, bytes_max=FILE_BYTES_MAX)
        except FileNotFoundError:
            continue
        pattern, lack = _KINDS[key]
        if not pattern.search(content):
            raise ValueError(lack)
        return place, mode
    looked = " or ".join(dict.fromkeys(str(place.parent) for place in places))
    raise ValueError(f"is not there; put it into {looked}, or give its whole path")


def _places(folder: Path) -> tuple[Path, ...]:
    return folder, folder / CERTIFICATES_FOLDER, folder.parent / CERTIFICATES_FOLDER
