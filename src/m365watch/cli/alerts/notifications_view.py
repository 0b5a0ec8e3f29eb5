"""What `m365watch alerts notify` and `status` show of notifications."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from m365watch.cli.terminal.formatting import count, moment, span, whole_line
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.common.text import plain
from m365watch.common.timestamps import instant_of_ms
from m365watch.notifications.channel_status import Aside, Standings, TargetFigures
from m365watch.notifications.notification_text import command_of, subject_of
from m365watch.registry.channel_specs import Channel
from m365watch.registry.checks import Checked, Verdict

ASIDE_SHOWN_MAX = 5
LATE = timedelta(minutes=5)
"""What has waited for longer shows in colour, also where nothing is known to be wrong."""


def standings_page(
    channels: Sequence[Channel[Any]], standings: Standings, *, now: datetime
) -> RenderableType:
    """A line for each target, and below it what is wrong and what it refused."""
    figures = {one.name: one for one in standings.figures}
    blocks: list[RenderableType] = []
    for channel in channels:
        found = figures.get(channel.name)
        head = Text.assemble((plain(channel.name), "bold"), f" ({channel.type}): ")
        blocks.append(head.append_text(_standing(found, now)))
        blocks += _troubles(found, now)
        aside = [one for one in standings.aside if one.target == channel.name]
        blocks += _aside_lines(channel.name, aside)
    return Group(*blocks)


def _standing(found: TargetFigures | None, now: datetime) -> Text:
    if found is None:
        return Text("no run has begun to tell it anything", style="dim")
    told = count(found.sent, "notification")
    last = f", the last at {moment(instant_of_ms(found.last_sent_ms))}" if found.last_sent_ms else ""
    text = Text(f"{told} taken{last}")
    if found.waiting:
        since = _waited(found, now)
        style = "yellow" if since is not None and since > LATE else ""
        text.append(f"; {count(found.waiting, 'alert')} wait{'s' if found.waiting == 1 else ''}", style=style)
    return text


def _waited(found: TargetFigures, now: datetime) -> timedelta | None:
    return now - instant_of_ms(found.oldest_ms) if found.oldest_ms else None


def _troubles(found: TargetFigures | None, now: datetime) -> list[Text]:
    if found is None or not found.trouble:
        return []
    since = span((now - instant_of_ms(found.trouble_at_ms)).total_seconds())
    lines = [whole_line(f"  for {since}: {plain(found.trouble)}", style="red")]
    next_at = instant_of_ms(found.next_ms)
    if next_at > now:
        lines.append(
            whole_line(
                f"  tried {count(found.tries, 'time')} in vain; next at {moment(next_at)}", style="dim"
            )
        )
    return lines


def _aside_lines(name: str, aside: Sequence[Aside]) -> list[Text]:
    if not aside:
        return []
    head = f"  {count(len(aside), 'notification')} refused; tried again with `alerts notify {name} --again`:"
    lines = [whole_line(head, style="yellow")]
    for one in aside[:ASIDE_SHOWN_MAX]:
        when = moment(instant_of_ms(one.at_ms))
        what = f"{when} {plain(one.reason)}: {plain(subject_of(one.notification))}"
        lines.append(whole_line(f"  {what}; `{command_of(one.notification)}`"))
    return lines


def standings_document(
    channels: Sequence[Channel[Any]], standings: Standings, *, now: datetime
) -> dict[str, Any]:
    """The same as JSON."""
    figures = {one.name: one for one in standings.figures}
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "targets": [
            {"name": one.name, "type": one.type, **figures_document(figures.get(one.name))}
            for one in channels
        ],
        "refused": [
            {
                "target": one.target,
                "at": instant(instant_of_ms(one.at_ms)),
                "reason": one.reason,
                "key": one.notification.key,
                "summary": subject_of(one.notification),
            }
            for one in standings.aside
        ],
    }


def figures_document(found: TargetFigures | None) -> dict[str, Any]:
    """A target's figures; zero where no run has told it anything."""
    return {
        "sent": found.sent if found else 0,
        "waiting": found.waiting if found else 0,
        "refused": found.aside if found else 0,
        "last_sent_at": _instant(found.last_sent_ms if found else 0),
        "oldest_waiting_at": _instant(found.oldest_ms if found else 0),
        "trouble": (found.trouble if found else "") or None,
        "trouble_since": _instant(found.trouble_at_ms if found else 0),
        "next_try_at": _instant(found.next_ms if found else 0),
        "tries": found.tries if found else 0,
    }


def _instant(at_ms: int) -> str | None:
    return instant(instant_of_ms(at_ms)) if at_ms else None


def status_lines(standings: Standings, *, now: datetime) -> list[Text]:
    """What `status` says: a line for all of them, and one for each target that something is wrong with."""
    if standings.fault is not None:
        return [whole_line(f"notifications: {standings.fault}", style="red")]
    found = standings.figures
    if not found:
        return []
    sent = sum(one.sent for one in found)
    waiting = sum(one.waiting for one in found)
    told = f"notifications: {count(sent, 'notification')} taken by {count(len(found), 'target')}"
    lines = [whole_line(told + (f"; {count(waiting, 'alert')} waiting" if waiting else ""))]
    for one in found:
        if one.trouble:
            since = span((now - instant_of_ms(one.trouble_at_ms)).total_seconds())
            waits = f"; {count(one.waiting, 'alert')} waiting" if one.waiting else ""
            words = f"notifications: {one.name}: for {since}: {plain(one.trouble)}{waits}"
            lines.append(whole_line(words, style="red"))
        if one.aside:
            words = f"notifications: {one.name}: {count(one.aside, 'notification')} refused"
            lines.append(whole_line(f"{words}; `m365watch alerts notify`", style="yellow"))
    return lines


def test_line(channel: Channel[Any], test: Checked) -> Text:
    """How a test went; what to do has a line of its own."""
    mark, style = ("ok", "green") if test.verdict is Verdict.OK else ("FAILED", "bold red")
    line = Text.assemble((mark, style), f"  {plain(channel.name)} ({channel.type}): {plain(test.seen)}")
    if test.fix:
        line.append(f"\n        {plain(test.fix)}", style="dim")
    return line


def tests_document(tests: Sequence[tuple[Channel[Any], Checked]]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "schema": SCHEMA,
        "targets": [
            {
                "name": channel.name,
                "type": channel.type,
                "ok": test.verdict is Verdict.OK,
                "seen": test.seen,
                "fix": test.fix,
            }
            for channel, test in tests
        ],
    }
