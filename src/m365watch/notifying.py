"""The notifications of a configuration: what carries them to each target, and their part of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from m365watch.clock import Clock, Random
from m365watch.config.settings import DetectionSettings, OutputSettings, Settings
from m365watch.config.targets import (
    EmailTarget,
    OutputTarget,
    PagerDutyTarget,
    SlackTarget,
    SyslogTarget,
    TargetSettings,
    TeamsTarget,
    WebhookTarget,
)
from m365watch.entra.session import Session
from m365watch.outputs.port import Output
from m365watch.values import dataclass

if TYPE_CHECKING:
    from m365watch.notify.sender import Sender

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


@asynccontextmanager
async def notifying(settings: Settings, means: NotifyingMeans, *, once: bool) -> AsyncIterator[None]:
    """Within the block the targets are told of alerts. The outputs are open, and with them the detections.

    Nothing is imported where there are no targets.
    Raises: OutputUnusable, OutputUnavailable: the file of notifications cannot be used.
    """
    detections = settings.detections
    if not detections.enabled or not detections.targets:
        yield
        return
    from m365watch.detect.output import FILE_NAME
    from m365watch.notify.notifier import Notifier

    made = [(target, make_sender(target, settings, means)) for target in detections.targets]
    notifier = Notifier(
        made,
        directory=settings.state_directory,
        detections=settings.state_directory / FILE_NAME,
        clock=means.clock,
        random=means.random,
    )
    try:
        await notifier.open()
        await asyncio.to_thread(warn_of_unknown_rules, detections)
        notifier.start()
        yield
        await notifier.finish(limit_s=FINISH_ONCE_S if once else FINISH_S)
    finally:
        await notifier.close()


def make_sender(target: TargetSettings, settings: Settings, means: NotifyingMeans) -> Sender:
    """What carries notifications to the target; nothing is connected yet."""
    collector, clock = settings.collector_name, means.clock
    match target:
        case WebhookTarget() | SlackTarget() | TeamsTarget() | PagerDutyTarget():
            from m365watch.notify.posting import PostSender

            return PostSender(target, means.session, collector=collector, clock=clock)
        case EmailTarget():
            from m365watch.notify.mailing import MailSender

            return MailSender(target, collector=collector)
        case SyslogTarget():
            from m365watch.notify.wiring import LineSender

            return LineSender(target, collector=collector, clock=clock, random=means.random)
        case OutputTarget():
            from m365watch.notify.handing import RecordSender

            return RecordSender(target, build=means.build, collector=collector, clock=clock)


def unknown_rules(settings: DetectionSettings) -> dict[str, list[str]]:
    """By target: words of its `rules` that name no rule in force, so that no alert ever goes by them."""
    if not any(target.wishes.rules for target in settings.targets):
        return {}
    from m365watch.detect.risk import make_risk_rule
    from m365watch.detecting import load_rules

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
