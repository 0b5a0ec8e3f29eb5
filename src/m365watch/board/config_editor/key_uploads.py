"""Certificates and keys that come from a page, kept in the state directory, each for its destination.

The name of an uploaded file says what it is bound to: its key, the application or output that it is of, and
every server that it can reach. A section may name it only while all of these are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.atomic_files import sync_folder
from m365watch.common.errors import NeedsOperator
from m365watch.config.document import Document, section_at
from m365watch.config.sensitive_keys import destinations_of, key_of
from m365watch.config.validation_report import KeyPath, show_path

FOLDER = "uploads"
"""In the state directory."""
FILES_MAX = 1_000
_NAME = re.compile(r"([a-z_]+)-([0-9a-f]{32})-[0-9a-f]{16}\.pem")


def binding_of(kind: str, name: str, path: KeyPath, section: Document) -> str:
    """What an uploaded file at `path` of the section is bound to.

    An input's belongs to its application, which several inputs may share; an output's to the output.
    """
    owner = str(section_at(section, "credentials").get("client_id")).lower() if kind == "inputs" else name
    goes = {show_path(key): to for key, to in destinations_of(kind, section).items() if key != path}
    bound = json.dumps([kind, owner, key_of(path), sorted(goes.items())])
    return hashlib.sha256(bound.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Uploads:
    """The uploaded files of one state directory."""

    state_directory: Path

    def find(self, text: str) -> Path | None:
        """The uploaded file that the path means; None where it means another."""
        folder, place = self.state_directory / FOLDER, Path(text)
        if place.parent.parent != folder or not _NAME.fullmatch(place.name):
            return None
        is_linked = place.is_symlink() or place.parent.is_symlink()
        return place if place.is_file() and not is_linked else None

    def is_bound(self, place: Path, binding: str) -> bool:
        """Whether the uploaded file is bound to just this."""
        found = _NAME.fullmatch(place.name)
        return found is not None and found[2] == binding

    def keep(self, kind: str, name: str, path: KeyPath, content: bytes, *, binding: str) -> str:
        """Keep the content for the section; the path by which the configuration names it.

        Raises: NeedsOperator: it cannot be written, or there are too many.
        """
        root = self.state_directory / FOLDER
        folder = root / f"{kind}.{name}"
        place = folder / f"{key_of(path)[-1]}-{binding}-{secrets.token_hex(8)}.pem"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if sum(1 for _ in root.glob("*/*.pem")) >= FILES_MAX:
                fix = "remove those that the configuration does not name"
                raise NeedsOperator(f"holds {FILES_MAX:,} uploaded files", fix=fix, where=str(root))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(place, flags, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(folder)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            fix = "let the board run as the collector's user"
            raise NeedsOperator(f"the upload cannot be kept: {reason}", fix=fix, where=str(root)) from None
        return str(place)
