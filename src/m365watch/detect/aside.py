"""Matches found in a process of its own, so that a busy collector has another core for it.

The child (`seeking.py`) knows nothing but rules: it reads records and writes matches. Where it ends, for
whatever reason, the engine goes on without it and finds matches itself; nothing is lost, for nothing
counts before it is in the engine's file.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import structlog

from m365watch.detect.finding import Found, OwnFinder
from m365watch.detect.knowledge import Knowledge
from m365watch.detect.matching import PLANS_MAX, Kind, kind_of
from m365watch.detect.rule import Rule
from m365watch.detect.seeking import PIPE_BYTES, Answer, End, Part, Piece, read_frame, write_frame
from m365watch.detect.uses import Sought

if TYPE_CHECKING:
    from m365watch.detect.engine import Portion

BUSY_RECORDS = 2_000
"""A batch of so many records shows that another process is worth its memory."""
QUIET_RESTS = 5
"""After so many minutes without such a batch the process is let go of."""
PIECE_RECORDS = 1_000
"""Records that are found together: while the next ones are looked at, the engine keeps these."""
ANSWER_S_MAX = 20.0
"""A child that has not answered for so long has come to harm."""
_ENDS_S = 2.0
_log = structlog.get_logger(__name__)


class ChildLost(Exception):
    """The child has ended, or does not answer."""


def spare_cores() -> int:
    """How many cores there are for this program beside the first."""
    try:
        return len(os.sched_getaffinity(0)) - 1
    except AttributeError:  # pragma: no cover - where a program cannot be bound to cores
        return (os.cpu_count() or 1) - 1


class AsideFinder:
    """Finds matches in a child while much is to be done, and by itself at other times."""

    def __init__(
        self,
        rules: Sequence[Rule],
        knowledge: Knowledge,
        *,
        recipe: Callable[[], Knowledge] | None = None,
        busy_records: int = BUSY_RECORDS,
    ) -> None:
        """A batch of `busy_records` starts the child, which takes over once it is ready.

        What open files are a part of goes into no other process: `recipe` makes the same knowledge there.
        """
        self._told = knowledge if recipe is None or knowledge.is_plain else recipe
        self._busy_records = busy_records
        self._own = OwnFinder(rules, knowledge)
        self._child: Child | None = None
        self._asked = False
        self._rests = 0
        self._is_given_up = False
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """What became of the child, where it was given up."""
        return self._trouble

    @property
    def child(self) -> Child | None:
        """The process, where one runs."""
        return self._child

    def find(self, portions: Sequence[Portion]) -> Iterator[Found]:
        """The matches, by the child if it is ready. A batch that it does not end is found again here."""
        self._start_if_busy(sum(len(portion.records) for portion in portions))
        self._asked = self._child is not None and self._child.is_ready
        if not self._asked or self._child is None:
            yield from self._own.find(portions)
            return
        given = 0
        try:
            for found in self._child.find(portions):
                given += 1
                yield found
        except ChildLost as error:
            self._give_up(str(error))
            # What was handed on already is there twice now, which is the same as once.
            yield from self._own.find(portions)

    def settle(self) -> None:
        """Let whoever has found it know."""
        self._end(counts=True)

    def take_back(self) -> None:
        """Let whoever has found it know."""
        self._end(counts=False)

    def rest(self) -> None:
        """Let go of the child where there was little to do for some minutes."""
        self._rests += 1
        if self._rests > QUIET_RESTS:
            self._stop()

    def close(self) -> None:
        """End the child."""
        self._stop()

    def _start_if_busy(self, records: int) -> None:
        if records < self._busy_records or self._is_given_up:
            return
        self._rests = 0
        if self._child is None:
            try:
                self._child = Child(self._own.sought, self._told, may_match=self._own.matcher.may_match)
            except (OSError, pickle.PicklingError, TypeError, AttributeError) as error:
                self._give_up(f"cannot be started: {error}")

    def _end(self, *, counts: bool) -> None:
        # Both are told: a batch that the child did not end was found here.
        (self._own.settle if counts else self._own.take_back)()
        if self._asked and self._child is not None:
            try:
                self._child.end(counts=counts)
            except ChildLost as error:
                self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        _log.warning(f"detections: the process that finds matches {reason}; the collector does it itself now")
        self._is_given_up = True
        self._trouble = reason
        self._stop()

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop()


class _Wanted(dict[Kind, bool]):
    """Whether records of a kind are asked for, once it is known; bounded."""

    def __init__(self, may_match: Callable[[Kind], bool]) -> None:
        super().__init__()
        self._may_match = may_match

    def __missing__(self, kind: Kind) -> bool:
        if len(self) >= PLANS_MAX:
            self.clear()
        found = self[kind] = self._may_match(kind)
        return found


class Child:
    """The process, seen from the collector."""

    def __init__(
        self,
        sought: Sequence[Sought],
        knowledge: Knowledge | Callable[[], Knowledge],
        *,
        may_match: Callable[[Kind], bool],
    ) -> None:
        """Start it, and hand it what is sought, and later the records that `may_match` one of them.

        Raises: OSError, and what `pickle` raises.
        """
        self._wanted = _Wanted(may_match)
        told = pickle.dumps((tuple(sought), knowledge))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "m365watch.detect.seeking"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the collector, which then ends the child
        )
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._inlet, self._outlet = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Answer).decode
        self._is_ready = False
        self._awaited = 1
        """Answers that are still to be read; the first says that it is ready."""
        for pipe in (self._inlet, self._outlet):
            _widen(pipe)
        with suppress(OSError):  # a child that ended at once shows when it is asked
            write_frame(self._inlet, told)

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded the rules; whoever asks one that has ended learns of it."""
        if not self._is_ready and self._has_said(0):
            self._is_ready = True
        return self._is_ready

    def find(self, portions: Sequence[Portion]) -> Iterator[Found]:
        """The matches of these records, piece by piece. Raises: ChildLost."""
        while self._awaited:
            # A batch that broke off left answers behind.
            self._answer()
        pieces = 0
        for piece in self._cut(portions):
            self._tell(piece)
            self._awaited += 1
            pieces += 1
        for _ in range(pieces):
            answer = self._answer()
            yield Found(answer.matches, answer.looked_at)

    def end(self, *, counts: bool) -> None:
        """Say what became of the batch. Raises: ChildLost."""
        self._tell(End(counts))

    def stop(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _cut(self, portions: Iterable[Portion]) -> Iterator[Piece]:
        """The portions in pieces; a large one is a piece of its own."""
        parts: list[Part] = []
        count = 0
        for portion in portions:
            part = self._part_of(portion)
            parts.append(part)
            count += len(part.records)
            if count >= PIECE_RECORDS:
                yield Piece(parts)
                parts, count = [], 0
        if count:
            yield Piece(parts)

    def _part_of(self, portion: Portion) -> Part:
        """The portion, but for what no rule can match."""
        numbers: dict[Kind, int] = {}
        found: list[int] = []
        records: list[bytes] = []
        wanted = self._wanted
        for record, kind in zip(portion.records, map(kind_of, portion.headers), strict=True):
            if wanted[kind]:
                found.append(numbers.setdefault(kind, len(numbers)))
                records.append(record)
        return Part(portion.tenant, portion.received_at, list(numbers), found, records)

    def _tell(self, what: Piece | End) -> None:
        try:
            write_frame(self._inlet, self._encode(what))
        except OSError as error:
            raise ChildLost(f"has ended ({error.strerror})") from None

    def _answer(self) -> Answer:
        if not self._has_said(ANSWER_S_MAX):
            raise ChildLost(f"has not answered for {ANSWER_S_MAX:.0f} s")
        frame = read_frame(self._outlet)
        if frame is None:
            raise ChildLost("has ended")
        self._awaited -= 1
        return self._decode(frame)

    def _has_said(self, timeout_s: float) -> bool:
        """Whether there is something to read, or nothing will ever be."""
        return bool(select.select([self._outlet], [], [], timeout_s)[0])


def _widen(pipe: int) -> None:
    """A pipe of a megabyte wakes the other side less often; where there is none, it works all the same."""
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        pass
