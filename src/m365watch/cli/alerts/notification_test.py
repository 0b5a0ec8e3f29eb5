"""`m365watch alerts notify`: how each target of notifications stands, and each tried by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.terminal.error_output import EXIT_FAILED
from m365watch.common.timestamps import ms_of

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings
    from m365watch.registry.channel_specs import Channel
    from m365watch.registry.checks import Checked

LIMIT_S = 30.0
"""How long one target may take over a test."""


def notify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Only these targets.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    test: Annotated[
        bool, typer.Option("--test", help="Send each target a test that says that it is one. It does page.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Have what a target refused tried once more, and each at once.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show how each target of notifications stands: what it was told, what waits for it, and what it refused.

    With --test, send each a notification that shows how alerts look there, a line each, with what to do where
    it fails; an incident that it opens at PagerDuty is resolved at once. What waits is told by a run.

    Exit codes: 0 done; 1 a test failed; 2 there is no such target, or the configuration is wrong.
    """
    settings = read_settings(config, job=job, collector=collector_file, for_reading=not test)
    targets = _wanted(settings, names or [])
    if test:
        raise typer.Exit(_test(settings, targets, as_json=as_json))
    if again:
        _try_again(settings, targets, as_json=as_json)
        return
    _show(settings, targets, as_json=as_json)


def _wanted(settings: Settings, names: Sequence[str]) -> list[Channel[Any]]:
    """The targets that are meant. Raises: typer.BadParameter: a name is none's, or there is no target."""
    targets = {one.name: one for one in settings.detections.channels}
    if not targets:
        raise typer.BadParameter(
            "the configuration has no targets; detections.notifications names who is told of alerts"
        )
    for name in names:
        if name not in targets:
            raise typer.BadParameter(f"there is no target {name!r}; there are {', '.join(targets)}")
    return [one for name, one in targets.items() if not names or name in names]


def _test(settings: Settings, channels: Sequence[Channel[Any]], *, as_json: bool) -> int:
    from m365watch.cli.alerts.notifications_view import test_line, tests_document
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.registry.checks import Verdict

    tests = run_in_loop(_send_tests(settings, channels))
    if as_json:
        write_line(to_json(tests_document(tests)))
    else:
        for channel, test in tests:
            stdout_console().print(test_line(channel, test), crop=False)
    return 0 if all(test.verdict is Verdict.OK for _, test in tests) else EXIT_FAILED


async def _send_tests(
    settings: Settings, channels: Sequence[Channel[Any]]
) -> list[tuple[Channel[Any], Checked]]:
    from contextlib import suppress

    from m365watch.common.clock import SystemClock, system_random
    from m365watch.common.errors import CollectorError
    from m365watch.http.client import open_session
    from m365watch.notifications.channel_check import send_test
    from m365watch.notifications.factory import make_sender
    from m365watch.outputs.factory import refuse_to_make
    from m365watch.registry.channel_specs import ChannelContext

    clock = SystemClock()
    tenant = settings.tenants[0].tenant_id if settings.tenants else ""
    tests = []
    async with open_session(stall_s=LIMIT_S, total_s=LIMIT_S) as session:
        context = ChannelContext(
            session, clock, system_random(), settings.collector_name, settings.outputs, refuse_to_make
        )
        for channel in channels:
            sender = make_sender(channel, context)
            now_ms = ms_of(clock.now())
            test = await send_test(channel, sender, tenant=tenant, now_ms=now_ms, limit_s=LIMIT_S)
            tests.append((channel, test))
            with suppress(CollectorError):
                await sender.close()
    return tests


def _try_again(settings: Settings, targets: Sequence[Channel[Any]], *, as_json: bool) -> None:
    from m365watch.cli.terminal.formatting import count
    from m365watch.cli.terminal.json_output import done_document
    from m365watch.common.clock import SystemClock
    from m365watch.notifications.channel_status import opened, try_again

    now_ms = ms_of(SystemClock().now())
    with opened(settings.state_directory, looks_only=False) as file:
        found = 0 if file is None else try_again(file, [one.name for one in targets], now_ms=now_ms)
    if as_json:
        write_line(done_document(notifications=found))
    else:
        write_line(f"{count(found, 'notification')} that had been refused wait again")


def _show(settings: Settings, targets: Sequence[Channel[Any]], *, as_json: bool) -> None:
    from m365watch.cli.alerts.notifications_view import standings_document, standings_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.notifications.channel_status import read_standings

    now = SystemClock().now()
    names = [one.name for one in targets]
    standings = read_standings(settings.state_directory, names, now_ms=ms_of(now))
    if as_json:
        write_line(to_json(standings_document(targets, standings, now=now)))
    else:
        stdout_console().print(standings_page(targets, standings, now=now), crop=False)
