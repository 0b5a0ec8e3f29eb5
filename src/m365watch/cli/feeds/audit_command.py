"""`m365watch audit`: the service's whole week listed again and compared with the ledger, blob by blob."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Self

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.options import writes_records
from m365watch.cli.terminal.console import stderr_console, stdout_console, write_line
from m365watch.cli.terminal.input_warnings import warn_of_lakes
from m365watch.common.errors import LedgerHeld

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings
    from m365watch.health.completeness.audit_scheduler import AuditProgress
    from m365watch.health.completeness.auditor import AuditOrder
    from m365watch.health.completeness.feed_audit import FeedAudit

LOOK_EVERY_S = 1.0
TAKEN_WITHIN_S = 60.0
"""How long a running collector may take to begin."""
ANSWERED_WITHIN_S = 3_600.0
"""How long its audit may stand still before nobody waits for it any more."""
FETCHED_WITHIN_S = 120.0
"""How long what was repaired is waited for."""


def audit(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=7, help="How many days back, 7 at most.")
    ] = 7,
    repair: Annotated[
        bool, typer.Option("--repair", help="Have what is missing fetched and delivered.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document with every hour.")] = False,
) -> None:
    """Prove that nothing is missing: list what Microsoft serves again, and look for every blob in the ledger.

    Then check that each data file of a lake is there. The last line says what is proven: that the ledger is
    complete, or the ledger and the files of the lake.

    Of each blob that is listed it says whether it is delivered, waiting, quarantined, lost or missing, which
    means that the ledger does not know it. What is newer than the collector's last listing is told apart: it
    is not collected yet. While `m365watch run` is running it makes the audit itself, within
    its budget of requests; otherwise this command does. With --repair what is missing is fetched and
    delivered; where no collector runs, so is what else waits. With a `console` output the records then have
    stdout to themselves, and the answer goes to stderr.

    Exit codes: 0 nothing is missing; 1 something remains missing, a data file of a lake among it, or part of
    the listing could not be read;
    2 the configuration is wrong; 4 a collector started meanwhile.
    """
    from m365watch.cli.feeds.audit_view import audit_document, audit_page, error_lines, is_unlisted
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.health.collector_status import find_missing_files
    from m365watch.health.completeness.auditor import AuditOrder

    settings = read_settings(config, job=job, collector=collector_file)
    warn_of_lakes(settings)
    order = AuditOrder(days, repair, secrets.token_hex(8))
    audits, lakes = _audits(settings, order), find_missing_files(settings)
    on_stderr = repair and writes_records(settings)
    if as_json:
        document = to_json(audit_document(audits, lakes, now=SystemClock().now()))
        if on_stderr:
            sys.stderr.write(document + "\n")
        else:
            write_line(document)
    elif is_unlisted(audits):
        for line in error_lines(audits):
            stderr_console().print(line, soft_wrap=True)
    else:
        console = stderr_console() if on_stderr else stdout_console()
        console.print(audit_page(audits, lakes, repair=repair, columns=console.width), crop=False)
    if not all(one.is_proven for one in audits) or any(lakes.values()):
        raise typer.Exit(1)


def _audits(settings: Settings, order: AuditOrder) -> Sequence[FeedAudit]:
    """The audits, made by the collector that runs, or else here."""
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.health.collector_status import is_collector_running

    if not is_collector_running(settings):
        with suppress(LedgerHeld):  # One started just now.
            return run_in_loop(_make(settings, order))
    sys.stderr.write("a collector is running: it makes the audit, within its budget of requests\n")
    audits = run_in_loop(_ask(settings, order))
    if audits is not None:
        return audits
    sys.stderr.write("it has stopped: the audit is made here\n")
    return run_in_loop(_make(settings, order))


async def _make(settings: Settings, order: AuditOrder) -> Sequence[FeedAudit]:
    """The audits, made in this process; with repair, like `run --once` for what waits."""
    from m365watch.cli.terminal.console import LineFormat
    from m365watch.cli.terminal.log_output import configure_diagnostics, level_of
    from m365watch.common.clock import SystemClock, system_random
    from m365watch.health.collector_status import read_blob_states
    from m365watch.health.completeness.feed_audit import settled
    from m365watch.runtime.collector import Collector
    from m365watch.runtime.collector_run import AuditRun

    collector = Collector(settings, clock=SystemClock(), random=system_random())
    configure_diagnostics(
        line_format=LineFormat.TEXT,
        level=level_of(quiet=True, verbose=False),
        colour=False,
        board=collector.board if order.repair else None,
    )
    show = _Showing()
    with show:
        if not order.repair:
            return await collector.audit(order, on_progress=show.step)
        run = AuditRun(order, show.step)
        outcome = await collector.run(once=True, stop=asyncio.Event(), audit=run)
    for problem in outcome.problems:
        sys.stderr.write(f"error: {problem}\n")
    return [
        settled(one, read_blob_states(settings, one.feed, one.missing)) if one.total.missing else one
        for one in run.audits
    ]


async def _ask(settings: Settings, order: AuditOrder) -> Sequence[FeedAudit] | None:
    """The audits that the running collector made; None if it has stopped before.

    Raises: LedgerUnusable: it takes no request, or does not come to an end.
    """
    from m365watch.health.completeness.audit_requests import leave_request, withdraw_request

    leave_request(settings.state_directory, order)
    try:
        with _Showing() as show:
            audits = await _answer(settings, order, show=show)
    finally:
        withdraw_request(settings.state_directory, order)
    return await _see_fetched(settings, audits) if order.repair and audits is not None else audits


async def _answer(settings: Settings, order: AuditOrder, *, show: _Showing) -> Sequence[FeedAudit] | None:
    """What the collector answers, as soon as it does; those who asked before have their turn first."""
    from m365watch.common.clock import SystemClock
    from m365watch.common.errors import LedgerUnusable
    from m365watch.health.collector_status import is_collector_running, read_audit_progress
    from m365watch.health.completeness.audit_requests import is_taken, take_answer
    from m365watch.health.completeness.audit_scheduler import AuditProgress

    clock = SystemClock()
    told: dict[str, object] = {}
    moved_at_s, was_taken = clock.monotonic_s(), False
    while True:
        await clock.sleep(LOOK_EVERY_S)
        audits = take_answer(settings.state_directory, order)
        if audits is not None:
            return audits
        progress, taken = read_audit_progress(settings), is_taken(settings.state_directory, order)
        if (progress, taken) != (told, was_taken):
            told, was_taken, moved_at_s = progress, taken, clock.monotonic_s()
            if progress.get("number") == order.number:
                await show.step(AuditProgress(progress["windows"], progress["feeds"], progress["feeds_all"]))
        if not is_collector_running(settings):
            return take_answer(settings.state_directory, order)
        if clock.monotonic_s() - moved_at_s > (ANSWERED_WITHIN_S if taken else TAKEN_WITHIN_S):
            raise LedgerUnusable(
                "the running collector does not answer",
                where=str(settings.state_directory),
                fix="look at what it says; if it is an older version, restart it with this one",
            )


async def _see_fetched(settings: Settings, audits: Sequence[FeedAudit]) -> Sequence[FeedAudit]:
    """The audits once what they found missing has been fetched, or after a time."""
    from m365watch.common.clock import SystemClock
    from m365watch.health.collector_status import read_blob_states
    from m365watch.health.completeness.feed_audit import settled

    clock = SystemClock()
    until_s = clock.monotonic_s() + FETCHED_WITHIN_S
    while True:
        seen = [
            settled(one, read_blob_states(settings, one.feed, one.missing)) if one.total.missing else one
            for one in audits
        ]
        if not any(one.remaining for one in seen) or clock.monotonic_s() >= until_s:
            return seen
        await clock.sleep(LOOK_EVERY_S)


class _Showing:
    """How far the audit is, on stderr: one line that is drawn over on a terminal, and nothing elsewhere."""

    def __init__(self) -> None:
        console = stderr_console()
        self._status = console.status("listing ...") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    async def step(self, progress: AuditProgress) -> None:
        """Show it."""
        if self._status is not None:
            done = f"{progress.feeds} of {progress.feeds_all} feeds"
            self._status.update(f"listing: {progress.windows} windows, {done} done ...")
