"""What is to be sent, what has to be sent again, and who waits until it has outlived its retention."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

PROOF_BYTES = 24 * 1024 * 1024
"""Where deliveries of so many bytes wait for nothing but their retention, it is worth asking for proof."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One call of `WireSender.deliver`: its chunks are made one by one, when there is room for them."""

    chunks: Iterator[bytes]
    ready: bytes | None
    """The next chunk; None after the last."""
    done: asyncio.Future[None]
    size_bytes: int
    """What its caller keeps in memory for it."""
    unreleased: int = 0
    """Chunks that were taken and have not outlived their retention."""


@dataclass(slots=True, eq=False)
class Chunk:
    """Whole lines that are sent, and sent again, as one."""

    body: bytes
    delivery: Delivery
    end: int = 0
    """Where it ends among the bytes of its connection."""
    drained_at_s: float = 0.0
    """When the peer's system had it, on the monotonic clock."""


@dataclass(slots=True, eq=False)
class Unkept:
    """Whole lines that are sent once, and not again after a break."""

    body: bytes
    sent: asyncio.Future[None]
    """Done once the peer's system has them; its caller may have gone before."""
    end: int = 0
    """Where they end among the bytes of their connection."""


class Work:
    """Shared by the lanes of one sender; `on_change` is called when there is something to do."""

    def __init__(self, on_change: Callable[[], None], *, deliveries_max: int) -> None:
        """Nothing to send yet; `deliveries_max` is how many are ever open together."""
        self.flushing = False
        """Whether somebody waits for proof."""
        self.is_wanted = False
        """Whether somebody who waits for nothing would send if there were a connection."""
        self.unsent_bytes = 0
        """What was not sent of that whose caller had gone."""
        self._on_change = on_change
        self._deliveries_max = deliveries_max
        self._again: deque[Chunk] = deque()
        self._waiting: deque[Delivery] = deque()
        self._open: dict[Delivery, None] = {}
        self._unkept: list[Unkept] = []

    def __bool__(self) -> bool:
        """Whether something waits to be sent, or for a connection."""
        return bool(self._again or self._waiting or self._unkept or self.is_wanted)

    @property
    def has_unkept(self) -> bool:
        """Whether lines that are not kept wait to be sent."""
        return bool(self._unkept)

    @property
    def open_count(self) -> int:
        """How many deliveries have not ended."""
        return len(self._open)

    @property
    def is_held_up(self) -> bool:
        """Whether everything was sent, and much or all that may be open waits to be released."""
        return not self and (len(self._open) >= self._deliveries_max or self.open_bytes >= PROOF_BYTES)

    @property
    def open_bytes(self) -> int:
        """The bytes that the callers of open deliveries keep in memory."""
        return sum(delivery.size_bytes for delivery in self._open)

    @property
    def open_futures(self) -> list[asyncio.Future[None]]:
        """What to wait for until each open delivery has ended, well or badly."""
        return [delivery.done for delivery in self._open]

    def add(self, chunks: Iterable[bytes], *, size_bytes: int) -> Delivery:
        """Take a delivery over, behind those before it."""
        made = iter(chunks)
        done = asyncio.get_running_loop().create_future()
        delivery = Delivery(made, next(made, None), done, size_bytes)
        if delivery.ready is None:
            delivery.done.set_result(None)
            return delivery
        self._open[delivery] = None
        self._waiting.append(delivery)
        self._on_change()
        return delivery

    def add_unkept(self, body: bytes) -> asyncio.Future[None]:
        """Take over what is sent once; the future is done when that was done, or fails.

        It is bounded by its callers, who wait for it.
        """
        unkept = Unkept(body, asyncio.get_running_loop().create_future())
        self._unkept.append(unkept)
        self._on_change()
        return unkept.sent

    def want_connection(self) -> None:
        """Have a connection made, though there is nothing to send."""
        self.is_wanted = True
        self._on_change()

    def take_unkept(self) -> list[Unkept]:
        """Everything that is sent once and was not yet."""
        taken, self._unkept = self._unkept, []
        return taken

    def refuse(self, unkept: Iterable[Unkept], make_error: Callable[[], BaseException]) -> None:
        """Tell the callers of `unkept` that it was not sent; what has none any more is counted."""
        for one in unkept:
            if one.sent.done():
                self.unsent_bytes += len(one.body)
            else:
                one.sent.set_exception(make_error())

    def take(self) -> Chunk | None:
        """The next chunk: what broke off first, then the deliveries in their order."""
        if self._again:
            return self._again.popleft()
        if not self._waiting:
            return None
        delivery = self._waiting[0]
        body = delivery.ready
        try:
            delivery.ready = next(delivery.chunks, None)
        except Exception as error:  # noqa: BLE001 - the caller's own defect, and nobody else's
            self._waiting.popleft()
            self._open.pop(delivery, None)
            if not delivery.done.done():
                delivery.done.set_exception(error)
            return self.take()
        if delivery.ready is None:
            self._waiting.popleft()
        if body is None:
            return None
        delivery.unreleased += 1
        return Chunk(body, delivery)

    def give_back(self, chunks: Sequence[Chunk]) -> int:
        """Have `chunks` sent again before anything else, those whose delivery is still open; their bytes."""
        again = [chunk for chunk in chunks if chunk.delivery in self._open]
        self._again.extendleft(reversed(again))
        if again:
            self._on_change()
        return sum(len(chunk.body) for chunk in again)

    def release(self, chunk: Chunk) -> None:
        """Count `chunk` as delivered; its delivery ends with the last one."""
        delivery = chunk.delivery
        delivery.unreleased -= 1
        if delivery.unreleased or delivery.ready is not None or delivery not in self._open:
            return
        del self._open[delivery]
        if not delivery.done.done():
            delivery.done.set_result(None)

    def forget(self, delivery: Delivery) -> None:
        """Send nothing more of a delivery that nobody waits for any more."""
        self._open.pop(delivery, None)
        if delivery in self._waiting:
            self._waiting.remove(delivery)
        self._again = deque(chunk for chunk in self._again if chunk.delivery is not delivery)

    def fail(self, make_error: Callable[[], BaseException]) -> None:
        """End all that is open with an error of its own, and forget what waits."""
        for delivery in self._open:
            if not delivery.done.done():
                delivery.done.set_exception(make_error())
        self._open.clear()
        self._waiting.clear()
        self._again.clear()
        self.is_wanted = False
        self.refuse(self.take_unkept(), make_error)
