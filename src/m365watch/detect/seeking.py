"""The process that finds matches beside a collector: what it is told, what it answers, and itself.

It imports no more than it needs, because it is started while much is to be done.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import msgspec

from m365watch.detect.alert import Match
from m365watch.detect.drawing import Told
from m365watch.detect.matching import Kind, Matcher

PIPE_BYTES = 1 << 20
_SIZE_BYTES = 8
_COLLECT_EVERY = 100_000
_SWITCH_EVERY_S = 0.001


class Part(msgspec.Struct, array_like=True):
    """Records of one tenant that came together, without those that no rule can match."""

    tenant: str
    received_at: datetime
    kinds: Sequence[Kind]
    """Those of the records, each once."""
    numbers: Sequence[int]
    """Of each record, which of them it is."""
    records: Sequence[bytes]


class Piece(msgspec.Struct, tag="find", array_like=True):
    """Records to be looked at, some `PIECE_RECORDS` of them."""

    parts: list[Part]


class End(msgspec.Struct, tag="end", array_like=True):
    """A batch has come to its end."""

    counts: bool


class Answer(msgspec.Struct, array_like=True):
    """What came of a piece; the first one, of no records, says that the child is ready."""

    matches: list[Match]
    looked_at: int


def write_frame(pipe: int, frame: bytes) -> None:
    """Write its size and then all of it. Raises: OSError."""
    for text in (len(frame).to_bytes(_SIZE_BYTES, "little"), frame):
        left = memoryview(text)
        while left:
            left = left[os.write(pipe, left) :]


def read_frame(pipe: int) -> bytes | None:
    """The next frame; None where the other side has ended."""
    size = _read(pipe, _SIZE_BYTES)
    return None if size is None else _read(pipe, int.from_bytes(size, "little"))


def _read(pipe: int, size: int) -> bytes | None:
    pieces: list[bytes] = []
    while size:
        piece = os.read(pipe, min(size, PIPE_BYTES))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def serve(inlet: int, outlet: int) -> None:
    """Answer until the other side ends."""
    told = read_frame(inlet)
    if told is None:
        return
    sought, knowledge = pickle.loads(told)  # noqa: S301 - written by the process that started this one
    matcher = Matcher(sought, knowledge=knowledge() if callable(knowledge) else knowledge)
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 5, 5)
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(Piece | End).decode
    frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_read_on, args=(inlet, frames), daemon=True).start()
    write_frame(outlet, encode(Answer([], 0)))
    while (frame := frames.get()) is not None:
        match decode(frame):
            case Piece() as piece:
                write_frame(outlet, encode(_answer_to(piece, matcher)))
            case End(counts):
                (matcher.sightings.settle if counts else matcher.sightings.take_back)()


def _read_on(inlet: int, frames: queue.SimpleQueue[bytes | None]) -> None:
    """Take in whatever comes, so that neither side ever waits for the other one's reading."""
    while (frame := read_frame(inlet)) is not None:
        frames.put(frame)
    frames.put(None)


def _answer_to(piece: Piece, matcher: Matcher) -> Answer:
    matches: list[Match] = []
    looked_at = 0
    for part in piece.parts:
        kinds = [part.kinds[number] for number in part.numbers]
        found, looked = matcher.match_all(part.records, kinds, Told(part.tenant, part.received_at))
        matches += found
        looked_at += looked
    matcher.trim()
    # Values go as they are written: whoever keeps a match needs them in no other way.
    return Answer([msgspec.structs.replace(one, values={}) for one in matches], looked_at)


def main() -> None:
    """The child: it ends with the collector, and by no signal that is meant for that one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_EVERY_S)
    with suppress(OSError):
        serve(sys.stdin.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    main()
