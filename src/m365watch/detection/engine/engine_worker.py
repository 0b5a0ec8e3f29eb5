"""The process that detects beside a busy collector: what it is told, what it answers, and itself.

It imports no more than it needs, because it is started while much is to be done.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from m365watch.common.child_process import forbid_dumps
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.engine_port import Figures
from m365watch.detection.engine.record_batch import Part
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState, HoldLost

PIPE_BYTES = 1 << 20
ROOM_BYTES = 2 << 20
"""Most pieces of a batch are smaller."""
ROOMS_MAX = 16
"""So many rooms that are free are kept."""
_SIZE_BYTES = 8
_COLLECT_EVERY = 100_000
_SWITCH_EVERY_S = 0.001


class Told(NamedTuple):
    """What the process is told at its start."""

    path: Path
    hold: int
    survives_power_cuts: bool
    rules: tuple[Rule, ...]
    knowledge: Knowledge | Callable[[], Knowledge]
    exceptions: Exceptions
    files: frozenset[Path] = frozenset()
    """Of these files something is known where it was started."""


class Take(msgspec.Struct, tag="take", array_like=True):
    """A batch follows, piece by piece."""

    number: int
    now: datetime


class Piece(msgspec.Struct, tag="piece", array_like=True):
    """Some of its records; a piece without any is the end of the batch."""

    parts: list[Part]


class Look(msgspec.Struct, tag="look", array_like=True):
    """Let time alone count."""

    now: datetime


class CatchUp(msgspec.Struct, tag="catch up", array_like=True):
    """Judge what waits for the next look."""

    now: datetime


class Answer(msgspec.Struct, array_like=True):
    """What came of one of these."""

    changes: list[Change]
    figures: Figures
    """What was done for it."""
    trouble: tuple[str, str] | None = None
    """Why nothing of it counts, and where."""


def write_frame(pipe: int, frame: bytes | bytearray) -> None:
    """Write its size and then all of it. Raises: OSError."""
    for text in (len(frame).to_bytes(_SIZE_BYTES, "little"), frame):
        left = memoryview(text)
        while left:
            left = left[os.write(pipe, left) :]


def read_frame(pipe: int, rooms: Rooms | None = None) -> memoryview | None:
    """The next frame, in one of the `rooms` if need be; None where the other side has ended."""
    size = memoryview(bytearray(_SIZE_BYTES))
    if not _fill(pipe, size):
        return None
    count = int.from_bytes(size, "little")
    frame = memoryview(bytearray(count)) if rooms is None else rooms.take(count)
    return frame if _fill(pipe, frame) else None


def _fill(pipe: int, room: memoryview) -> bool:
    """Whether there was enough to fill it."""
    with io.FileIO(pipe, closefd=False) as source:
        while room:
            size = source.readinto(room)
            if not size:
                return False
            room = room[size:]
    return True


class Rooms:
    """Memory that frames lie in, used again: none is taken from the system, and cleared by it, for each."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self, size: int) -> memoryview:
        """Room for so many bytes; whatever is in it is the taker's until it is given back."""
        try:
            room = self._free.pop()
        except IndexError:
            room = bytearray(ROOM_BYTES)
        # What still looks at a room keeps it as large as it is.
        return memoryview(room if len(room) >= size else bytearray(size))[:size]

    def give_back(self, frame: memoryview) -> None:
        """Nobody looks at the frame any more."""
        if len(self._free) < ROOMS_MAX:
            self._free.append(cast("bytearray", frame.obj))


class _Ended(Exception):
    """The collector has ended."""


class _Frames:
    """What the collector says, taken in as it comes, so that neither waits for the other's reading."""

    def __init__(self, inlet: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[Take | Piece | Look | CatchUp]
        self._decoder = msgspec.msgpack.Decoder(Take | Piece | Look | CatchUp)
        self._frames: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._rooms = Rooms()
        self._last: memoryview | None = None
        threading.Thread(target=self._read_on, args=(inlet,), daemon=True).start()

    def _read_on(self, inlet: int) -> None:
        try:
            while (frame := read_frame(inlet, self._rooms)) is not None:
                self._frames.put(frame)
        finally:
            # Also where there is no memory for a frame: the collector would wait for ever for room to write.
            self._frames.put(None)

    def next(self) -> Take | Piece | Look | CatchUp:
        """What is said next; records of what was said before are gone. Raises: _Ended."""
        if self._last is not None:
            self._rooms.give_back(self._last)
        self._last = self._frames.get()
        if self._last is None:
            raise _Ended
        return self._decoder.decode(self._last)

    def pieces(self) -> Iterator[Sequence[Part]]:
        """The pieces of the batch that follows. Raises: _Ended: it breaks off, and does not count."""
        while isinstance(piece := self.next(), Piece):
            if not piece.parts:
                return
            yield piece.parts
        raise _Ended  # the collector could not tell of all of it, and speaks of something else


def serve(inlet: int, outlet: int) -> None:
    """Answer until the other side ends, or somebody else has taken hold of the file."""
    written = read_frame(inlet)
    if written is None:
        return
    frames = _Frames(inlet)
    told: Told = pickle.loads(written)  # noqa: S301 - written by the process that started this one
    state = DetectionState(told.path, survives_power_cuts=told.survives_power_cuts, hold=told.hold)
    knowledge = told.knowledge() if callable(told.knowledge) else told.knowledge
    engine = Engine(told.rules, state, knowledge=knowledge, exceptions=told.exceptions)
    if told.files & knowledge.files_unread():
        return  # lost since then: the other engine knows what they said
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 5, 5)
    encode = msgspec.msgpack.Encoder().encode
    while True:
        write_frame(outlet, encode(_answer(engine, frames)))


def _answer(engine: Engine, frames: _Frames) -> Answer:
    trouble = None
    changes: list[Change] = []
    asked = frames.next()
    try:
        changes = _do(engine, asked, frames)
    except OutputUnavailable as error:
        trouble = (error.what, error.where)
    done, engine.figures = engine.figures, Figures()
    return Answer(changes, done, trouble)


def _do(engine: Engine, asked: Take | Piece | Look | CatchUp, frames: _Frames) -> list[Change]:
    match asked:
        case Take(number, now):
            pieces = frames.pieces()
            try:
                return engine.take_pieces(pieces, number=number, now=now)
            finally:
                for _ in pieces:
                    pass  # of a batch that has counted already, or does not now
        case Look(now):
            return engine.look(now=now)
        case CatchUp(now):
            return engine.catch_up(now=now)
    return []


def main() -> None:
    """The process: it ends with the collector, and by no signal that is meant for that one."""
    forbid_dumps()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_EVERY_S)
    with suppress(OSError, _Ended, HoldLost, OutputUnusable):
        serve(sys.stdin.fileno(), sys.stdout.fileno())
    # Whoever waits for the end need not wait until all that is remembered is taken apart.
    os._exit(0)


if __name__ == "__main__":
    main()
