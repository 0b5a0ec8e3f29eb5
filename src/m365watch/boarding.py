"""The board built from its settings, and served until it is to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn

from m365watch.board.access import LoopbackGate
from m365watch.board.lake_reader import FactsReader
from m365watch.board.serving import Board, Listening
from m365watch.board.sources import Sources
from m365watch.board.token_file import TokenFile
from m365watch.board.token_gate import TokenGate
from m365watch.clock import Clock
from m365watch.config.settings import Settings
from m365watch.detecting import knowledge_of
from m365watch.errors import NeedsOperator
from m365watch.lake.rollups.keeping import keep_rollups

EXAMPLE = "127.0.0.1:8365"
ROLLUPS_EVERY_S = 30.0
END_S = 1
"""How long open connections may take at the end."""
_log = structlog.get_logger(__name__)


def read_listen(text: str) -> Listening:
    """Host and port of `HOST:PORT`; a port alone is loopback's.

    Raises: NeedsOperator: it is none, or not a loopback address.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise NeedsOperator(f"{text!r} is no address to listen at", fix=f"write HOST:PORT, as in {EXAMPLE}")
    if not _is_loopback(host):
        raise NeedsOperator(
            f"the board does not listen at {host}: whoever reaches it there could read every record",
            fix=f"listen at {EXAMPLE}, and reach it from elsewhere through an SSH tunnel",
        )
    return Listening("127.0.0.1" if host == "localhost" else host, int(port))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def serve_board(settings: Settings, listening: Listening, *, clock: Clock, stop: asyncio.Event) -> None:
    """Serve the pages until `stop` is set; rollups are kept meanwhile.

    Raises: NeedsOperator: the port cannot be used.
    """
    lake = settings.lake_directory
    facts = None if lake is None else FactsReader(lake)
    places = knowledge_of(settings.detections, clock=clock).enrichment
    gate = TokenGate(TokenFile(settings.state_directory), clock=clock, otherwise=LoopbackGate())
    board = Board(Sources(settings, facts, clock, places), gate=gate, listening=listening)
    server = _Server(
        uvicorn.Config(
            board.app,
            host=listening.host,
            port=listening.port,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            lifespan="off",
            timeout_graceful_shutdown=END_S,
        )
    )
    keeping = asyncio.create_task(_keep_rollups(lake, clock)) if lake is not None else None
    stopping = asyncio.create_task(_stop_when(stop, server))
    try:
        with _refused_port(listening):
            await server.serve()
    finally:
        stopping.cancel()
        if keeping is not None:
            keeping.cancel()
        if facts is not None:
            facts.close()


class _Server(uvicorn.Server):
    """Leaves the signals to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _stop_when(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True


@contextlib.contextmanager
def _refused_port(listening: Listening) -> Iterator[None]:
    try:
        yield
    except SystemExit:
        raise NeedsOperator(
            f"the board cannot listen at {listening.host}:{listening.port}: perhaps another program does",
            fix="name another one: --listen 127.0.0.1:PORT",
        ) from None


async def _keep_rollups(lake: Path, clock: Clock) -> None:
    """Make rollups of what is new, again and again; what fails is made at the next time."""
    while True:
        try:
            await asyncio.to_thread(keep_rollups, lake)
        except Exception as error:  # noqa: BLE001 - pages do without rollups, only slower
            _log.warning(
                f"board: rollups were not made: {error}; pages count the records themselves meanwhile"
            )
        await clock.sleep(ROLLUPS_EVERY_S)
