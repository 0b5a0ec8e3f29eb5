"""The notifications of a configuration: what carries them to each target, and their part of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.settings import Settings
from m365watch.registry.channel_specs import CHANNELS, Channel, ChannelContext, Sender

if TYPE_CHECKING:
    from m365watch.notifications.notifier import Notifier, NotifierSupervisor

_log = structlog.get_logger(__name__)
FINISH_S = 5.0
"""How long the end of a run waits for what is being told."""
FINISH_ONCE_S = 30.0
"""The same with `--once`, after which nobody goes on for a while."""


class Notifications:
    """Tells the targets of alerts; they may become others while a run lasts."""

    def __init__(self, settings: Settings, context: ChannelContext) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._context = context
        self._supervisor: NotifierSupervisor | None = None

    async def begin(self) -> None:
        """Begin to tell, or say why not; a run goes on. Nothing is imported where there are no targets."""
        detections = self._settings.detections
        if not detections.enabled or not detections.channels:
            return
        from m365watch.notifications.notification_database import FILE_NAME
        from m365watch.notifications.notifier import NotifierSupervisor

        path = self._settings.state_directory / FILE_NAME
        self._supervisor = NotifierSupervisor(self._make_notifier, path=path, clock=self._context.clock)
        await asyncio.to_thread(warn_of_unknown_rules, detections)
        await self._supervisor.begin()

    def _make_notifier(self) -> Notifier:
        from m365watch.detection.detection_output import FILE_NAME
        from m365watch.notifications.notifier import Notifier

        state, channels = self._settings.state_directory, self._settings.detections.channels
        return Notifier(
            [(channel, make_sender(channel, self._context)) for channel in channels],
            directory=state,
            detections=state / FILE_NAME,
            clock=self._context.clock,
            random=self._context.random,
        )

    async def change(self, settings: Settings) -> None:
        """Tell the targets of these settings from now on; what waits for those that stay is told by them."""
        before, self._settings = self._settings, settings
        if before.detections.channels != settings.detections.channels:
            await self.finish(limit_s=FINISH_S)
            await self.close()
            await self.begin()

    async def finish(self, *, limit_s: float) -> None:
        """Tell what is due, for `limit_s` seconds at most."""
        if self._supervisor is not None:
            await self._supervisor.finish(limit_s=limit_s)

    async def close(self) -> None:
        """Stop; what was not told waits in the file."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            await supervisor.close()


@asynccontextmanager
async def notifying(
    settings: Settings, context: ChannelContext, *, once: bool
) -> AsyncIterator[Notifications]:
    """Within the block the targets are told of alerts. The outputs are open, and with them the detections."""
    notifications = Notifications(settings, context)
    try:
        await notifications.begin()
        yield notifications
        await notifications.finish(limit_s=FINISH_ONCE_S if once else FINISH_S)
    finally:
        await notifications.close()


def make_sender(channel: Channel[Any], context: ChannelContext) -> Sender:
    """What carries notifications to the channel; its libraries are imported only now."""
    return CHANNELS.by_name[channel.type].build(channel, context)


def unknown_rules(settings: DetectionsSection) -> dict[str, list[str]]:
    """By target: words of its `rules` that name no rule in force, so that no alert ever goes by them."""
    if not any(one.section.rules for one in settings.channels):
        return {}
    from m365watch.detection.correlation.risk_score import make_risk_rule
    from m365watch.detection.factory import load_rules

    rules = [*load_rules(settings).rules, make_risk_rule()]
    names = {name.lower() for rule in rules for name in (rule.id, rule.extension.detection)}
    titles = "\n".join(rule.title.lower() for rule in rules)
    return {
        channel.name: unknown
        for channel in settings.channels
        if (unknown := [one for one in channel.section.rules if one not in names and one not in titles])
    }


def warn_of_unknown_rules(settings: DetectionsSection) -> None:
    """A line for each target that waits for alerts of rules that there are not."""
    for name, unknown in unknown_rules(settings).items():
        _log.warning(
            f"notifications {name}: no rule in force is called {', '.join(unknown)}: no alert goes by that; "
            "`m365watch rules list` names the rules"
        )
