"""The notice board: lines of the collector go up, and every output that takes notices reads them.

It is bounded, and never in anybody's way: a reader that is away finds the latest lines when it comes
back, and how many it missed. What goes wrong with a reader is not itself told, or there would be no end.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from itertools import islice
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import structlog
from pydantic import BaseModel, SecretStr

from m365watch.common.clock import Clock
from m365watch.common.collector_events import LEVELS, Notice, Speaker, plain_msg
from m365watch.common.secret import Secret
from m365watch.registry.output_specs import OutputSettings

CHARACTERS_MIN = 6
"""A shorter secret is part of too many words to be blotted out."""


def list_secrets(settings: object) -> frozenset[str]:
    """Every secret anywhere in `settings`, revealed; the very short ones left out."""
    return frozenset(text for text in _reveal(settings) if len(text) >= CHARACTERS_MIN)


def _reveal(value: object) -> Iterator[str]:
    if isinstance(value, Secret | SecretStr):
        text = value.reveal() if isinstance(value, Secret) else value.get_secret_value()
        yield text
        # A private key has many lines, each of which tells a part of it.
        yield from (line for line in text.split("\n")[1:] if not line.startswith("-----"))
    elif isinstance(value, BaseModel):
        yield from _reveal(vars(value) | (value.__pydantic_private__ or {}))
    elif is_dataclass(value):
        yield from _reveal([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, dict):
        yield from _reveal([*value.values()])
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _reveal(part)


@runtime_checkable
class NoticeTaker(Protocol):
    """An output that takes the collector's notices."""

    name: str
    notices_every_s: float
    """At most one call in so many seconds."""

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        """Write `notices`, or raise an error of the collector's: they are offered again later."""
        ...


@runtime_checkable
class TagTaker(Protocol):
    """An output that takes any bytes under a tag of Devo's."""

    name: str

    async def write_tagged(self, tagged: Sequence[tuple[str, bytes]], /) -> None:
        """Write each body under its tag, best effort."""
        ...


class TaggedNotices:
    """A `NoticeTaker` over an output of Devo's."""

    notices_every_s = 1.0

    def __init__(self, output: TagTaker) -> None:
        """`output` is the pipeline's own."""
        self.name = output.name
        self._output = output

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        """Each notice as JSON under its tag."""
        await self._output.write_tagged([(notice.tag, notice.as_json()) for notice in notices])


def takers_among(outputs: Iterable[tuple[OutputSettings, object]]) -> list[NoticeTaker]:
    """A taker for each of the outputs, each with its settings, that takes notices and is to have them.

    The lake has a table of its own for them, others send them under a tag unless that is switched off.
    """
    takers: list[NoticeTaker] = []
    for settings, output in outputs:
        if isinstance(output, NoticeTaker):
            takers.append(output)
        elif isinstance(output, TagTaker) and settings.sends_events:
            takers.append(TaggedNotices(output))
    return takers


NOTICES_MAX = 1_000
"""Notices that are kept for a reader; the oldest make room."""
NOTICES_AT_ONCE = 200
LEAVE_S = 2.0
"""How long the takers may take for the rest at the end of a run."""
REST_TRIES_MAX = 3
"""How often one that fails is offered the rest: a lake that is being tidied up is soon free again."""
HEARTBEAT_S = 300.0
"""A board on which nothing was put for this long says so: Devo's collectors speak as often."""
REPEAT_S = 60.0
"""A line that is said again within this time is counted, not repeated."""
_log = structlog.get_logger(__name__)
_LINES_REMEMBERED = 256
_LOOK_S = 1.0
_REST_PAUSE_S = 0.25
_OWN_MODULE = "monitor.board"
_HEARTBEAT = "the collector is running; it had nothing to say for a while"
_LEVEL_OF = {"critical": "error"}


@dataclass(slots=True)
class _Said:
    """A line said lately."""

    at_s: float
    repeats: int = 0


@dataclass(slots=True)
class _Reader:
    """One taker, and how far it has read."""

    taker: NoticeTaker
    next: int = 0
    """The number of the next notice it is to get."""
    is_away: bool = False
    """Whether it failed to take the rest."""


class NoticeBoard:
    """Notices of one run; itself a structlog processor that passes lines on as they are."""

    def __init__(
        self,
        speaker: Speaker,
        *,
        clock: Clock,
        hide: Collection[str] = (),
        notices_max: int = NOTICES_MAX,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """Nothing is on it yet; each of `hide`, the secrets, is blotted out of every line.

        While it is posted, it is never without a new notice for longer than `heartbeat_s` seconds.
        """
        self._speaker = speaker
        self._clock = clock
        self._hide = hide
        self._notices: deque[Notice] = deque(maxlen=notices_max)
        self._heartbeat_s = heartbeat_s
        self._count = 0
        self._added_at_s = clock.monotonic_s()
        self._said: dict[tuple[str, str, str], _Said] = {}
        self._read: dict[str, int] = {}
        """How far each taker has read that was posted to before."""
        self._posted_upto = 0
        """Where those begin that were not: where the last posting ended."""
        self._lock = Lock()  # Threads of outputs speak as well.

    def change(self, speaker: Speaker, *, hide: Collection[str], heartbeat_s: float | None = None) -> None:
        """Speak as `speaker` from now on, and blot `hide` out as well as what was hidden before."""
        with self._lock:
            self._speaker = speaker
            self._heartbeat_s = heartbeat_s or self._heartbeat_s
            self._hide = frozenset(self._hide) | frozenset(hide)

    def __call__(
        self, speaker: object, method: str, fields: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Put a line of a module on the board; lines for the person at the terminal have none.

        Only the text and the module are taken: whatever else a line carries stays in the log.
        """
        module = getattr(speaker, "module", "")
        level = _LEVEL_OF.get(method, method)
        if module and level in LEVELS and level != "debug":
            self.put(level, str(fields.get("event", "")), module=module)
        return fields

    def put(self, level: str, text: str, *, module: str) -> None:
        """Put a line on the board, unless it was said within `REPEAT_S` seconds: then it is counted."""
        text = plain_msg(text, hide=self._hide)
        key = (level, module, text)
        with self._lock:
            self._tell_repeats(within_s=REPEAT_S)
            said = self._said.get(key)
            if said is not None:
                said.repeats += 1
                return
            self._said[key] = _Said(self._clock.monotonic_s())
            self._add(level, text, module=module)

    @asynccontextmanager
    async def posting(
        self, takers: Iterable[NoticeTaker], *, is_last: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[None]:
        """Within the block every taker gets what is on the board, and at its end the rest.

        What one does not take by then is dropped, and how much that is goes to the log. Unless this posting
        is the last one, whoever takes part in the next one as well goes on where it was.
        """
        stop = asyncio.Event()
        readers = [_Reader(taker, self._read.get(taker.name, self._posted_upto)) for taker in takers]
        reading = asyncio.gather(*(self._keep_up(reader, stop) for reader in readers), self._look_after(stop))
        try:
            yield
        finally:
            stop.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._end(reading, readers), LEAVE_S)
            self._posted_upto = self._count
            if is_last():
                self._tell_dropped(readers)
            self._read = {reader.taker.name: reader.next for reader in readers}

    def _tell_dropped(self, readers: Iterable[_Reader]) -> None:
        count = self._count
        for reader in readers:
            if dropped := count - reader.next:
                notices = "1 notice" if dropped == 1 else f"{dropped} notices"
                _log.warning(
                    f"output {reader.taker.name}: {notices} of this run dropped, because it took none at the "
                    "end; these lines are all there is of them, and no record is concerned"
                )

    async def _keep_up(self, reader: _Reader, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._bring(reader)
            await _pause(stop, reader.taker.notices_every_s)
        with self._lock:
            self._tell_repeats(within_s=-math.inf)
        await self._bring_rest(reader)

    async def _end(self, reading: Awaitable[object], readers: Sequence[_Reader]) -> None:
        """Wait until everyone has the rest, and what was said while the others were given theirs."""
        await reading
        await asyncio.gather(*(self._bring_rest(reader) for reader in readers if not reader.is_away))

    async def _bring_rest(self, reader: _Reader) -> None:
        """Give the reader all that it lacks, and what is said meanwhile."""
        tries = REST_TRIES_MAX
        while tries and reader.next < self._count:
            before = reader.next
            await self._bring(reader)
            if reader.next == before:
                tries -= 1
                await asyncio.sleep(_REST_PAUSE_S)
        reader.is_away = not tries

    async def _bring(self, reader: _Reader) -> None:
        """Give the reader what it lacks now; where it fails, it is offered again at the next time."""
        end = self._count
        while reader.next < end:
            notices, upto = self._lacking(reader, end)
            try:
                await reader.taker.write_notices(notices)
            except Exception:  # noqa: BLE001 - whatever a taker fails with, collecting goes on
                return
            reader.next = upto

    def _lacking(self, reader: _Reader, end: int) -> tuple[list[Notice], int]:
        """The next notices for the reader, of those before number `end`, and the number after the last."""
        with self._lock:
            oldest = self._count - len(self._notices)
            first = max(oldest, reader.next)
            upto = min(max(end, first), first + NOTICES_AT_ONCE)
            notices = list(islice(self._notices, first - oldest, upto - oldest))
        missed = first - reader.next
        return ([self._missed(missed), *notices] if missed else notices), upto

    def _missed(self, count: int) -> Notice:
        text = f"notices dropped because this output took none for too long: {count}"
        return Notice(text, self._clock.now(), "warning", self._speaker, _OWN_MODULE)

    async def _look_after(self, stop: asyncio.Event) -> None:
        """Close the minutes of what was repeated, and break a silence that lasts."""
        while not stop.is_set():
            with self._lock:
                self._tell_repeats(within_s=REPEAT_S)
                if self._clock.monotonic_s() - self._added_at_s >= self._heartbeat_s:
                    self._add("info", _HEARTBEAT, module=_OWN_MODULE)
            await _pause(stop, _LOOK_S)

    def _tell_repeats(self, *, within_s: float) -> None:
        """Forget the lines said first more than `within_s` seconds ago, and say how often each came again."""
        now_s = self._clock.monotonic_s()
        while self._said:
            key, said = next(iter(self._said.items()))
            if len(self._said) <= _LINES_REMEMBERED and now_s - said.at_s < within_s:
                return
            del self._said[key]
            if said.repeats:
                level, module, text = key
                self._add(level, f"{text} (said {said.repeats} more times within a minute)", module=module)

    def _add(self, level: str, text: str, *, module: str) -> None:
        input_name, service_name = self._speaker.input_of(text)
        self._notices.append(
            Notice(
                msg=text,
                at=self._clock.now(),
                level=level,
                speaker=self._speaker,
                module_name=module,
                input_name=input_name,
                service_name=service_name,
            )
        )
        self._count += 1
        self._added_at_s = self._clock.monotonic_s()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Return after `seconds`, or as soon as `stop` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
