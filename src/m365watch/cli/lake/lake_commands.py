"""`m365watch lake`: the upkeep of a lake by hand."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, JsonOption, read_settings
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.terminal.error_output import EXIT_FAILED
from m365watch.cli.terminal.prompts import require_yes

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings
    from m365watch.lake.erasure.erasure_journal import Asked
    from m365watch.outputs.lake.spec import LakeSection

KEEP_HOURS = 168
"""How long `vacuum` keeps a file that was replaced, unless told otherwise: as long as Delta Lake itself."""

lake = typer.Typer(
    name="lake",
    help="Look after the lake: retention, compaction, vacuum, check, repair, erasure.\n\n"
    "Works while `m365watch run` is running. What is interrupted is done as far as it went; the same"
    " command does the rest.",
    no_args_is_help=True,
)

OutputOption = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="NAME", help="Which lake, where the configuration has several."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def _settings_of(
    config: Path | None, job: Path | None, collector: Path | None, output: str | None
) -> tuple[Settings, LakeSection]:
    from m365watch.runtime.lake_maintenance import choose_lake

    settings = read_settings(config, job=job, collector=collector, for_reading=True)
    return settings, choose_lake(settings, output)


def _lake_of(
    config: Path | None, job: Path | None, collector: Path | None, output: str | None
) -> tuple[Settings, LakeSection]:
    """The same, for who works with it. Raises: LakeUnusable: it is gone."""
    from m365watch.health.collector_status import refuse_lost_lake

    settings, chosen = _settings_of(config, job, collector, output)
    refuse_lost_lake(settings, chosen.folder)
    return settings, chosen


@lake.command()
def retain(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    output: OutputOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take out what is older, or more, than the settings' retention says.

    A running collector does it by itself once an hour. The bytes go from the disk two hours later, or with
    `m365watch lake vacuum`. Nothing that went is collected again.

    Exit codes: 0 done; 1 failed, or something is left to do; 2 the configuration is wrong, or names no
    retention; 4 other upkeep is at work.
    """
    from m365watch.cli.lake.lake_view import ProgressLine, retained_document, retained_page
    from m365watch.common.clock import SystemClock
    from m365watch.common.errors import SettingsRefused
    from m365watch.runtime.lake_maintenance import retain_lake

    settings, chosen = _lake_of(config, job, collector_file, output)
    if not chosen.config.retention.is_set:
        raise SettingsRefused(
            [f"outputs.{chosen.name}.config.retention: is missing"],
            where=str(settings.path),
            fix="say there how many days, or megabytes, are to stay",
        )
    clock = SystemClock()
    with ProgressLine(clock) as progress:
        found = retain_lake(settings, chosen, dry_run=dry_run, clock=clock, progress=progress)
    if as_json:
        write_line(retained_document(found, dry_run=dry_run))
    else:
        stdout_console().print(retained_page(found, dry_run=dry_run), crop=False)
    if not found.complete:
        raise typer.Exit(EXIT_FAILED)


@lake.command()
def compact(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge small files into large ones until nothing is left to merge.

    A running collector merges by itself what is worth it. The small files stay on disk for readers that have
    begun with them; `m365watch lake vacuum` removes them.

    Exit codes: 0 done; 1 failed; 2 the configuration is wrong; 4 other upkeep is at work.
    """
    from m365watch.cli.lake.lake_view import ProgressLine, compacted_document, compacted_page
    from m365watch.common.clock import SystemClock
    from m365watch.runtime.lake_maintenance import compact_lake

    settings, chosen = _lake_of(config, job, collector_file, output)
    clock = SystemClock()
    with ProgressLine(clock) as progress:
        found = compact_lake(settings, chosen, clock=clock, progress=progress)
    if as_json:
        write_line(compacted_document(found))
    else:
        stdout_console().print(compacted_page(found), crop=False)


@lake.command()
def vacuum(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    output: OutputOption = None,
    keep_hours: Annotated[
        int,
        typer.Option(
            "--keep-hours", metavar="N", min=0, help="Keep what was replaced less than so many hours ago."
        ),
    ] = KEEP_HOURS,
    unsafe: Annotated[
        bool,
        typer.Option("--unsafe", help="Allow fewer than 2 hours: queries that are running may fail."),
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files that were merged, retained or erased away, and what crashes left.

    Versions of the table that need such a file cannot be read any more. By default as much is kept as Delta
    Lake itself keeps, 7 days; a running collector keeps 2 hours.

    Exit codes: 0 done; 1 failed; 2 usage, or the configuration is wrong; 4 other upkeep is at work.
    """
    from m365watch.cli.lake.lake_view import ProgressLine, vacuumed_document, vacuumed_page
    from m365watch.common.clock import SystemClock
    from m365watch.lake.maintenance.vacuum import SAFE_HOURS_MIN
    from m365watch.runtime.lake_maintenance import vacuum_lake

    if keep_hours < SAFE_HOURS_MIN and not unsafe:
        raise typer.BadParameter(
            f"--keep-hours below {SAFE_HOURS_MIN} takes files away from queries that are running;"
            " add --unsafe if there are none"
        )
    if keep_hours < SAFE_HOURS_MIN:
        sys.stderr.write("warning: queries that are running, and readers of older versions, may fail\n")
    settings, chosen = _lake_of(config, job, collector_file, output)
    clock = SystemClock()
    with ProgressLine(clock) as progress:
        found = vacuum_lake(
            settings, chosen, keep_hours=keep_hours, dry_run=dry_run, clock=clock, progress=progress
        )
    if as_json:
        write_line(vacuumed_document(found, keep_hours=keep_hours, dry_run=dry_run))
    else:
        stdout_console().print(vacuumed_page(found, keep_hours=keep_hours, dry_run=dry_run), crop=False)


@lake.command()
def check(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    output: OutputOption = None,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read every record, not only the end of each file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that every file is there and whole, and that lake and ledger agree on what was delivered.

    A batch that has gone from the middle of the table's log is named too, from its last checkpoint on.

    Exit codes: 0 nothing found; 1 something was found, or the check failed; 2 the configuration is wrong.
    """
    from m365watch.cli.lake.lake_view import ProgressLine, checked_document, checked_page
    from m365watch.common.clock import SystemClock
    from m365watch.runtime.lake_maintenance import check_whole_lake

    settings, chosen = _settings_of(config, job, collector_file, output)
    with ProgressLine(SystemClock()) as progress:
        found = check_whole_lake(settings, chosen, reads_all=read_all, progress=progress)
    if as_json:
        write_line(checked_document(found))
    else:
        stdout_console().print(checked_page(found), crop=False)
    if found.problem_count:
        raise typer.Exit(EXIT_FAILED)


@lake.command()
def repair(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    output: OutputOption = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Stop reporting records that are not served any more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch the records of missing data files again, for this lake alone.

    Restore a backup of the files first, if there is one: then nothing is missing. Otherwise the table lets
    go of the missing files, and the blobs that brought their records become pending for this lake: the next
    `m365watch run` fetches what Microsoft still serves, the last 7 days. The lake gets no record twice, and
    other outputs get nothing. Older records need `m365watch recover`, and are reported until it has brought
    them. Stop the collector first.

    Exit codes: 0 done, or nothing is missing; 1 failed, or some records are not served any more; 2 the
    configuration is wrong; 4 a collector is running, or other upkeep is at work.
    """
    from m365watch.cli.lake.lake_view import repaired_document, repaired_page
    from m365watch.common.clock import SystemClock, system_random
    from m365watch.runtime.lake_repair import repair_lake

    settings, chosen = _lake_of(config, job, collector_file, output)
    found = repair_lake(
        settings, chosen, accept_loss=accept_loss, clock=SystemClock(), random=system_random()
    )
    if as_json:
        write_line(repaired_document(found))
    else:
        stdout_console().print(repaired_page(found, chosen.name), crop=False)
    if found is not None and found.unserved:
        raise typer.Exit(EXIT_FAILED)


@lake.command()
def erase(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    output: OutputOption = None,
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user",
            "-u",
            metavar="NAME",
            help="UPN, id, SID or address of the person; may be repeated for one person's other names.",
        ),
    ] = None,
    mentions: Annotated[
        bool, typer.Option("--mentions", help="Erase every record that names the person, wherever it does.")
    ] = False,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only records created from here on (UTC).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Only records created before (UTC).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish an erasure that was interrupted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Erase one person's records from the lake, for good, and look whether they are gone.

    Without --mentions these are the records that name the person as who acted, or as whom it was done to.
    Names are compared as whole words, without regard to case. The files that held the records go from the
    disk at once: versions of the table from before cannot be read any more. A report without records is
    written below the lake, in `erasures`; it says what other places may still hold them. A mark of each
    erased record stays in `erased` for 400 days, so that none is fetched again; it names nobody.

    Exit codes: 0 erased and verified; 1 failed, or something is left, or waits for the lake in its queue:
    repeat it; 2 usage, or the configuration is wrong; 4 other upkeep is at work.
    """
    settings, chosen = _lake_of(config, job, collector_file, output)
    if resume:
        asked = _asked_before(chosen)
        if asked is None:
            write_line("no erasure was interrupted: nothing to do")
            return
    else:
        asked = _asked(user or [], start=start, end=end, mentions=mentions)
    is_asked = not (yes or resume or dry_run)
    if is_asked and not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked; add --yes to erase for good")
    if dry_run or is_asked:
        _look(settings, chosen, asked, as_json=as_json and dry_run, on_stdout=dry_run)
    if dry_run:
        return
    if is_asked:
        require_yes("Erase these records for good?")
    _erase(settings, chosen, asked, as_json=as_json)


def _asked_before(chosen: LakeSection) -> Asked | None:
    from m365watch.runtime.lake_maintenance import asked_before

    return asked_before(chosen)


def _asked(names: list[str], *, start: str | None, end: str | None, mentions: bool) -> Asked:
    from m365watch.lake.erasure.erasure_journal import Asked
    from m365watch.lake.erasure.person_matching import Person, name_mistake

    mistake = name_mistake(names)
    if mistake is not None:
        raise typer.BadParameter(f"--user: {mistake}")
    asked = Asked(
        names=Person(names).names,
        anywhere=mentions,
        start=_instant(start, option="--from"),
        end=_instant(end, option="--to"),
    )
    if asked.start is not None and asked.end is not None and asked.start >= asked.end:
        raise typer.BadParameter("--from has to be before --to")
    return asked


def _instant(text: str | None, *, option: str) -> datetime | None:
    from m365watch.config.models.values import parse_instant

    if text is None:
        return None
    try:
        return parse_instant(text).astimezone(UTC)
    except ValueError as error:
        raise typer.BadParameter(
            f"{option}: {text!r} {error}; give 2026-11-17 or 2026-11-17T09:00Z"
        ) from None


def _look(settings: Settings, chosen: LakeSection, asked: Asked, *, as_json: bool, on_stdout: bool) -> None:
    from m365watch.cli.lake.lake_view import ProgressLine, found_document, found_page
    from m365watch.cli.terminal.console import stderr_console
    from m365watch.common.clock import SystemClock
    from m365watch.runtime.lake_maintenance import look_for

    clock = SystemClock()
    with ProgressLine(clock) as progress:
        found = look_for(settings, chosen, asked, clock=clock, progress=progress)
    if as_json:
        write_line(found_document(found))
    else:
        console = stdout_console() if on_stdout else stderr_console()
        console.print(found_page(found), crop=False)


def _erase(settings: Settings, chosen: LakeSection, asked: Asked, *, as_json: bool) -> None:
    from m365watch.cli.lake.lake_view import ProgressLine, erased_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.runtime.lake_maintenance import erase as erase_from

    clock = SystemClock()
    with ProgressLine(clock) as progress:
        report, path = erase_from(settings, chosen, asked, clock=clock, progress=progress)
    if as_json:
        write_line(to_json(report))
    else:
        stdout_console().print(erased_page(report, path), crop=False)
    verified = report["verification"]
    if not verified["clean"] or verified["records_waiting_for_the_lake"]:
        raise typer.Exit(EXIT_FAILED)
