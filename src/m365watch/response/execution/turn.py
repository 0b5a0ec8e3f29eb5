"""One response at a time: two that go on at once could each take the other's administrator for one left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from m365watch.common.errors import LedgerHeld, NeedsOperator, ResponseHeld
from m365watch.ledger.lock import LedgerLock, cure_beside_collector

LOCK_FILE = "responses.lock"


@contextmanager
def turn_held(state_directory: Path, *, by: str, alert: str) -> Iterator[None]:
    """Whoever is in the block is the only one; the operating system ends it with the process.

    Raises: ResponseHeld: who is, and for which alert; NeedsOperator: the lock's file cannot be written.
    """
    path = state_directory / LOCK_FILE
    lock = LedgerLock(path, says=f"{by}, for the alert {alert[:8]}")
    try:
        lock.acquire()
    except LedgerHeld as held:
        raise ResponseHeld(
            f"another response is under way, {held.what}",
            # What it has done is in the journal, and a question does nothing.
            fix=(
                "wait until it has ended, or end that process if it was left at a question; then read the"
                " plan again; nothing was done here"
            ),
            where=held.where,
        ) from None
    except OSError as error:
        raise NeedsOperator(
            f"it cannot be made sure that nobody else responds meanwhile: {error.strerror}",
            fix=cure_beside_collector(error),
            where=str(path),
        ) from None
    try:
        yield
    finally:
        lock.release()
