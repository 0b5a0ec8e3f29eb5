"""The notifications of a configuration: what carries them to each target, and their part of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.config.models.settings import DetectionSettings, Settings
from m365watch.config.models.targets import (
    EmailTarget,
    OutputTarget,
    PagerDutyTarget,
    SlackTarget,
    SyslogTarget,
    TargetSettings,
    TeamsTarget,
    WebhookTarget,
)
from m365watch.http.client import Session
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import Output

if TYPE_CHECKING:
    from m365watch.notifications.channel_port import Sender
    from m365watch.notifications.notifier import Notifier
    from m365watch.notifications.notifier_telling import Telling

_log = structlog.get_logger(__name__)
FINISH_S = 5.0
"""How long the end of a run waits for what is being told."""
FINISH_ONCE_S = 30.0
"""The same with `--once`, after which nobody goes on for a while."""


@dataclass(frozen=True, slots=True)
class NotifyingMeans:
    """What notifications are carried with."""

    session: Session
    build: Callable[[OutputSettings], Output]
    clock: Clock
    random: Random


class Notifications:
    """Tells the targets of alerts; they may become others while a run lasts."""

    def __init__(self, settings: Settings, means: NotifyingMeans) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._means = means
        self._telling: Telling | None = None

    async def begin(self) -> None:
        """Begin to tell, or say why not; a run goes on. Nothing is imported where there are no targets."""
        detections = self._settings.detections
        if not detections.enabled or not detections.targets:
            return
        from m365watch.notifications.notification_database import FILE_NAME
        from m365watch.notifications.notifier_telling import Telling

        path = self._settings.state_directory / FILE_NAME
        self._telling = Telling(self._make_notifier, path=path, clock=self._means.clock)
        await asyncio.to_thread(warn_of_unknown_rules, detections)
        await self._telling.begin()

    def _make_notifier(self) -> Notifier:
        from m365watch.detection.detection_output import FILE_NAME
        from m365watch.notifications.notifier import Notifier

        state, targets = self._settings.state_directory, self._settings.detections.targets
        return Notifier(
            [(target, make_sender(target, self._settings, self._means)) for target in targets],
            directory=state,
            detections=state / FILE_NAME,
            clock=self._means.clock,
            random=self._means.random,
        )

    async def change(self, settings: Settings) -> None:
        """Tell the targets of these settings from now on; what waits for those that stay is told by them."""
        before, self._settings = self._settings, settings
        if before.detections.targets != settings.detections.targets:
            await self.finish(limit_s=FINISH_S)
            await self.close()
            await self.begin()

    async def finish(self, *, limit_s: float) -> None:
        """Tell what is due, for `limit_s` seconds at most."""
        if self._telling is not None:
            await self._telling.finish(limit_s=limit_s)

    async def close(self) -> None:
        """Stop; what was not told waits in the file."""
        telling, self._telling = self._telling, None
        if telling is not None:
            await telling.close()


@asynccontextmanager
async def notifying(settings: Settings, means: NotifyingMeans, *, once: bool) -> AsyncIterator[Notifications]:
    """Within the block the targets are told of alerts. The outputs are open, and with them the detections."""
    notifications = Notifications(settings, means)
    try:
        await notifications.begin()
        yield notifications
        await notifications.finish(limit_s=FINISH_ONCE_S if once else FINISH_S)
    finally:
        await notifications.close()


def make_sender(target: TargetSettings, settings: Settings, means: NotifyingMeans) -> Sender:
    """What carries notifications to the target; nothing is connected yet."""
    collector, clock = settings.collector_name, means.clock
    match target:
        case WebhookTarget() | SlackTarget() | TeamsTarget() | PagerDutyTarget():
            from m365watch.notifications.channels.webhook import PostSender

            return PostSender(target, means.session, collector=collector, clock=clock)
        case EmailTarget():
            from m365watch.notifications.channels.mail import MailSender

            return MailSender(target, collector=collector)
        case SyslogTarget():
            from m365watch.notifications.channels.syslog import LineSender

            return LineSender(target, collector=collector, clock=clock, random=means.random)
        case OutputTarget():
            from m365watch.notifications.channels.record_output import RecordSender

            return RecordSender(target, build=means.build, collector=collector, clock=clock)


def unknown_rules(settings: DetectionSettings) -> dict[str, list[str]]:
    """By target: words of its `rules` that name no rule in force, so that no alert ever goes by them."""
    if not any(target.wishes.rules for target in settings.targets):
        return {}
    from m365watch.detection.correlation.risk_score import make_risk_rule
    from m365watch.detection.factory import load_rules

    rules = [*load_rules(settings).rules, make_risk_rule()]
    names = {name.lower() for rule in rules for name in (rule.id, rule.extension.detection)}
    titles = "\n".join(rule.title.lower() for rule in rules)
    return {
        target.name: unknown
        for target in settings.targets
        if (unknown := [one for one in target.wishes.rules if one not in names and one not in titles])
    }


def warn_of_unknown_rules(settings: DetectionSettings) -> None:
    """A line for each target that waits for alerts of rules that there are not."""
    for name, unknown in unknown_rules(settings).items():
        _log.warning(
            f"notifications {name}: no rule in force is called {', '.join(unknown)}: no alert goes by that; "
            "`m365watch rules list` names the rules"
        )
