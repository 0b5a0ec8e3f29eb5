r"""A sender of chunks to a receiver that acknowledges nothing.

    sender = WireSender("collector.example", 443, tls, settings, name="devo", clock=clock, random=random)
    await sender.open()
    await sender.deliver([b"a line\n" * 1000, b"another\n"])   # back when both outlived the retention
    await sender.close()

What a returned `deliver` means: every chunk has been with the receiver's system for
`retention_s`, or `retention_bytes` more were taken after it, or the receiver ended the
connection after having read all of it; and no connection broke before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError, OutputUnavailable
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.connection_errors import ConnectFailed, Why
from m365watch.outputs.network.connection_status import Condition
from m365watch.outputs.network.connector import (
    Target,
    check_address,
    connect,
    make_context,
    read_end,
    read_own_end,
)
from m365watch.outputs.network.options import SendingKeys
from m365watch.outputs.network.send_queue import Work
from m365watch.outputs.network.sender_connection import Lane
from m365watch.outputs.network.tcp_connection import Connection

SERVER_END_NEAR = timedelta(days=14)
OWN_END_NEAR = timedelta(days=30)
"""When the end of a certificate is told beforehand."""

_LOOK_AFTER_S = 0.005
_HINT_IN_THE_CLEAR = "where it expects TLS, set `transport` to tls"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WireFigures:
    """What a sender has done since it was made."""

    connections: int
    """Connections that are open now."""
    sent_bytes: int
    """Bytes of chunks written, repeats included."""
    repeated_bytes: int
    breaks: int
    """Connections that broke with something on its way."""


class WireSender:
    """Sends chunks over `settings.concurrent_connections` connections to `address`:`port`."""

    def __init__(
        self,
        address: str,
        port: int,
        tls: TlsSettings | None,
        settings: SendingKeys,
        *,
        name: str,
        deliveries_max: int,
        clock: Clock,
        random: Random,
        tells: bool = True,
    ) -> None:
        """`tls` None: in the clear. `name` is the output's, for errors.

        `deliveries_max` is how many calls of `deliver` the caller has open at most: once they are and all
        is sent, a connection is ended in order for its proof, instead of waiting for the retention. Nothing
        is touched before `open`. Without `tells` what is in the way stands in `trouble` alone.
        """
        self._target = Target(address, port, tls, None, settings.sending_timeout, f"output {name}")
        self._where = f"output {name}: {address}:{port}"
        self._settings = settings
        self._clock = clock
        self._work = Work(self._wake, deliveries_max=deliveries_max)
        self._condition = Condition(where=self._where, over="connected again", tells=tells)
        self._told_end: bytes = b""
        self._tasks: list[asyncio.Task[None]] = []
        self._lanes = [
            Lane(
                self._work,
                self._connect,
                settings,
                condition=self._condition,
                where=self._where,
                hint="" if tls is not None else _HINT_IN_THE_CLEAR,
                clock=clock,
                random=random,
                on_hopeless=self._give_up,
            )
            for _ in range(settings.concurrent_connections)
        ]

    @property
    def trouble(self) -> CollectorError | None:
        """Why the receiver could not be reached, or took nothing, when it was last tried; None if it did."""
        return self._condition.trouble

    @property
    def open_count(self) -> int:
        """How many calls of `deliver` are open."""
        return self._work.open_count

    @property
    def open_bytes(self) -> int:
        """The sum of their `size_bytes`."""
        return self._work.open_bytes

    @property
    def figures(self) -> WireFigures:
        """What was done so far."""
        return WireFigures(
            connections=sum(lane.is_connected for lane in self._lanes),
            sent_bytes=sum(lane.sent_bytes for lane in self._lanes),
            repeated_bytes=sum(lane.repeated_bytes for lane in self._lanes),
            breaks=sum(lane.breaks for lane in self._lanes),
        )

    async def open(self) -> None:
        """Look at the files, try the way once, and begin to work.

        A receiver that cannot be reached, or that refuses, is told, stands in `trouble` and is tried
        again: it may be mended while this runs.

        Raises: OutputUnusable: a person has to act on the files or the settings here.
        """
        check_address(self._target.address, where=self._target.where)
        await self._prepare_tls()
        try:
            self._lanes[0].adopt(await self._connect())
        except ConnectFailed as failed:
            self._lanes[0].note_failed_try(failed.why)
        self._tasks = [asyncio.create_task(lane.run(), name=self._where) for lane in self._lanes]
        for task in self._tasks:
            task.add_done_callback(self._pass_on)

    async def deliver(self, chunks: Iterable[bytes], *, size_bytes: int = 0) -> None:
        """Return when every chunk has outlived the retention.

        A chunk is whole lines (or whatever the receiver takes as a unit), is sent and sent again as one,
        and should have 64 to 256 kB. The delivery is taken over before the first wait; its
        chunks are made one by one when there is room. Several calls may be open. `size_bytes` is what the
        caller keeps in memory for it: where that has become much, proof is asked for.

        Raises: OutputUnavailable: the retries are used up, or the sender was closed; nothing counts.
        OutputUnusable: the same, where a person has to act.
        """
        delivery = self._work.add(chunks, size_bytes=size_bytes)
        try:
            await delivery.done
        except asyncio.CancelledError:
            self._work.forget(delivery)
            raise

    async def send_unkept(self, lines: bytes) -> None:
        """Return when whole lines are with the receiver's system: what is lost with it is not sent again.

        Raises: OutputUnavailable: there is no connection just now, though one is tried for; nothing was
        sent, or the connection ended with it.
        """
        if self.trouble is not None and not self._is_connected:
            self._work.want_connection()
            raise self._unavailable(self.trouble.what)
        await self._work.add_unkept(lines)

    async def flush(self) -> None:
        """Find out soon what was read: each connection is closed in order and the peer's end waited for.

        Takes as long as the retention where the peer does not answer, and no longer than that and
        four times the sending time-out; no time at all where nothing can be reached just now. Open
        calls of `deliver` return in consequence, or raise.
        """
        waiting = self._work.open_futures
        await self._end_connections(lambda: all(done.done() for done in waiting))

    async def close(self) -> None:
        """Leave in order, as `flush` does; a call of `deliver` that is open after that raises.

        What `send_unkept` was given is sent before, over a new connection if need be.
        """
        if self._tasks:
            await self._end_connections(lambda: not (self._work.open_count or self._says_something))
        await self._stop()
        if self._work.unsent_bytes:
            _log.warning(f"{self._where}: {self._work.unsent_bytes:,} bytes of notices could not be sent")

    @property
    def _says_something(self) -> bool:
        """Whether what is not kept waits, or a connection has not ended."""
        return self._work.has_unkept or self._is_connected

    @property
    def _is_connected(self) -> bool:
        return any(lane.is_connected for lane in self._lanes)

    async def _end_connections(self, is_over: Callable[[], bool]) -> None:
        """Have each connection that has nothing more to send ended in order, until it `is_over`.

        For a bounded time, and only while something may come of it.
        """
        bound_s = self._settings.retention_secs + 4 * self._settings.sending_timeout
        until_s = self._clock.monotonic_s() + bound_s
        self._work.flushing = True
        self._wake()
        try:
            while not is_over() and any(lane.is_promising for lane in self._lanes):
                if self._clock.monotonic_s() >= until_s:
                    return
                await asyncio.sleep(_LOOK_AFTER_S)
        finally:
            self._work.flushing = False

    async def _stop(self) -> None:
        """Let go of the connections as they are, and of who waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # Callers of `deliver` have them.
        self._tasks = []
        for lane in self._lanes:
            lane.let_go()  # A lane that was cancelled before its first step could not.
        self._work.fail(lambda: self._unavailable("closed before it was known what was read"))

    async def _prepare_tls(self) -> None:
        """Make the TLS context from its files, and tell what is odd about it."""
        target, tls = self._target, self._target.tls
        if tls is None:
            return
        context = make_context(tls, where=target.where)
        self._target = Target(target.address, target.port, tls, context, target.timeout_s, target.where)
        if not tls.verify_hostname:
            _log.warning(
                f"{self._where}: verify_hostname is off: any certificate that the chain's authorities issued "
                f"is taken, whatever its name"
            )
        ends_at = read_own_end(tls, where=target.where)
        if ends_at is not None and ends_at - self._clock.now() < OWN_END_NEAR:
            _log.warning(
                f"{self._where}: the client certificate {tls.cert} expires at {ends_at:%Y-%m-%d %H:%M} UTC; "
                f"have a new one issued"
            )

    async def _connect(self) -> Connection:
        try:
            connection, certificate = await connect(self._target)
        except ConnectFailed as failed:
            if not self._is_connected:
                what = failed.why.what
                self._work.refuse(self._work.take_unkept(), lambda: self._unavailable(what))
            raise
        if certificate and certificate != self._told_end:
            self._told_end = certificate
            ends_at = read_end(certificate)
            if ends_at - self._clock.now() < SERVER_END_NEAR:
                _log.warning(
                    f"{self._where}: the server's certificate expires at {ends_at:%Y-%m-%d %H:%M} UTC; "
                    f"from then on nothing is sent"
                )
        return connection

    def _pass_on(self, task: asyncio.Task[None]) -> None:
        """Let the callers of `deliver` have what ended a lane, since nothing should."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._work.fail(lambda: error)

    def _give_up(self, why: Why) -> bool:
        """End every delivery with an error if no lane has hope left; whether that was done."""
        if any(lane.is_hopeful for lane in self._lanes):
            return False
        self._work.fail(lambda: why.error(where=self._where))
        return True

    def _unavailable(self, what: str) -> OutputUnavailable:
        return OutputUnavailable(what, where=self._where)

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.wake()
