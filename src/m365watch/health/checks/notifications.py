"""The way to each target of notifications: connected to, secured, logged in at, and told nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from m365watch.common.errors import CollectorError
from m365watch.config.models.settings import Settings
from m365watch.notifications.factory import NotifyingMeans, make_sender, unknown_rules
from m365watch.registry.report import Check, Checked, bad, good, odd

_RULES = "correct its `rules`: `m365watch rules list` names the rules"


def _file(settings: Settings) -> list[Checked]:
    """That nobody is told of alerts, where the file of notifications cannot be read; it stays as it is."""
    from m365watch.notifications.channel_status import look_at_standings

    fault = None
    if settings.keeps_state:
        names = [one.name for one in settings.detections.targets]
        fault = look_at_standings(settings.state_directory, names, now_ms=0).fault
    if fault is None:
        return []
    fix = fault.fix or "see who else has it open"
    return [bad(Check.NOTIFICATION, f"{fault.where}: {fault.what}", fix=fix)]


async def check_notifications(settings: Settings, means: NotifyingMeans, *, limit_s: float) -> list[Checked]:
    """One step for each target; nobody is paged by it."""
    targets = settings.detections.targets if settings.detections.enabled else ()
    if not targets:
        return []
    from m365watch.notifications.channel_check import look_at

    senders = [make_sender(target, settings, means) for target in targets]
    trials = await asyncio.gather(
        *(look_at(target, sender, limit_s=limit_s) for target, sender in zip(targets, senders, strict=True))
    )
    for sender in senders:
        with suppress(CollectorError):
            await sender.close()
    file = await asyncio.to_thread(_file, settings)
    unknown = await asyncio.to_thread(unknown_rules, settings.detections)
    notes = [
        odd(Check.NOTIFICATION, f"no rule in force is called {', '.join(words)}", fix=_RULES, subject=name)
        for name, words in unknown.items()
    ]
    return (
        file
        + notes
        + [
            good(Check.NOTIFICATION, one.seen, subject=one.name)
            if one.is_good
            else bad(Check.NOTIFICATION, one.seen, fix=one.fix, subject=one.name)
            for one in trials
        ]
    )
