"""Which alerts have changed since somebody looked, as the outbox of the file of detections has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from m365watch.common.errors import OutputUnavailable
from m365watch.detection.store.detection_store import DetectionState
from m365watch.notifications.notification import Standing, standing_of
from m365watch.notifications.notification_database import GARBLED, identity_of
from m365watch.storage.database import DatabaseError

CHANGES_AT_ONCE = 500


class Changes:
    """The outbox of one file of detections; one thread uses it."""

    def __init__(self, path: Path, *, survives_power_cuts: bool = True) -> None:
        """Open the file, which is there. Raises: OutputUnusable."""
        self._path = path
        self._file = identity_of(path)
        self._state = DetectionState(path, survives_power_cuts=survives_power_cuts)
        self._outbox = self._state.outbox
        self.list_former = self._outbox.add_all
        """Have the outbox begin with all that is there, for whoever can take it later."""

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one at its place: it may have been made anew."""
        return self._file is not None and self._file == identity_of(self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._state.close()

    @property
    def is_kept(self) -> bool:
        """Whether the outbox is kept. Raises: OutputUnavailable."""
        with self._failing():
            return self._outbox.is_kept

    def begin(self, take_former: Callable[[], None]) -> None:
        """Have the outbox kept from now on; where it was not, what is there already is taken first.

        It is not begun where that fails: whoever found one would take what was there for known.
        Raises: OutputUnavailable; what `take_former` does.
        """
        with self._failing():
            if not self._outbox.is_kept:
                self._outbox.begin(take_former)

    def take(self) -> tuple[list[tuple[str, Standing | None]], int]:
        """The next alerts that have changed, as they stand (None: gone), and the number for `forget`.

        Those that are there come first: one may have taken the place of another that is gone.
        Raises: OutputUnavailable.
        """
        with self._failing():
            rows = self._outbox.list(most=CHANGES_AT_ONCE)
            found = [(alert, self._find(alert)) for _, alert in rows]
        found.sort(key=lambda one: one[1] is None)
        return found, rows[-1][0] if rows else 0

    def forget(self, number: int) -> None:
        """Whatever had changed up to that number is known. Raises: OutputUnavailable."""
        with self._failing():
            self._outbox.forget(until=number)

    def list_all(self, *, since_ms: int) -> list[tuple[str, Standing | None]]:
        """Every alert that was still going on at `since_ms` or later. Raises: OutputUnavailable."""
        with self._failing():
            return [(kept.alert.id, standing_of(kept)) for kept in self._state.alerts.list(since_ms=since_ms)]

    def _find(self, alert_id: str) -> Standing | None:
        kept = self._state.alerts.find(alert_id)
        if kept is None or not kept.shown or kept.alert.id != alert_id:
            return None
        return standing_of(kept)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, *GARBLED) as error:
            said = str(error) if isinstance(error, DatabaseError) else "a row is not as it was written"
            raise OutputUnavailable(
                f"the file of detections cannot be used: {said}", where=str(self._path)
            ) from None
