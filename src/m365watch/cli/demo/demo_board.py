"""The demo's board, with a link to the gravest alert, which is the takeover's where there was one.

It is served once the account is told, or while live traffic goes on.

The simulated tenant is there as long as the board, so that plans of `respond` can be carried out on it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from m365watch.cli.board.board_process import LISTEN, board_beside
from m365watch.cli.demo.attack_results import JudgedAttack
from m365watch.common.errors import NeedsOperator
from m365watch.common.text import plain

if TYPE_CHECKING:
    from rich.console import Console

    from m365watch.config.models.settings import Settings
    from m365watch.detection.alerts.alert import Alert

TAKEOVER = "C01"
"""The detection of a mailbox that was turned against its owner."""


def gravest(judged: Sequence[JudgedAttack]) -> Alert | None:
    """Of all alerts that tell of an attack the one of the highest severity, the first of several.

    Of critical ones the one that tells of a mailbox taken over comes first: it has the most to be seen.
    """
    found = [alert for one in judged for alert in one.telling]
    return max(found, key=lambda alert: (alert.severity.rank, alert.detection == TAKEOVER), default=None)


def path_to(judged: Sequence[JudgedAttack]) -> tuple[str, str]:
    """What the link leads to, in words, and its path on the board.

    The alert is named and not an attack: one that joins what came before tells of several.
    """
    alert = gravest(judged)
    if alert is None:
        return "The board", "/"
    return f"{plain(alert.title)}, on the board", f"/alert?alert={alert.id}"


def listen_somewhere(usual: str = LISTEN) -> socket.socket:
    """A socket that listens at the board's usual address, or at a free port where something else does."""
    host, _, port = usual.rpartition(":")
    for wanted in (int(port), 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
            listener.listen()
        except OSError:
            listener.close()
            continue
        return listener
    raise NeedsOperator("no port of this machine is free", fix="run the demo with --no-board")


def new_link(settings: Settings, address: str, page: str) -> str:
    """A link that opens the demo's board at that page. Raises: NeedsOperator: its code cannot be kept."""
    from m365watch.board.access.one_time_links import OpenLinks, link_to
    from m365watch.common.clock import SystemClock

    code = OpenLinks(settings.state_directory).create(SystemClock().now())
    return link_to(address, code, page=page)


@contextmanager
def board_meanwhile(settings: Settings, config_path: Path) -> Iterator[str]:
    """While entered, the board is served in a process of its own, as beside a run; its URL."""
    with listen_somewhere() as listener:
        host, port = listener.getsockname()
    with board_beside(settings, f"{host}:{port}", wanted=True, config=config_path, job=None, collector=None):
        yield f"http://{host}:{port}"


async def show_board(settings: Settings, judged: Sequence[JudgedAttack], *, console: Console) -> None:
    """Serve the board until Ctrl-C, and say where; nothing of it leaves this machine.

    Raises: NeedsOperator: a package of it is missing, or no port is free.
    """
    from m365watch.cli.board.board_packages import require_board

    require_board()
    from m365watch.board.app.application import Listening
    from m365watch.board.factory import serve_board
    from m365watch.cli.event_loop import StopSignals
    from m365watch.common.clock import SystemClock

    stop = asyncio.Event()
    with StopSignals(stop), listen_somewhere() as listener:
        listening = Listening(*listener.getsockname())
        says, path = path_to(judged)
        console.print(Text(f"\n{says} (opens once, within 10 minutes; Ctrl-C ends it):", style="dim"))
        console.print(Text(f"  {new_link(settings, listening.url, path)}", style="bold cyan"), soft_wrap=True)
        files = (("--config", settings.path),)
        await serve_board(settings, listening, clock=SystemClock(), stop=stop, listener=listener, files=files)
