"""What a target is: something that takes bytes of whomever and has to end in an allowed way, within bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from m365watch.common.errors import CollectorError, SettingsRefused

Attempt = Callable[[bytes], object]
"""Takes an input and ends; what it raises is a finding."""
Grow = Callable[[Random], bytes]
"""Makes an input of the right structure, hostile in its parts."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_FREE_CPU_S = 1.0
_CPU_S_A_BYTE = 20e-6
_FREE_BYTES = 48 << 20
_BYTES_A_BYTE = 300


@dataclass(frozen=True)
class Target:
    """One way in."""

    name: str
    prepare: Callable[[Path], Attempt]
    """What takes the inputs; it may write into the folder."""
    seeds: Callable[[], list[bytes]]
    """Good inputs, of which bad ones are made."""
    grow: Grow | None = None
    words: tuple[bytes, ...] = ()
    """What stands in good inputs and tells a parser something."""
    input_bytes_max: int = 128 << 10
    free_cpu_s: float = _FREE_CPU_S
    """What an input may take whatever its length."""
    free_bytes: int = _FREE_BYTES
    """By how much memory may grow whatever the input's length."""
    costs: int = 1
    """How many inputs of other targets one takes as long as; a short hunt tries the fewer of it."""

    def cpu_s(self, given: bytes) -> float:
        """What this input may take: a fixed part, and one in proportion to its length."""
        return self.free_cpu_s + len(given) * _CPU_S_A_BYTE

    def memory_bytes(self, given: bytes) -> int:
        """By how much memory may grow for it."""
        return self.free_bytes + len(given) * _BYTES_A_BYTE


class Broken(AssertionError):
    """What came out of an input breaks a promise."""


@dataclass
class Told:
    """What the last input led to, as far as it was told; by it inputs are told apart that are worth keeping."""

    outcomes: set[str] = field(default_factory=set)

    def take(self) -> frozenset[str]:
        """What was told since the last time."""
        taken = frozenset(self.outcomes)
        self.outcomes.clear()
        return taken


TOLD = Told()


@contextmanager
def allowed(*kinds: type[Exception]) -> Iterator[None]:
    """Let the project's own errors pass, and these; each of our own says where, what and what then in a line."""
    try:
        yield
    except SettingsRefused as error:
        for mistake in error.mistakes:
            check_line(mistake)
        check_line(str(error))
    except CollectorError as error:
        check_line(str(error))
    except kinds as error:
        TOLD.outcomes.add(type(error).__name__)


def check_line(text: str) -> None:
    """Raise unless the text is one line that any terminal can show."""
    TOLD.outcomes.add(re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "_", text)[:80])
    if not text.strip():
        raise Broken("an error that says nothing")
    if _CONTROL.search(text):
        raise Broken(f"not one line that can be shown: {text[:400]!r}")


class Loop:
    """One event loop for many inputs; what tasks leave behind unseen is a finding, too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._unseen: list[BaseException] = []
        self._loop.set_exception_handler(self._keep)

    def _keep(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._unseen.append(error if isinstance(error, BaseException) else Broken(str(context)))

    def run(self, work: Awaitable[Any]) -> Any:
        """What the work comes to."""
        try:
            return self._loop.run_until_complete(_as_coroutine(work))
        finally:
            unseen, self._unseen = self._unseen, []
            if unseen:
                raise unseen[0]


async def _as_coroutine(work: Awaitable[Any]) -> Any:
    return await work
