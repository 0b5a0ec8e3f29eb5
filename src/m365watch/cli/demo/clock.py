"""The demo tenant's time: an hour late at first, then quick until it has caught up with the present."""

from __future__ import annotations

from datetime import datetime, timedelta

from m365watch.common.clock import Clock

DELAY = timedelta(hours=1)
SPEED = 150
"""How many times as fast as life the tenant lives through that hour: a few blobs come out every second."""


class QuickClock:
    """A `Clock` that runs up to the machine's own.

    What a tenant with this clock publishes has a contentCreated that its collector passed
    already: content that comes late, which every poll lists again for.
    """

    def __init__(self, machine: Clock) -> None:
        """`machine` is the clock that it runs up to."""
        self._machine = machine
        self._started_at = machine.now()

    def now(self) -> datetime:
        """The tenant's present, aware, in UTC; never later than the machine's."""
        present = self._machine.now()
        gained = (present - self._started_at) * (SPEED - 1)
        return present - max(timedelta(0), DELAY - gained)

    def monotonic_s(self) -> float:
        """Seconds of the machine."""
        return self._machine.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of the machine."""
        await self._machine.sleep(seconds)
