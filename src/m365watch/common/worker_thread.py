"""A thread for whoever works with files of its own: one piece of work after the other, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class OwnThread:
    """Does what it is given, in that order."""

    def __init__(self, name: str, *, executor: Executor | None = None) -> None:
        """The thread starts with the first piece of work; `executor` does it in its place."""
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the verb; what it returns, or raises."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, partial(verb, *args, **kwargs)
        )

    def begin(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have the verb done after all that was given before, and wait for nothing."""
        return self._executor.submit(verb, *args, **kwargs)

    def close(self) -> None:
        """Let the thread end, after all that it was given."""
        self._executor.shutdown(wait=True)
