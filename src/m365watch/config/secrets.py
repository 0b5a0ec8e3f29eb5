"""Who may read a file with a secret in it: its owner alone, unless whoever runs the machine saw to it.

Three ways of handing a secret to a service give its file another mode than 0600, and nobody in the
service can change that: systemd's credentials, Docker's secrets, and a Kubernetes volume with an `fsGroup`.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd names the folder of a service's credentials.

Source: systemd.exec(5), "LoadCredential=".
"""

DOCKER_SECRETS = Path("/run/secrets")
"""Where Docker puts a container's secrets, by default with mode 0444.

Source: Docker's manual, "Manage sensitive data with Docker secrets".
"""

_ANYBODY_ELSE = 0o077
_WORLD = 0o007
_WRITERS_ELSE = 0o022
_GROUP_READS_AT_MOST = 0o037
_OTHERS_READ = 0o044


@dataclass(frozen=True, slots=True)
class FileGuard:
    """Judges the files of secrets."""

    allows_readable: bool = False
    """`globals.allow_readable_secrets`: what others can use is let pass, with a warning."""
    credentials_folder: Path | None = None
    """systemd's, where there is one."""
    docker_folder: Path = DOCKER_SECRETS
    user: int = 0
    """The user that the collector runs as."""

    def check(self, path: Path, status: os.stat_result) -> str | None:
        """None for a file that is nobody else's business; a warning where that is let pass.

        Raises:
            ValueError: others can use it; the end of a sentence that starts with the file's name.
        """
        mode = status.st_mode
        if not mode & _ANYBODY_ELSE or self._is_handed_over(path, status):
            return None
        said = f"can be {'read' if mode & _OTHERS_READ else 'used'} by others (mode {stat.S_IMODE(mode):04o})"
        cure = f"run: chmod 600 {shlex.quote(str(path))}"
        if not self.allows_readable:
            raise ValueError(f"{said}; {cure}")
        return f"UNSAFE: the file {said}, which globals.allow_readable_secrets lets pass; {cure}"

    def judge_token(self, path: Path, status: os.stat_result) -> str | None:
        """What is odd about the mode of a federated token's file; None if nothing is.

        Such a token lives an hour or so. Kubernetes writes it 0644 unless the pod has an `fsGroup` or runs as
        one user; that keeps no collector from starting, and a group is let be.
        """
        if not status.st_mode & _WORLD or self._is_handed_over(path, status):
            return None
        mode = stat.S_IMODE(status.st_mode)
        return (
            f"others can read the token (mode {mode:04o}); in Kubernetes set the pod's fsGroup, "
            f"elsewhere run: chmod o-rwx {shlex.quote(str(path))}"
        )

    def _is_handed_over(self, path: Path, status: os.stat_result) -> bool:
        """Whether the machine's administrator gave the file to this service, with a mode of its own."""
        mode, place = status.st_mode, Path(os.path.realpath(path))
        if self.credentials_folder is not None and place.is_relative_to(self.credentials_folder):
            # The bits of the group stand for the access list by which systemd lets the service read.
            return not mode & _WORLD
        if place.is_relative_to(self.docker_folder):
            # Seen in this container alone; but who could write it, could exchange it.
            return not mode & _WRITERS_ELSE
        # Root's file, read through its group: that is how `fsGroup` lets a container without root read.
        return status.st_uid == 0 != self.user and not mode & _GROUP_READS_AT_MOST


def guard_for(environment: Mapping[str, str], *, allows_readable: bool) -> FileGuard:
    """The guard of this process."""
    folder = environment.get(CREDENTIALS_VARIABLE)
    return FileGuard(
        allows_readable=allows_readable,
        credentials_folder=Path(os.path.realpath(folder)) if folder else None,
        user=os.geteuid(),
    )
