"""The board beside a run: a process of its own, so that no page takes time or memory from the collector."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.options import configuration_files
from m365watch.common.errors import SettingsRefused
from m365watch.common.file_access import is_file
from m365watch.config.config_file import is_of_a_process

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings

LISTEN = "127.0.0.1:8365"
END_S = 5.0

BoardOption = Annotated[
    bool, typer.Option("--board", help="Also serve the analyst's pages, as `m365watch board` does.")
]
BoardListenOption = Annotated[
    str | None,
    typer.Option(
        "--board-listen",
        metavar="HOST:PORT",
        help=f"Where, in place of `board.listen`, or {LISTEN}. Implies --board.",
        show_default=False,
    ),
]


@contextlib.contextmanager
def board_beside(
    settings: Settings,
    listen: str | None,
    *,
    wanted: bool,
    config: Path | None,
    job: Path | None,
    collector: Path | None,
) -> Iterator[None]:
    """While entered, the board of the configuration is served, at `listen` or where the settings say.

    Neither `listen` nor `wanted`: there is none.

    The board ends with its standard input, which is to say with this process, however that ends.

    Raises: NeedsOperator: it cannot be served there, or a package is missing.
    """
    if listen is None and not wanted:
        yield
        return
    from m365watch.cli.board.board_packages import require_board

    require_board()
    from m365watch.board.factory import plan_listening

    plan_listening(settings, listen)
    _refuse_pipes(configuration_files(config, job=job, collector=collector))
    named = {"--config": config, "--job-config-loc": job, "--collector-config-loc": collector}
    files = [one for flag, path in named.items() if path is not None for one in (flag, str(path))]
    where = [] if listen is None else ["--listen", listen]
    child = subprocess.Popen(
        [sys.executable, "-m", "m365watch.cli.main", "board", "--beside", *where, *files],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # Ctrl-C is for the collector, which then lets go of the board. No session of its own: Linux shares
        # cores among sessions first, so that whoever gives way in one takes as much as the other has.
        process_group=0,
    )
    try:
        yield
    finally:
        if child.stdin is not None:
            child.stdin.close()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _refuse_pipes(files: Iterable[Path]) -> None:
    """Raises: SettingsRefused: one is there once, or for this process only."""
    for path in files:
        if not is_file(path) or is_of_a_process(path):
            what = "is no file that the board could read, too, in its own process"
            raise SettingsRefused([what], where=str(path), fix="give it as a file, or leave --board out")
