"""An event loop in a thread of its own, for servers that outlive the loops of a test."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs while entered; what was entered into it is left at the end."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()

    def enter(self, server: AbstractAsyncContextManager[T]) -> T:
        """What entering `server` gives, on this loop."""
        return asyncio.run_coroutine_threadsafe(self._stack.enter_async_context(server), self._loop).result(5)

    def __enter__(self) -> Self:
        """The loop, running."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave everything, and stop."""
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
