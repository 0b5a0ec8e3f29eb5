"""The board built from its settings, and served until it is to stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import structlog
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from m365watch.board.access.api_tokens import ApiTokens, TokenGate
from m365watch.board.access.audit_journal import TrailJournal
from m365watch.board.access.audit_recorder import CLOSED, KeptTrail, NoTrail
from m365watch.board.access.board_database import set_aside_if_damaged
from m365watch.board.access.known_addresses import KnownAddresses
from m365watch.board.access.link_sign_in import LinkEntrance
from m365watch.board.access.local_users import Users
from m365watch.board.access.login_routes import Entrance
from m365watch.board.access.login_throttle import Attempts
from m365watch.board.access.one_time_links import OpenLinks
from m365watch.board.access.openid_connect import OpenIdSignIn
from m365watch.board.access.roles import Gate
from m365watch.board.access.sessions import FILE_NAME as SESSIONS_FILE
from m365watch.board.access.sessions import Sessions, SessionTimes, house_of
from m365watch.board.app.application import Board, Listening
from m365watch.board.app.request_metrics import Queries
from m365watch.board.query.cpu_usage import Collector
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_throttle import Rests
from m365watch.common.clock import Clock, thread_work
from m365watch.common.error_boundary import GoingOn, defect_of
from m365watch.common.errors import LakeUnusable, NeedsOperator
from m365watch.config.models.listeners import BoardSection
from m365watch.config.models.settings import Settings
from m365watch.detection.factory import knowledge_of
from m365watch.http.bounded_listener import BACKLOG, Limits, Listener
from m365watch.http.client import open_session
from m365watch.lake.delta.table_files import list_files, open_table
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.schema import AUDIT, AUDIT_TABLE
from m365watch.lake.sql_sandbox.confinement import is_root, probe
from m365watch.runtime.config_reload import FileWatch
from m365watch.storage.database import DatabaseError


async def follow_lake(sources: Sources, open_reader: Callable[[Path], FactsReader]) -> None:
    """Have the pages show the lake that the settings name, if they show another one.

    While the one that they show is there, the other has to hold records first: a collector that cannot use
    it goes on with the one that it had. One that is taken out is shown as before.
    """
    wanted, facts = sources.settings.lake_directory, sources.facts
    if wanted is None or wanted == sources.lake:
        return
    if facts is not None and facts.is_there and not await asyncio.to_thread(_holds_records, wanted):
        return
    sources.turn_to(open_reader(wanted))


def _holds_records(lake: Path) -> bool:
    try:
        table = open_table(lake, AUDIT_TABLE)
        return table is not None and bool(list_files(table))
    except (LakeUnusable, OSError):  # of another user's, of a disk that is gone, of a name that none can have
        return False


SERVER = "uvicorn.error"
"""The name under which the server logs all that is no request."""
_UNTOLD = ("Cancel ", "Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")
"""What belongs to every end, and what anybody can make the server say as often as they like."""
_log = structlog.get_logger(__name__)


class ServerLines(logging.Handler):
    """Tells an error of the server as one line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it, or leave it out."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError) or isinstance(record.msg, OSError):
            return  # the board ends; or it cannot listen, which is told with what to do
        if isinstance(error, Exception):
            defect = defect_of(error, where="board")
            _log.error(str(defect), code=defect.code)
        elif not record.getMessage().startswith(_UNTOLD):
            _log.log(record.levelno, f"board: {record.getMessage()}")


@contextmanager
def told_as_ours() -> Iterator[None]:
    """While entered, what the server logs as a warning or worse is told by `ServerLines`."""
    logger, lines = logging.getLogger(SERVER), ServerLines(logging.WARNING)
    before = logger.propagate
    logger.addHandler(lines)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.propagate = before


EXAMPLE = "127.0.0.1:8365"
ROLLUPS_EVERY_S = 30.0
CERTIFICATE_EVERY_S = 30.0
LAKE_EVERY_S = 5.0
"""Between two looks whether the configuration names another lake, and whether that holds records."""
END_S = 1
"""How long open connections may take at the end."""


def read_listen(text: str, board: BoardSection | None = None) -> Listening:
    """Host and port of `HOST:PORT`, with what `board` says of it; a port alone is loopback's.

    Raises: NeedsOperator: it is none, or is not loopback's and others would see what comes and goes there.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise NeedsOperator(f"{text!r} is no address to listen at", fix=f"write HOST:PORT, as in {EXAMPLE}")
    board = board or BoardSection()
    if not _is_loopback(host) and not board.certificate_file and not board.proxy:
        raise NeedsOperator(
            f"the board does not listen at {host} without TLS: what it shows would travel in the clear",
            fix="set board.address with board.certificate_file and private_key_file, or with board.proxy;"
            f" or listen at {EXAMPLE}, and reach it through an SSH tunnel",
        )
    host = "127.0.0.1" if host == "localhost" else host
    behind = (board.proxy.addresses, board.proxy.headers) if board.proxy else ()
    return Listening(host, int(port), board.address or "", *behind)


def plan_listening(settings: Settings, given: str | None) -> Listening:
    """Where the board is served: as `given` on the command line, or else as the configuration says.

    Raises: NeedsOperator: it is not to be served there.
    """
    board = settings.board or BoardSection()
    return read_listen(given or board.listen, board)


def asks_to_sign_in(listening: Listening, board: BoardSection) -> bool:
    """Whether whoever comes there has to sign in: everybody but people of this machine."""
    return board.sign_in or bool(listening.proxies) or not _is_loopback(listening.host)


def open_entrance(settings: Settings, listening: Listening, *, clock: Clock) -> Entrance | None:
    """Where people sign in; None where nobody has to.

    Without a user it says how to add one: who is added can sign in at once.

    Raises: NeedsOperator: the users cannot be read.
    """
    board = settings.board or BoardSection()
    if not asks_to_sign_in(listening, board):
        return None
    for warning in settings.warnings:
        if warning.startswith("board."):
            _log.warning(warning)
    users = Users(settings.state_directory)
    entra = board.entra
    if entra is None and not users.list():
        _log.error(
            f"board: nobody can sign in at {listening.url}: it has no users; add one:"
            " m365watch board user add NAME --role admin; or set board.entra"
        )
    sessions = Sessions(
        _times_of(board),
        stamp_of=partial(_stamp_in, users),
        path=settings.state_directory / SESSIONS_FILE,
        house=house_of(entra.issuer, entra.client_id, entra.grants) if entra else "",
    )
    attempts = Attempts(KnownAddresses(settings.state_directory))
    return Entrance(users, sessions, clock, secure=listening.is_secure, attempts=attempts)


def _times_of(board: BoardSection) -> SessionTimes:
    return SessionTimes(60.0 * board.idle_minutes, 3_600.0 * board.session_hours)


def open_link_entrance(settings: Settings, listening: Listening, *, clock: Clock) -> LinkEntrance:
    """Where a board on which nobody signs in is opened by a link."""
    board = settings.board or BoardSection()
    sessions = Sessions(
        _times_of(board),
        stamp_of=lambda _: None,
        path=settings.state_directory / SESSIONS_FILE,
        house="link",  # once people sign in, none of these sessions counts
    )
    links = OpenLinks(settings.state_directory)
    return LinkEntrance(links, sessions, listening, clock=clock)


def open_trail(settings: Settings, *, lake: Callable[[], Path | None], clock: Clock) -> KeptTrail | NoTrail:
    """Where it is noted who sees and does what; where nothing can be written, that is complained of.

    The lines wait until the lake has a table of records: a folder made where it is looked for in vain, as
    it was moved or is not mounted, would be taken for the lake.
    """

    def standing() -> Path | None:
        directory = lake()
        return directory if directory is not None and (directory / AUDIT).is_dir() else None

    try:
        journal = TrailJournal(
            settings.state_directory, lake=standing, collector_name=settings.collector_name
        )
    except (OSError, DatabaseError) as error:
        why = getattr(error, "strerror", None) or str(error)
        _log.error(f"board: the trail cannot be written below {settings.state_directory}: {why}; {CLOSED}")
        return NoTrail(why)
    return KeptTrail(journal, clock=clock)


def _stamp_in(users: Users, name: str) -> str | None:
    """The user's stamp; None where there is no such user, or no reading of them: their session is over."""
    try:
        user = users.find(name)
    except NeedsOperator as error:
        _log.error(f"board: {error}")
        return None
    return user.stamp if user else None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def serve_board(
    settings: Settings,
    listening: Listening,
    *,
    clock: Clock,
    stop: asyncio.Event,
    listener: socket.socket | None = None,
    files: tuple[tuple[str, Path], ...] = (),
    tell: Callable[[], None] = lambda: None,
    give_way: Callable[[], None] | None = None,
    show_link: Callable[[str], None] | None = None,
) -> None:
    """Serve the pages until `stop` is set; rollups are kept meanwhile. `listener` listens there already.

    `files` are the configuration's behind the options that name them, for the commands that pages print. The
    port is the board's once `tell` is called, and `show_link` with a link, where nobody signs in. Beside a
    collector of the same state directory it rests while that wants the cores; `give_way` is called when there
    first is one.

    Raises: NeedsOperator: the port cannot be used.
    """
    set_aside_if_damaged(settings.state_directory, clock)
    rests = Rests(clock, read=Collector(settings.state_directory, clock, found=give_way).read_work)
    readers = _Readers(rests)
    lake = settings.lake_directory
    facts = None if lake is None else readers.open(lake)
    places = knowledge_of(settings.detections, clock=clock).enrichment
    entrance = open_entrance(settings, listening, clock=clock)
    asking = open_session() if entrance and settings.board and settings.board.entra else None
    if asking and entrance and settings.board and (entra := settings.board.entra):
        way = asking.over(settings.network)
        entrance.openid = OpenIdSignIn(entra, way, address=listening.url, clock=clock)
    door = entrance or open_link_entrance(settings, listening, clock=clock)
    sources = Sources(settings, facts, clock, places, files=files)
    gate: Gate = TokenGate(ApiTokens(settings.state_directory), clock=clock, otherwise=door.gate)
    trail = open_trail(settings, lake=lambda: sources.lake, clock=clock)
    sources.trail_trouble, sources.trail_loss = (lambda: trail.complaint), (lambda: trail.loss)
    sources.count_sessions = lambda: door.sessions.count(clock.now().timestamp())
    board = Board(sources, gate=gate, listening=listening, entrance=door, trail=trail, ending=stop)
    config = _serving_of(board, listening, settings.board)
    started = partial(_tell_of, door, tell, show_link, has_lake=lake is not None)
    server = _Server(config, listener_of(listening), started)
    renewing = asyncio.create_task(renew_certificate(config, settings.board, clock))
    following = asyncio.create_task(_follow_configuration(sources, settings.path, clock))
    turning = asyncio.create_task(_follow_lake(sources, readers.open, clock))
    keeping = asyncio.create_task(_keep_rollups(sources, clock, rests))
    stopping = asyncio.create_task(_stop_when(stop, server))
    shipping = asyncio.create_task(trail.run()) if isinstance(trail, KeptTrail) else None
    try:
        with told_as_ours(), _refused_port(listening):
            await server.serve(None if listener is None else [listener])
    finally:
        for task in (stopping, following, turning, renewing, keeping, shipping):
            if task is not None:
                task.cancel()
        if asking is not None:
            await asking.close()
        if isinstance(trail, KeptTrail):
            await asyncio.to_thread(trail.close)
        door.sessions.shut()
        readers.close()


def _report_confinement() -> None:
    found = probe()
    (_log.info if found.is_complete else _log.warning)(f"board: {found.text}")
    if is_root() and not found.is_complete:
        _log.warning("board: runs as root; run it as the owner of the lake")


def _tell_of(
    door: Entrance | LinkEntrance,
    tell: Callable[[], None],
    show_link: Callable[[str], None] | None,
    *,
    has_lake: bool,
) -> None:
    """Say that the board listens, what confines its SQL queries, and how it is opened."""
    tell()
    if has_lake:
        _report_confinement()
    if isinstance(door, LinkEntrance) and show_link is not None:
        show_link(door.new_link())


def _serving_of(board: Board, listening: Listening, keys: BoardSection | None) -> uvicorn.Config:
    return uvicorn.Config(
        board.app,
        host=listening.host,
        port=listening.port,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        lifespan="off",
        proxy_headers=False,
        **tls_of(keys),
        timeout_graceful_shutdown=END_S,
    )


def tls_of(board: BoardSection | None) -> dict[str, Any]:
    """What the server is told of the certificate. Raises: NeedsOperator: it cannot be used."""
    if board is None or board.certificate_file is None or board.private_key_file is None:
        return {}
    password = board.key_password.get_secret_value() if board.key_password else ""
    pair = (board.certificate_file, board.private_key_file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair, lambda: password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not a certificate"
        raise NeedsOperator(
            f"the board's certificate cannot be used: {reason}",
            fix="see to board.certificate_file and private_key_file: one PEM each, that belong together",
            where=str(board.certificate_file),
        ) from None
    return {"ssl_certfile": pair[0], "ssl_keyfile": pair[1], "ssl_keyfile_password": password}


async def renew_certificate(config: uvicorn.Config, board: BoardSection | None, clock: Clock) -> None:
    """Take a renewed certificate into use, again and again; one that cannot be used leaves the old one."""
    if board is None or board.certificate_file is None:
        return
    used, going_on = _stamps(board), GoingOn("board")
    while True:
        await clock.sleep(CERTIFICATE_EVERY_S)
        if (now := _stamps(board)) == used or config.ssl is None:
            continue
        with going_on("certificate"):
            try:
                password = tls_of(board)["ssl_keyfile_password"]
                config.ssl.load_cert_chain(board.certificate_file, board.private_key_file, password)
            except (OSError, NeedsOperator) as error:
                _log.error(f"board: {error}; the certificate before it stays in use")
            used = now


def _stamps(board: BoardSection) -> list[int]:
    stamps = []
    for path in (board.certificate_file, board.private_key_file):
        with contextlib.suppress(OSError):
            stamps.append(path.stat().st_mtime_ns if path else 0)
    return stamps


def listener_of(listening: Listening) -> Listener:
    """The limits for connections, in force before anybody has signed in."""
    limits = Limits(
        proxies=tuple(ipaddress.ip_network(one) for one in listening.proxies),
        probes=frozenset({"/healthz", "/readyz"}),
        lasting=frozenset({"/live"}),
    )
    return Listener("board", limits, is_idle=_is_idle)


def _is_idle(protocol: HttpToolsProtocol) -> bool:
    return protocol.cycle is None or protocol.cycle.response_complete


class _Protocol(HttpToolsProtocol):
    """uvicorn's own, which of requests that were sent at once ends the last alone with their connection."""

    _answered: RequestResponseCycle | None = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()


class _Server(uvicorn.Server):
    """Keeps connections within limits, leaves the signals to the command, and tells when it listens."""

    def __init__(self, config: uvicorn.Config, listener: Listener, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._listener = listener
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # httptools refuses a URL that is longer than the trail has room for.
        self.config.http_protocol_class = self._protocol  # type: ignore[assignment]
        # The listener speaks TLS, so that handshakes are counted and timed as well.
        self._listener.context, self.config.ssl = self.config.ssl, None
        try:
            await super().startup(sockets)
        finally:
            self.config.ssl = self._listener.context
        if self.started:
            self._tell()

    def _protocol(self, **wanted: Any) -> asyncio.Protocol:
        return self._listener.protocol(lambda: _Protocol(**wanted))

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


async def _follow_configuration(sources: Sources, path: Path, clock: Clock) -> None:
    """Show what belongs to the configuration as it is by now, whoever changes it."""
    watch, going_on = FileWatch([path], clock), GoingOn("board")
    while True:
        await watch.changed()
        while True:
            with going_on("configuration"):
                await sources.take_up()
                break
            # It is not shown yet, though it will not change once more.
            await clock.sleep(LAKE_EVERY_S)


class _Readers:
    """The readers of lakes that somebody still asks: one that was turned from goes with its last query."""

    def __init__(self, rests: Rests) -> None:
        self._turn = rests.turn
        self._queries = Queries()
        self._open: WeakSet[FactsReader] = WeakSet()

    def open(self, lake: Path) -> FactsReader:
        reader = FactsReader(lake, turn=self._turn, queries=self._queries)
        self._open.add(reader)
        return reader

    def close(self) -> None:
        for one in [*self._open]:
            one.close()


async def _follow_lake(sources: Sources, open_reader: Callable[[Path], FactsReader], clock: Clock) -> None:
    """Show the lake of the configuration as it is by now; what fails is tried again."""
    told = ""
    while True:
        await clock.sleep(LAKE_EVERY_S)
        try:
            await follow_lake(sources, open_reader)
            told = ""
        except Exception as error:  # noqa: BLE001 - the pages go on with the lake that they show
            if (why := str(error)) != told:
                told = why
                _log.warning(
                    f"board: the lake of the configuration cannot be shown: {why};"
                    f" the pages go on with the one before, and it is tried again every {LAKE_EVERY_S:g} s"
                )


async def _keep_rollups(sources: Sources, clock: Clock, rests: Rests) -> None:
    """Make rollups of what is new, again and again; what fails is made at the next time."""

    def keep(lake: Path) -> float:
        """How much work it was: one thread does it."""
        worked_s = thread_work()
        begun_s = worked_s()
        with rests.apart(worked_s):
            keep_rollups(lake, now_s=clock.now().timestamp())
        return worked_s() - begun_s

    while True:
        try:
            rests.look()  # a collector that has come is given way to before there is work
            work_s = await asyncio.to_thread(keep, sources.lake) if sources.lake else 0.0
            await rests.rest_from(work_s)
        except Exception as error:  # noqa: BLE001 - pages do without rollups, only slower
            _log.warning(
                f"board: rollups were not made: {error}; pages count the records themselves meanwhile"
            )
        await clock.sleep(ROLLUPS_EVERY_S)
