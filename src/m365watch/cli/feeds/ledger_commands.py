"""`m365watch ledger`: a copy of the ledger, one put back, and a thorough look at either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, JsonOption, read_settings
from m365watch.cli.terminal.console import stderr_console, write_line
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.ledger.backup import LedgerCheck


ledger = typer.Typer(
    help="Copy the ledger, put a copy back, or look whether it is sound.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@ledger.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.", show_default=False)],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the ledger to FILE, as it is at one moment, while the collector runs or not.

    The copy is checked before it gets its name, and can be read by its owner alone: pieces in quarantine
    are in it. A copy of that name is replaced, any other file is not.
    """
    from m365watch.health.collector_status import back_up_ledger

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    with _bar("copied") as on_pages:
        found = back_up_ledger(settings, file, on_pages=on_pages)
    if as_json:
        _write_document(_check_document(found))
    else:
        _show_check(found)


@ledger.command()
def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `ledger backup` wrote.", show_default=False)
    ],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the copy in FILE in the ledger's place; the present ledger is kept beside it.

    Nothing is lost and nothing doubles in the lake and in files: the next `m365watch run` reads what they
    hold, and then fetches what came after the copy was made. Devo and other wires cannot be asked: they
    get that again. Stop the collector first.

    Exit codes: 0 done; 1 failed, and the ledger is as it was; 2 the configuration is wrong; 4 a collector
    is running.
    """
    from m365watch.cli.terminal.formatting import moment
    from m365watch.cli.terminal.json_output import instant
    from m365watch.health.collector_status import restore_ledger

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    with _bar("put back") as on_pages:
        done = restore_ledger(settings, file, on_pages=on_pages)
    if as_json:
        kept = None if done.kept is None else str(done.kept)
        _write_document({"schema": 1, "as_of": instant(done.as_of), "kept": kept})
        return
    write_line(f"the ledger is as of {moment(done.as_of)} again")
    if done.kept is not None:
        write_line(f"the one before is kept as {plain(str(done.kept))}")
    write_line("the next `m365watch run` reads what the lake and files hold before it fetches anything")


@ledger.command()
def check(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Look at this copy instead.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read the whole ledger, and say whether it is sound; changes nothing.

    Works while the collector runs, which looks for a second at each start by itself.

    Exit codes: 0 sound; 1 damaged, or it cannot be read; 2 the configuration is wrong.
    """
    from m365watch.health.collector_status import check_ledger_of

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    with _spinner("reading the ledger") as on_step:
        found = check_ledger_of(settings, file, on_step=on_step)
    if as_json:
        _write_document(_check_document(found))
    else:
        _show_check(found, is_copy=file is not None)
    raise typer.Exit(1 if found.problems else 0)


def _show_check(found: LedgerCheck, *, is_copy: bool = False) -> None:
    if not found.problems:
        write_line(f"{plain(str(found.path))}: {_size(found.size_bytes)}, {_contents(found)}; sound")
        return
    write_line(f"{plain(str(found.path))}: {_size(found.size_bytes)}; damaged:")
    for problem in found.problems:
        write_line(f"  {plain(problem)}")
    if is_copy:
        write_line("hint: name another copy, or make one with `m365watch ledger backup`")
        return
    write_line(
        "hint: start `m365watch run` again: it sets a damaged ledger aside and loses nothing; "
        "or put a copy back with `m365watch ledger restore FILE`"
    )


def _check_document(found: LedgerCheck) -> dict[str, Any]:
    from m365watch.cli.terminal.json_output import instant

    return {
        "schema": 1,
        "file": str(found.path),
        "sound": not found.problems,
        "problems": found.problems,
        "ledger_schema": found.schema,
        "size_bytes": found.size_bytes,
        "blobs": found.blobs,
        "identities": found.identities,
        "as_of": instant(found.as_of),
    }


def _write_document(document: dict[str, Any]) -> None:
    from m365watch.cli.terminal.json_output import as_json

    write_line(as_json(document))


def _contents(found: LedgerCheck) -> str:
    from m365watch.cli.terminal.formatting import count, moment

    return (
        f"{count(found.blobs, 'blob')}, {count(found.identities, 'identity', 'identities')}, "
        f"as of {moment(found.as_of)}"
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.1f} MB"


@contextmanager
def _bar(verb: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; what hears of progress."""
    from rich.progress import Progress

    console = stderr_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(verb, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def _spinner(verb: str) -> Iterator[Callable[[], None]]:
    """The seconds that pass, on a terminal; what hears of each step."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = stderr_console()
    columns = (SpinnerColumn(), TextColumn(verb), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(verb, total=None)
        yield lambda: bars.advance(task)
