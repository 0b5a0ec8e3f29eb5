"""The connections of a process: kept for the next request, bounded in number, watched by one timer."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING

from yarl import URL

from m365watch.http.aiohttp_transport import Connection
from m365watch.http.aiohttp_transport_opening import open_connection
from m365watch.http.origin import Origin
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.http.tls_tls import make_context
from m365watch.http.transport import ExchangeFailed, Failure, RawAnswer

if TYPE_CHECKING:
    from m365watch.http.probe import Looked

IDLE_S = 15.0
"""How long a connection is kept without a request; servers close theirs later."""

ORIGINS_MAX = 64
"""Origins that are remembered; a run has about three."""

CLOSING_TURNS_MAX = 100
"""Turns of the loop that `close` waits for its sockets; they take about three."""

_TICKS = 8
"""Looks of the timer within the shortest limit: none is overrun by more than that share of it."""


class ConnectionPool:
    """Implements `transport.Transport` over HTTP/1.1."""

    def __init__(
        self,
        *,
        connections_max: int,
        body_bytes_max: int,
        stall_s: float,
        total_s: float,
        idle_s: float = IDLE_S,
        network: NetworkSettings = UNSET_NETWORK,
    ) -> None:
        """`stall_s` bounds the time without any byte, `total_s` that of a whole exchange.

        Of `network` all holds but the patience with an answer, which is `stall_s`.
        """
        self._network = network
        self._connections_max = connections_max
        self._body_bytes_max = body_bytes_max
        self._total_s = total_s
        self._tick_s = min(stall_s, total_s, idle_s) / _TICKS
        self._stall_ticks = ceil(stall_s / self._tick_s)
        self._total_ticks = ceil(total_s / self._tick_s)
        self._idle_ticks = ceil(idle_s / self._tick_s)
        self._tick = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._origins: dict[tuple[str, str], Origin] = {}
        self._places_taken = 0
        self._usable: dict[Connection, Origin] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._waiting: deque[tuple[Origin | None, asyncio.Future[Connection | None]]] = deque()
        self._is_closed = False

    async def exchange(
        self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None
    ) -> RawAnswer:
        """The answer, whatever its status; a `body` that is not None is sent with its length.

        A GET that meets a kept connection of which the server has let go is sent once more.

        Raises: ExchangeFailed.
        """
        origin = self._origins.get((url.scheme, url.raw_authority)) or self._origin_of(url)
        request = origin.request(method, url, headers=headers, body=body)
        ends_tick = self._tick + self._total_ticks + 1
        connection = self._kept(origin) or await self._obtain(origin)
        try:
            return await self._exchange(connection, request, ends_tick=ends_tick)
        except ExchangeFailed as error:
            is_stale = error.failure is Failure.CLOSED and connection.is_unheard and connection.exchanges > 1
            if method != "GET" or not is_stale or self._is_closed:
                raise
        connection = await self._obtain(origin, fresh=True)
        return await self._exchange(connection, request, ends_tick=ends_tick)

    async def look(self, url: URL, *, verified: bool = True) -> Looked:
        """What the server of `url` shows of itself over a connection of its own.

        Not `verified`, any certificate is taken, and then nothing is asked.

        Raises: ExchangeFailed.
        """
        from m365watch.http.probe import look_at, unverified_context

        tls = self._context if verified else unverified_context
        origin = self._origin_of(url)
        return await look_at(origin, tls, network=self._network, limit_s=self._total_s, asks=verified)

    async def _exchange(self, connection: Connection, request: bytes, *, ends_tick: int) -> RawAnswer:
        try:
            answer = await connection.exchange(request, ends_tick=ends_tick)
        except BaseException:
            connection.drop()
            raise
        self._give_back(connection)
        return answer

    def _origin_of(self, url: URL) -> Origin:
        if len(self._origins) >= ORIGINS_MAX:
            self._origins.clear()
            self._idle = {known: kept for known, kept in self._idle.items() if kept}
        origin = self._origins[url.scheme, url.raw_authority] = Origin(url, self._network)
        return origin

    # Places: each belongs to a connection, from before it is made until it is over.

    def _kept(self, origin: Origin) -> Connection | None:
        """The connection to `origin` that was used last, of those that nobody uses now."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_free:
                return connection
            connection.drop()
        return None

    async def _obtain(self, origin: Origin, *, fresh: bool = False) -> Connection:
        """A connection to `origin`: one that became free while all places were taken, or a new one."""
        try:
            async with asyncio.timeout(self._total_s):
                while handed := await self._place(None if fresh else origin):
                    if handed.is_free:
                        return handed
                    # The server closed it in the meantime.
                    handed.drop()
                return await self._open(origin)
        except TimeoutError:
            raise ExchangeFailed(Failure.OUT_OF_TIME) from None

    async def _place(self, origin: Origin | None) -> Connection | None:
        """A free place; or, with its place, a connection to `origin`. Who came first is served first."""
        if self._is_closed:
            raise ExchangeFailed(Failure.BROKEN)
        if self._places_taken >= self._connections_max:
            self._drop_longest_idle()
        if self._places_taken < self._connections_max:
            self._places_taken += 1
            return None
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((origin, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove((origin, turn))
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise

    async def _open(self, origin: Origin) -> Connection:
        """A new connection, on a place that is taken already."""
        connection = Connection(body_bytes_max=self._body_bytes_max, on_over=self._release)
        self._usable[connection] = origin
        try:
            await open_connection(origin, connection, self._context, network=self._network)
        except BaseException:
            connection.drop()
            raise
        self._watch()
        return connection

    def _give_back(self, connection: Connection) -> None:
        """Keep `connection` for the next request, or hand it to whoever waits for one."""
        if not connection.is_free:
            connection.drop()
            return
        if self._waiting:
            self._pass_on(connection)
            return
        connection.silent_ticks = 0
        self._idle.setdefault(self._usable[connection], []).append(connection)

    def _release(self, connection: Connection) -> None:
        """Let another have the place of a connection that is over."""
        origin = self._usable.pop(connection)
        idle = self._idle.get(origin, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(origin, None)
        self._pass_on(None)

    def _pass_on(self, connection: Connection | None) -> None:
        """Give a place, with `connection` on it if that leads where it is wanted, to the first who waits."""
        while self._waiting:
            origin, turn = self._waiting.popleft()
            if turn.done():
                continue
            if connection is not None and self._usable.get(connection) is not origin:
                self._waiting.appendleft((origin, turn))
                connection.drop()
                return
            turn.set_result(connection)
            return
        if connection is None:
            self._places_taken -= 1
        else:
            self._give_back(connection)

    def _drop_longest_idle(self) -> None:
        idle = [connection for kept in self._idle.values() for connection in kept]
        if idle:
            max(idle, key=lambda connection: connection.silent_ticks).drop()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            try:
                self._tls = make_context(self._network)
            except ValueError as error:
                raise ExchangeFailed(Failure.AUTHORITIES, f"{self._network.ca_bundle} {error}") from None
        return self._tls

    # Time.

    def _watch(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._look)

    def _look(self) -> None:
        """End what takes too long, and what is not needed any more."""
        self._tick += 1
        for connection in list(self._usable):
            connection.silent_ticks += 1
            if not connection.is_busy:
                if connection.exchanges and connection.silent_ticks > self._idle_ticks:
                    connection.drop()
                continue
            connection.watch_writing()
            if connection.silent_ticks > self._stall_ticks or self._tick >= connection.ends_tick:
                connection.fail(Failure.OUT_OF_TIME)
        self._timer = None
        if self._usable:
            self._watch()

    async def close(self) -> None:
        """Close every connection; what is under way fails."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(ExchangeFailed(Failure.BROKEN))
        connections = list(self._usable)
        for connection in connections:
            connection.fail(Failure.BROKEN)
        for _ in range(CLOSING_TURNS_MAX):
            await asyncio.sleep(0)
            if not any(connection.is_open for connection in connections):
                break
