"""One of a sender's connections over time: made, used, kept watch over, made again.

What was sent is kept until it has outlived its retention, because the peer's kernel acknowledges
what the peer's program may never read: if the connection breaks before, it is sent again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.error_boundary import defect_of
from m365watch.outputs.network.connection_errors import Broken, ConnectFailed, Why
from m365watch.outputs.network.connection_status import Condition
from m365watch.outputs.network.options import SendingKeys
from m365watch.outputs.network.send_queue import Chunk, Unkept, Work
from m365watch.outputs.network.tcp_connection import Connection

_LOOK_AFTER_S = 0.005
"""How often the system is asked what has left, while something has not."""

_PROVE_AFTER_S = 0.1
"""How long a connection is used at least, where the retention holds up the sender, before it is ended for
a proof."""

_DEFECT_PAUSE_S = 5.0
_log = structlog.get_logger(__name__)


class Lane:
    """Carries chunks of `work` over one connection at a time."""

    def __init__(
        self,
        work: Work,
        connect: Callable[[], Awaitable[Connection]],
        settings: SendingKeys,
        *,
        condition: Condition,
        where: str,
        hint: str,
        clock: Clock,
        random: Random,
        on_hopeless: Callable[[Why], bool],
    ) -> None:
        """`on_hopeless` is told why nothing works; it answers whether the work has been given up.

        `hint` is what to look at where the peer leaves before anything is known to be read; it may be empty.
        """
        self.sent_bytes = 0
        self.repeated_bytes = 0
        self.breaks = 0
        """Connections that broke with something on its way."""
        self._work = work
        self._connect = connect
        self._settings = settings
        self._condition = condition
        self._where = where
        self._hint = hint
        self._clock = clock
        self._random = random
        self._on_hopeless = on_hopeless
        self._awake = asyncio.Event()
        self._ready: Connection | None = None
        self._failed_tries = 0
        self._breaks_in_a_row = 0
        self._allowance_bytes: int | None = None
        self._is_doubted = False
        """Whether the last connection that broke had proven nothing: only proof shows that it is over."""
        self._proves = True
        """Whether the peer has answered every end so far."""
        self._forget_connection()

    def wake(self) -> None:
        """Look again for something to do."""
        self._awake.set()

    @property
    def is_connected(self) -> bool:
        """Whether a connection is in use or ready."""
        return self._ready is not None

    @property
    def is_hopeful(self) -> bool:
        """Whether its retries are not used up."""
        return (
            self._failed_tries <= self._settings.connecting_retries
            and self._breaks_in_a_row <= self._settings.sending_retries
        )

    @property
    def is_promising(self) -> bool:
        """Whether there is a connection, or one may come about at once."""
        return self._ready is not None or self._failed_tries == 0

    def adopt(self, connection: Connection) -> None:
        """Use `connection`, made by somebody else, before making any."""
        self._take_heart(connection)

    async def run(self) -> None:
        """Carry until cancelled; what goes wrong unforeseen is told, and the lane begins anew."""
        while True:
            try:
                if self._ready is None:
                    await self._reach()
                if self._ready is not None:
                    await self._use(self._ready)
            except Exception as error:  # noqa: BLE001 - the supervisor of a connection: it must not stay away
                self._work.give_back([*self._kept, *self._sent])
                self._kept.clear()
                self._sent.clear()
                defect = defect_of(error, where=self._where)
                _log.error(str(defect), code=defect.code)
                await self._clock.sleep(_DEFECT_PAUSE_S)

    def let_go(self) -> None:
        """Close the connection, if there is one, as it is."""
        if self._ready is not None:
            self._ready.close()
            self._ready = None

    def _forget_connection(self) -> None:
        """Begin to count anew, as for a connection that has carried nothing."""
        self._sent: deque[Chunk] = deque()
        """Written, and not known to be with the peer's system."""
        self._kept: deque[Chunk] = deque()
        """With the peer's system, and not for long enough."""
        self._unkept: deque[Unkept] = deque()
        """Written, not known to be with the peer's system, and never sent again."""
        self._carried_bytes = 0
        self._released = False
        self._drained = 0
        self._began_at_s = self._moved_at_s = self._used_at_s = self._clock.monotonic_s()

    @property
    def _carries(self) -> bool:
        """Whether something was written of which more is to be known."""
        return bool(self._sent or self._kept or self._unkept)

    def _take_heart(self, connection: Connection) -> None:
        """There is a connection: the ways to it count as good unless the last one proved nothing."""
        self._ready = connection
        self._failed_tries = 0
        self._work.is_wanted = False
        if not self._is_doubted:
            self._condition.passed(self)

    async def _reach(self) -> None:
        """Make a connection once there is work for one; there is none when the work was given up."""
        while not self._work:
            self._awake.clear()
            await self._awake.wait()
        if self._breaks_in_a_row:
            await self._wait_out(
                self._breaks_in_a_row,
                first_s=self._settings.sending_initial_wait_in_seconds,
                max_s=self._settings.sending_max_wait_in_seconds,
            )
        while self._work:
            try:
                connection = await self._connect()
            except ConnectFailed as failed:
                if self.note_failed_try(failed.why):
                    return
            else:
                self._take_heart(connection)
                return
            await self._wait_out(
                self._failed_tries,
                first_s=self._settings.connecting_initial_wait_in_seconds,
                max_s=self._settings.connecting_max_wait_in_seconds,
            )

    def note_failed_try(self, why: Why) -> bool:
        """Count it, and give up after the last of a row; whether that was done."""
        self._failed_tries += 1
        self._condition.note(self, why.error(where=self._where))
        if self.is_hopeful or not self._on_hopeless(why):
            return False
        self._failed_tries = self._breaks_in_a_row = 0
        return True

    async def _wait_out(self, count: int, *, first_s: float, max_s: float) -> None:
        """The pause before try `count` of a row: doubled each time, and between half and all of that."""
        pause_s = min(max_s, first_s * 2.0 ** min(count - 1, 30))
        await self._clock.sleep(pause_s * (0.5 + self._random.random() / 2))

    async def _use(self, connection: Connection) -> None:
        """Carry over `connection` for as long as it lasts; what did not outlive it is given back."""
        self._forget_connection()
        connection.attend(self.wake)
        try:
            await self._carry(connection)
        except Broken as broken:
            self._note_break(broken)
        finally:
            gone = Why("the connection ended before what was said was on its way")
            self._work.refuse(self._unkept, lambda: gone.error(where=self._where))
            self.let_go()

    def _note_break(self, broken: Broken) -> None:
        lost = [*self._kept, *self._sent]
        if not lost:
            return
        self.breaks += 1
        self._breaks_in_a_row = 1 if self._released else self._breaks_in_a_row + 1
        if self._breaks_in_a_row > 1 or self._allowance_bytes is not None:
            # The peer may break after every so many bytes: send less at once, and have that proven.
            self._allowance_bytes = self._carried_bytes // 4
        again_bytes = self._work.give_back(lost)
        self.repeated_bytes += again_bytes
        why = self._explain_break(broken)
        self._is_doubted = self._is_doubted or not self._released
        if again_bytes:
            again = f"what may not have been read, {again_bytes:,} bytes, is sent again"
            line = "; ".join(filter(None, (f"{self._where}: {why.what}", again, why.fix)))
            self._condition.note(self, why.error(where=self._where), line=line)
        if not self.is_hopeful and self._on_hopeless(why):
            self._failed_tries = self._breaks_in_a_row = 0

    def _explain_break(self, broken: Broken) -> Why:
        why = broken.why
        hint = f": {self._hint}" if self._hint and why.by_peer and not self._released else ""
        return why._replace(what=f"the connection broke: {why.what}{hint}")

    async def _carry(self, connection: Connection) -> None:
        """Send chunks until the connection is ended in order.

        Raises: Broken.
        """
        while True:
            self._awake.clear()
            connection.push()
            self._settle(connection)
            if connection.is_left:
                if self._carries or not connection.has_room:
                    raise Broken(Why("the peer closed it", by_peer=True))
                return
            if connection.has_room:
                if self._carry_next(connection):
                    await asyncio.sleep(0)
                    continue
                if self._is_time_to_end():
                    await self._end(connection)
                    self._trust_more()
                    return
            held_up = self._work.is_held_up
            await self._pause(_PROVE_AFTER_S if held_up else self._idle_left_s())

    def _carry_next(self, connection: Connection) -> bool:
        """Write the next chunk, if there is one for this connection."""
        unkept = self._work.take_unkept()
        if unkept:
            for one in unkept:
                one.end = connection.write(one.body)
            self._unkept.extend(unkept)
            self._used_at_s = self._clock.monotonic_s()
            return True
        if self._is_spent():
            return False
        chunk = self._work.take()
        if chunk is None:
            return False
        chunk.end = connection.write(chunk.body)
        self._sent.append(chunk)
        self._carried_bytes += len(chunk.body)
        self.sent_bytes += len(chunk.body)
        self._used_at_s = self._clock.monotonic_s()
        return True

    def _settle(self, connection: Connection) -> None:
        """See what has left, and release what has outlived its retention.

        Raises: Broken.
        """
        drained = connection.measure_drained()
        if connection.failure is not None:
            raise Broken(connection.failure)
        now_s = self._clock.monotonic_s()
        if drained > self._drained or drained == connection.written:
            self._drained, self._moved_at_s = drained, now_s
        elif now_s - self._moved_at_s >= self._settings.sending_timeout:
            raise Broken(Why(f"the peer took nothing for {self._settings.sending_timeout:g} s"))
        while self._sent and self._sent[0].end <= drained:
            chunk = self._sent.popleft()
            chunk.drained_at_s = now_s
            self._kept.append(chunk)
        while self._unkept and self._unkept[0].end <= drained:
            _end_well(self._unkept.popleft())
        while self._kept and self._is_outlived(self._kept[0], drained=drained, now_s=now_s):
            self._release(self._kept.popleft())

    def _is_outlived(self, chunk: Chunk, *, drained: int, now_s: float) -> bool:
        settings = self._settings
        return (
            now_s - chunk.drained_at_s >= settings.retention_secs
            or drained - chunk.end >= settings.retention_bytes
        )

    def _release(self, chunk: Chunk) -> None:
        self._released = True
        self._breaks_in_a_row = 0
        if self._is_doubted:
            self._is_doubted = False
            self._condition.passed(self)
        self._work.release(chunk)

    def _is_time_to_end(self) -> bool:
        """Whether to close in order now, though the peer would take more."""
        if self._is_spent():
            return True
        if self._work.flushing:
            return not self._work
        if self._sent or self._kept:
            return self._is_proof_quicker()
        return self._idle_left_s() <= 0

    def _is_proof_quicker(self) -> bool:
        """Whether the sender would only wait for the retention, and a proof is likely to be had sooner."""
        age_s = self._clock.monotonic_s() - self._began_at_s
        return self._proves and age_s >= _PROVE_AFTER_S and self._work.is_held_up

    def _is_spent(self) -> bool:
        """Whether this connection has carried what it may before it is proven."""
        return self._allowance_bytes is not None and self._carried_bytes >= self._allowance_bytes

    def _idle_left_s(self) -> float:
        return self._used_at_s + self._settings.idle_secs - self._clock.monotonic_s()

    async def _end(self, connection: Connection) -> None:
        """Close in order: the peer's end in answer proves that it has read everything.

        A peer that does not answer keeps the retention running, as if nothing had been closed.

        Raises: Broken.
        """
        asks = bool(self._sent or self._kept)
        connection.end()
        while self._carries:
            self._awake.clear()
            connection.push()
            if connection.is_proof:
                self._release_proven()
                return
            self._settle(connection)
            if self._carries:
                await self._pause(_LOOK_AFTER_S if connection.ended else self._settings.sending_timeout)
        connection.push()
        if asks:
            self._proves = False

    def _release_proven(self) -> None:
        while self._unkept:
            _end_well(self._unkept.popleft())
        for chunk in (*self._kept, *self._sent):
            self._release(chunk)
        self._kept.clear()
        self._sent.clear()

    def _trust_more(self) -> None:
        """After a connection that ended well, the next one may carry twice as much."""
        if self._allowance_bytes is not None:
            self._allowance_bytes *= 2
            if self._allowance_bytes > self._settings.retention_bytes:
                self._allowance_bytes = None

    async def _pause(self, seconds: float) -> None:
        """Wait for a change, for `seconds` at most, or until something is due to be looked at."""
        if self._sent or self._unkept:
            seconds = min(seconds, _LOOK_AFTER_S)
        if self._kept:
            due_s = self._kept[0].drained_at_s + self._settings.retention_secs
            seconds = min(seconds, due_s - self._clock.monotonic_s())
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._awake.wait()


def _end_well(unkept: Unkept) -> None:
    """Tell its caller, if there still is one, that it was sent."""
    if not unkept.sent.done():
        unkept.sent.set_result(None)
