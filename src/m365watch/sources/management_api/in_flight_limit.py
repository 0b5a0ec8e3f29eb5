"""The bound on what is in flight: bytes fetched and not yet durable at every output."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

_GUESS_FIRST_BYTES = 256 * 1024
_GUESS_MAX_BYTES = 1024 * 1024
"""So that a tenant whose fetches all hang leaves room for others; what is larger is made good afterwards."""


@dataclass(slots=True)
class SizeGuess:
    """How large a feed's next blob will be: nothing says so before it is fetched."""

    size_bytes: int = _GUESS_FIRST_BYTES

    def learn(self, size_bytes: int) -> None:
        """Up at once, down slowly: a guess too large only costs concurrency."""
        self.size_bytes = min(_GUESS_MAX_BYTES, max(size_bytes, (self.size_bytes * 7 + size_bytes) // 8))


class BytesInFlight:
    """Lets fetches begin only while their bytes fit; in the order of asking.

    A blob larger than the whole bound is let through alone, because it has to pass somehow.
    """

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max` bounds the sum of what is held."""
        self._bytes_max = bytes_max
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size_bytes: int) -> None:
        """Wait until `size_bytes` fit, then hold them."""
        if not self._waiting and self._fits(size_bytes):
            self._held += size_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._let_in()
            else:
                self.release(size_bytes)
            raise

    def correct(self, *, guessed: int, actual: int) -> None:
        """Hold `actual` instead of what was guessed before the fetch."""
        self._held += actual - guessed
        self._let_in()

    def release(self, size_bytes: int) -> None:
        """Give `size_bytes` back."""
        self._held -= size_bytes
        self._let_in()

    def admits(self, size_bytes: int) -> bool:
        """Whether `size_bytes` would be let in at once."""
        return not self._waiting and self._fits(size_bytes)

    def _fits(self, size_bytes: int) -> bool:
        return self._held == 0 or self._held + size_bytes <= self._bytes_max

    def _let_in(self) -> None:
        while self._waiting:
            size_bytes, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if not self._fits(size_bytes):
                return
            self._waiting.popleft()
            self._held += size_bytes
            turn.set_result(None)
