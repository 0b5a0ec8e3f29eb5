"""`m365watch demo`: a week of a simulated tenant's records, collected, accounted for and queried."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m365watch.cli.board.board_packages import require_board
from m365watch.cli.terminal.console import LineFormat, stderr_console, stdout_console, write_line
from m365watch.common.errors import LedgerHeld, NeedsOperator
from m365watch.ledger.lock import LedgerLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from m365watch.cli.demo.demo_run import Played


CONFIG_NAME = "config.json"
MARKER = ".m365watch-demo"
"""The file that tells a folder of ours; locked while a demo uses it."""


@contextlib.contextmanager
def demo_folder(directory: Path) -> Iterator[Path]:
    """An empty folder at `directory`, held until the block ends.

    Raises: NeedsOperator: it cannot be written, or holds something that no demo put there;
    LedgerHeld: another demo is using it.
    """
    try:
        _claim(directory)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fix = "name a directory that can be written with --directory"
        raise NeedsOperator(f"cannot be written: {reason}", where=str(directory), fix=fix) from None
    lock = LedgerLock(directory / MARKER)
    try:
        lock.acquire()
    except LedgerHeld as error:
        fix = "let that demo end, or name another directory with --directory"
        raise LedgerHeld(error.what, where=str(directory), fix=fix) from None
    try:
        _empty(directory)
        yield directory
    finally:
        lock.release()


def write_private(path: Path, document: dict[str, Any]) -> None:
    """Write `document` as JSON that only its owner may read, since it holds a secret."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as text:
        json.dump(document, text, indent=2)
        text.write("\n")


def _claim(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()) and not (directory / MARKER).is_file():
        fix = "name a new directory with --directory"
        raise NeedsOperator("is not empty and was not made by a demo", where=str(directory), fix=fix)
    (directory / MARKER).touch(mode=0o600)


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def demo(
    *,
    directory: Annotated[
        Path, typer.Option("--directory", "-d", metavar="DIR", help="Where the lake and the ledger go.")
    ] = Path("m365watch-demo"),
    records_per_day: Annotated[
        int,
        typer.Option(
            "--records-per-day", min=100, max=1_000_000, metavar="N", help="How busy the tenant is."
        ),
    ] = 10_000,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=7, help="Days of history.")] = 7,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another number is another tenant.")] = 1,
    keep_running: Annotated[
        bool,
        typer.Option(
            "--keep-running",
            help="Go on with live traffic until Ctrl-C, and take up what changes in the configuration.",
        ),
    ] = False,
    board: Annotated[
        bool | None,
        typer.Option(
            "--board/--no-board",
            help="Serve the board at the end, until Ctrl-C; with --keep-running, while live traffic goes on."
            " Left out: where a person looks on.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, no tables.")] = False,
) -> None:
    """Try everything on a simulated tenant: no credentials, nothing leaves this machine.

    Starts a simulated Microsoft 365 tenant, collects its history and some live traffic into a lake, accounts
    for every blob, names each attack with the alert that tells of it, asks the lake a few questions in SQL,
    and serves the board with a link to the gravest one. What it shows is what `run` does; nothing is staged.

    Exit codes: 0 everything arrived; 1 something is missing, and why; 130 or 143 stopped before the end.
    """
    from m365watch.cli.demo.demo_run import PlayPlan, play
    from m365watch.cli.demo.tenant_process import TenantPlan
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.cli.terminal.log_output import configure_diagnostics

    if board and as_json:
        raise typer.BadParameter("--board goes not with --json")
    shows_board, lacks = choose_board(board, on_terminal=not as_json and _is_watched(), require=require_board)
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.INFO, colour=False)
    with demo_folder(directory) as folder:
        plan = PlayPlan(
            tenant=TenantPlan(seed=seed, days=days, records_per_day=records_per_day),
            config_path=folder / CONFIG_NAME,
            keep_running=keep_running,
            shows_board=shows_board and keep_running,
        )
        # Whoever stops what goes on is through with its board as well.
        is_last = shows_board and not keep_running
        tell = partial(_tell, folder=folder, as_json=as_json, ends_with_board=is_last, lacks=lacks)
        raise typer.Exit(run_in_loop(play(plan, console=stderr_console(), tell=tell)))


def _is_watched() -> bool:
    return stdout_console().is_terminal and sys.stdin.isatty()


def choose_board(
    wanted: bool | None, *, on_terminal: bool, require: Callable[[], None]
) -> tuple[bool, NeedsOperator | None]:
    """Whether the board is shown at all, and what keeps it from somebody who did not ask but looks on.

    Raises: NeedsOperator: it was asked for, and a package of it is missing.
    """
    from m365watch.common.errors import NeedsOperator

    if wanted is False or (wanted is None and not on_terminal):
        return False, None
    try:
        require()
    except NeedsOperator as error:
        if wanted:
            raise
        return False, error
    return True, None


async def _tell(
    played: Played, *, folder: Path, as_json: bool, ends_with_board: bool, lacks: NeedsOperator | None
) -> int:
    """Ask the lake, print the account, serve the board, and answer the exit code of the account."""
    from m365watch.cli.demo import demo_summary as account
    from m365watch.cli.demo import sample_queries as findings
    from m365watch.cli.demo.attack_results import judge_so_far
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.lake.sql_sandbox.sandbox_client import LakeReader

    exit_code = 1 if account.shortcomings(played) else 0
    answers = findings.ask(LakeReader(played.lake_directory))
    judged = judge_so_far(played.settings, played.attacks)
    findings.write_questions(folder)
    if as_json:
        now = SystemClock().now()
        write_line(to_json(account.account_document(played, answers, judged, exit_code=exit_code, now=now)))
        return exit_code
    console = stdout_console()
    account.print_account(console, played, answers, judged)
    account.print_next_commands(console, answers, folder=folder)
    if ends_with_board and played.settings is not None:
        from m365watch.cli.demo.demo_board import show_board

        await show_board(played.settings, judged, console=console)
    elif lacks is not None:
        account.print_no_board(console, lacks)
    return exit_code
