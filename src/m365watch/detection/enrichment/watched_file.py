"""A file that is read again when it has changed: looked at now and then, when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from m365watch.common.clock import Clock

T = TypeVar("T")
Tell = Callable[[str], None]
LOOKS_EVERY_S = 10.0
"""How long a change may go unseen."""


def say_nothing(_: str) -> None:
    """For whoever asks for troubles and is told none."""


class Watched(Generic[T]):
    """What a file holds. A version that cannot be read changes nothing: the one before stays."""

    def __init__(
        self, path: Path, *, read: Callable[[Path], T], empty: T, clock: Clock, tell: Tell = say_nothing
    ) -> None:
        """Nothing is read before it is asked for; `read` raises ValueError or OSError where it cannot.

        `tell` gets a line for each trouble, once.
        """
        self.path = path
        self.trouble = ""
        """What is wrong with the file as it is; empty where it was read."""
        self.version = 0
        """Grows with each version that was read."""
        self._tell = tell
        self._read = read
        self._held = empty
        self._clock = clock
        self._looked_at_s: float | None = None
        self._seen: tuple[int, int, int] | None = None

    def go_on_from(self, before: Watched[T]) -> None:
        """Know what another one knows of the same file, which may be lost by now."""
        if before.path == self.path and before._read is self._read:
            self._held, self._seen = before._held, before._seen
            self.trouble, self.version = before.trouble, before.version

    @property
    def held(self) -> T:
        """What the file holds, as of `LOOKS_EVERY_S` ago at most."""
        now_s = self._clock.monotonic_s()
        if self._looked_at_s is None or now_s - self._looked_at_s >= LOOKS_EVERY_S:
            self.look()
        return self._held

    def look(self) -> None:
        """Read the file if it is another than it was."""
        self._looked_at_s = self._clock.monotonic_s()
        try:
            status = self.path.stat()
        except OSError as error:
            is_gone = isinstance(error, FileNotFoundError)
            self._complain("there is no such file" if is_gone else str(error.strerror))
            self._seen = None
            return
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._held = self._read(self.path)
        except (ValueError, OSError) as error:
            self._complain(str(error) or type(error).__name__)
        else:
            self.trouble = ""
            self.version += 1

    def _complain(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._tell(f"{self.path}: {trouble}")
