"""The time by a service's own answers, for a machine whose clock is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from m365watch.common.clock import Clock
from m365watch.common.errors import ClockWrong

OFF_MAX = timedelta(seconds=60)
"""A clock that is off by more is wrong. NTP keeps one right to a second, `Date` has whole seconds, servers
may differ by a few; `check` tells of 5 s already, and fails from 5 minutes on."""
_YEARS = range(2020, 2200)
"""What a service's clock can say; any other `Date` is a mistake, or an attempt to stop the collector."""
_WHOLE_SECOND = timedelta(seconds=1)
_UNITS = ((timedelta(days=1), "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes"))


class ServiceClock:
    """Implements `Clock`: the machine's clock, corrected where a service's answers say that it is wrong."""

    def __init__(self, clock: Clock) -> None:
        """Until the first answer, the machine's clock is believed."""
        self.ahead = timedelta(0)
        """How far the machine's clock is ahead of the service's; 0 where that is at most `OFF_MAX`."""
        self.knows_service = False
        """Whether an answer has said what time it is."""
        self._clock = clock
        self._compared: timedelta | None = None
        """How far the time of day was from the monotonic one at the last answer."""

    def now(self) -> datetime:
        """The present instant, as the service sees it."""
        return self._clock.now() - self.ahead

    def monotonic_s(self) -> float:
        """Seconds on the machine's monotonic clock."""
        return self._clock.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; can be cancelled."""
        await self._clock.sleep(seconds)

    @property
    def is_current(self) -> bool:
        """Whether an answer has come since the machine's clock last jumped."""
        return self._compared is not None and abs(self._from_monotonic() - self._compared) <= OFF_MAX

    def compare(self, date: str | None, *, took_s: float) -> None:
        """An answer that has just come, `took_s` after its request was sent, has this `Date`."""
        self._compared = self._from_monotonic()
        try:
            there = parsedate_to_datetime(date or "")
            most = self._clock.now() - (there if there.tzinfo else there.replace(tzinfo=UTC))
        except (ValueError, TypeError, OverflowError):
            return
        if there.year not in _YEARS:
            return
        self.knows_service = True
        # The service wrote it at some time between the request and now.
        least = most - timedelta(seconds=took_s) - _WHOLE_SECOND
        # Once wrong, a clock has to be clearly right again, so that one at the bound does not go to and fro.
        off_max = OFF_MAX / 2 if self.ahead else OFF_MAX
        if least <= off_max and most >= -off_max:
            self.ahead = timedelta(0)
        elif not least - OFF_MAX <= self.ahead <= most + OFF_MAX:
            self.ahead = least if least > timedelta(0) else most

    def error(self, where: str) -> ClockWrong | None:
        """What is wrong with the machine's clock, if anything is; `where` names the tenant."""
        if not self.ahead:
            return None
        unit, name = next((one for one in _UNITS if abs(self.ahead) >= 2 * one[0]), _UNITS[-1])
        side = "ahead of" if self.ahead > timedelta(0) else "behind"
        return ClockWrong(
            f"this machine's clock is {side} the service's by {abs(self.ahead) / unit:.0f} {name}; content is"
            " collected by the service's",
            where=where,
            fix="set the clock right and keep it so, with NTP or chrony",
        )

    def _from_monotonic(self) -> timedelta:
        epoch = datetime.fromtimestamp(0, UTC)
        return self._clock.now() - epoch - timedelta(seconds=self._clock.monotonic_s())
