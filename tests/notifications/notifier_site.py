"""A place where a notifier runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from m365watch.notifications.notification_database import NotificationFile
from m365watch_testing.clock import FakeClock
from notify_scene import Detections, Receiver, notifier_of, target_named

MINUTE_S, HOUR_S = 60.0, 3_600.0


class Site:
    """One folder, its alerts, and runs of the notifier in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.detections = Detections(folder)

    async def run(self, use: Callable[[], Awaitable[None]], **receivers: Receiver) -> None:
        """A run that tells these receivers, each target as usual."""
        await self.run_targets([(target_named(name), one) for name, one in receivers.items()], use)

    async def run_targets(self, targets: list, use: Callable[[], Awaitable[None]]) -> None:  # type: ignore[type-arg]
        notifier = notifier_of(self.folder, *targets, clock=self.clock)
        await notifier.open()
        notifier.start()
        await self.pass_by(1)
        try:
            await use()
        finally:
            await notifier.close()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.advance(seconds)

    @contextmanager
    def file(self) -> Iterator[NotificationFile]:
        """The file, as another process opens it."""
        file = NotificationFile(self.folder / "notifications.sqlite", survives_power_cuts=False)
        yield file
        file.close()


def at(folder: Path, use: Callable[[Site], Awaitable[None]]) -> None:
    structlog.reset_defaults()
    asyncio.run(use(Site(folder)))  # type: ignore[arg-type]
