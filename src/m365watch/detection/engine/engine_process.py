"""Detection in a process of its own, so that a busy collector has another core for it.

The child (`alone.py`) gets the records that a rule could match, and has the engine and the file while it
lives; nothing of that takes the collector's time. Where it ends, for whatever reason, the collector goes on
with an engine of its own and what was under way is done again: nothing counts before it is in the file. After
a while another child goes on from what the file has (`restarts.py` says when).
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import compress
from typing import cast

import msgspec
import structlog

from m365watch.common.child_process import bare_environment
from m365watch.common.errors import OutputUnavailable
from m365watch.detection.alerts.alert_builder import NO_EXCEPTIONS
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.engine_port import Figures
from m365watch.detection.engine.engine_worker import (
    PIPE_BYTES,
    Answer,
    CatchUp,
    Look,
    Piece,
    Take,
    Told,
    read_frame,
    write_frame,
)
from m365watch.detection.engine.process_watchdog import Asked, Watch
from m365watch.detection.engine.record_batch import Part, Portion
from m365watch.detection.engine.rule_matcher import PLANS_MAX, Kind
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState

WAITS_S = (30, 120, 600, 3_600)
"""After the first end, the second and so on; after one more it stays ended."""
STEADY_S = 3_600
"""Who has run for so long before the end has made up for the ends before."""


@dataclass(slots=True)
class Restarts:
    """The ends so far, and when the next start may be."""

    waits_s: tuple[int, ...] = WAITS_S
    ends: int = 0
    began_at: datetime | None = None
    not_before: datetime | None = None
    is_over: bool = field(default=False)
    """Whether it is not started again."""

    def may_start(self, now: datetime) -> bool:
        """Whether it may be started now."""
        return not self.is_over and (self.not_before is None or now >= self.not_before)

    def note_start(self, now: datetime) -> None:
        """It runs."""
        self.began_at, self.not_before = now, None

    def note_end(self, now: datetime) -> None:
        """It has ended by itself, or could not be started."""
        if self.began_at is not None and now - self.began_at >= timedelta(seconds=STEADY_S):
            self.ends = 0
        self.began_at = None
        self.ends += 1
        if self.ends > len(self.waits_s):
            self.is_over = True
        else:
            self.not_before = now + timedelta(seconds=self.waits_s[self.ends - 1])

    def give_up(self) -> None:
        """It cannot be started at all."""
        self.ends, self.is_over = self.ends + 1, True

    @property
    def told(self) -> str:
        """What comes next, for who reads that it has ended."""
        if self.is_over:
            times = "once" if self.ends == 1 else f"{self.ends} times"
            return f"{times} now, and is started again with the collector or when rules are read again"
        return f"and is started again when much is to be done after {self.not_before:%H:%M:%S}Z"


BUSY_RECORDS = 2_000
"""A batch of so many records shows that another process is worth its memory."""
QUIET_LOOKS = 5
"""After so many looks, one a minute, without such a batch the process is let go of."""
PIECE_RECORDS = 1_000
"""Records that are sent together: the child begins with the first ones."""
_ENDS_S = 2.0
_log = structlog.get_logger(__name__)


class ChildLost(Exception):
    """The child has ended."""


def spare_cores() -> int:
    """How many cores there are for this program beside the first."""
    try:
        return len(os.sched_getaffinity(0)) - 1
    except AttributeError:  # pragma: no cover - where a program cannot be bound to cores
        return (os.cpu_count() or 1) - 1


class AsideEngine:
    """An engine in a child while much is to be done, and one in this process at other times."""

    def __init__(
        self,
        rules: Sequence[Rule],
        state: DetectionState,
        *,
        knowledge: Knowledge = NOTHING_KNOWN,
        exceptions: Exceptions = NO_EXCEPTIONS,
        recipe: Callable[[], Knowledge] | None = None,
        busy_records: int = BUSY_RECORDS,
    ) -> None:
        """A batch of `busy_records` starts the child.

        What open files are a part of goes into no other process: `recipe` makes the same knowledge there.
        """
        self.state = state
        self.figures = Figures()
        self._knowledge = knowledge
        self._exceptions = exceptions
        self._recipe = recipe
        self._busy_records = busy_records
        self._own = Engine(rules, state, knowledge=knowledge, exceptions=exceptions, figures=self.figures)
        self.rules = self._own.rules
        self._is_behind = False
        """Whether the child has written what this process's engine does not know."""
        self._child: Child | None = None
        self._quiet_looks = 0
        self._restarts = Restarts()
        self._trouble = ""
        self._is_hurried = False

    @property
    def child(self) -> Child | None:
        """The process, where one runs."""
        return self._child

    def expect(self, records: int, *, now: datetime) -> None:
        """Start the child if so many are worth it: it takes its time. Raises: OutputUnavailable."""
        self._start_if_busy(records, now)

    def take(self, portions: Sequence[Portion], *, number: int, now: datetime) -> list[Change]:
        """As the engine's."""
        self._start_if_busy(sum(portion.count for portion in portions), now)
        return self._do(
            lambda child: child.take(portions, number=number, now=now),
            lambda engine: engine.take(portions, number=number, now=now),
            now=now,
        )

    def look(self, *, now: datetime) -> list[Change]:
        """As the engine's; where there was little to do for some minutes, the child is let go of."""
        self._quiet_looks += 1
        if self._quiet_looks > QUIET_LOOKS:
            self._stop()
        return self._do(lambda child: child.look(now=now), lambda engine: engine.look(now=now), now=now)

    def catch_up(self, *, now: datetime) -> list[Change]:
        """As the engine's."""
        return self._do(
            lambda child: child.catch_up(now=now), lambda engine: engine.catch_up(now=now), now=now
        )

    def hurry(self) -> None:
        """A child that stands still is ended, and what it had under way is left to the next run."""
        self._is_hurried = True
        if (child := self._child) is not None:
            child.watch.hurry()

    def close(self) -> None:
        """End the child."""
        self._stop()

    def _do(
        self, by_child: Callable[[Child], Answer], here: Callable[[Engine], list[Change]], *, now: datetime
    ) -> list[Change]:
        if self._child is not None:
            # What files say is known here too, should they be lost before the child is.
            self._knowledge.look()
            try:
                answer = by_child(self._child)
            except ChildLost as error:
                # What it had under way counts not at all, or counts already: either is right once more.
                self._do_without(str(error), now)
                if self._is_hurried:
                    raise OutputUnavailable("the next run does what is left", where="detections") from None
            else:
                self.figures.add(answer.figures)
                if answer.trouble is not None:
                    what, where = answer.trouble
                    raise OutputUnavailable(what, where=where)
                return answer.changes
        return here(self._engine_here())

    def _engine_here(self) -> Engine:
        if self._is_behind:
            self._own = Engine(
                self.rules,
                self.state,
                knowledge=self._knowledge,
                exceptions=self._exceptions,
                figures=self.figures,
            )
            self._is_behind = False
        self._own.trouble = self._trouble
        return self._own

    def _start_if_busy(self, records: int, now: datetime) -> None:
        if records < self._busy_records:
            return
        self._quiet_looks = 0
        if self._child is not None or self._is_hurried or not self._restarts.may_start(now):
            return
        self._knowledge.look()
        known = self._knowledge.files_read()
        if lost := known & self._knowledge.files_unread():
            # Another process would read them as they are now; what they said before counts on here.
            self._tell_trouble(f"is started when much is to be done and {min(lost)} can be read")
            return
        told = Told(
            self.state.path,
            self.state.take_hold(),
            self.state.survives_power_cuts,
            tuple(self.rules),
            self._knowledge if self._recipe is None or self._knowledge.is_plain else self._recipe,
            self._exceptions,
            known,
        )
        try:
            self._child = Child(told, may_match=self._own.matcher.may_match)
        except OSError as error:
            self._do_without(f"cannot be started: {error.strerror}", now)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            self._restarts.give_up()
            self._tell_trouble(f"cannot be told what to do: {error}")
        else:
            self._is_behind = True
            self._restarts.note_start(now)
            if self._trouble:
                _log.info("detections: another process does them again")
            self._trouble = ""

    def _do_without(self, reason: str, now: datetime) -> None:
        """The child has ended, or never began."""
        self._restarts.note_end(now)
        self._tell_trouble(f"{reason} {self._restarts.told}")
        self._stop()

    def _tell_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warning(
                f"detections: the process that does them {trouble}; the collector does it itself now"
            )

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop()


class KindNumbers:
    """The kinds of records that rules ask for, by number; 0 for those that none asks for. Bounded."""

    def __init__(self, may_match: Callable[[Kind], bool]) -> None:
        """`may_match` says whether a rule asks for a kind."""
        self._may_match = may_match
        self._numbers: dict[Kind, int] = {}
        self._kinds: dict[int, Kind] = {}

    def of(self, kinds: Sequence[Kind]) -> list[int]:
        """The number of each."""
        found = list(map(self._numbers.get, kinds))
        if None in found:
            if len(self._numbers) >= PLANS_MAX:
                self._numbers.clear()
                self._kinds.clear()
            for kind in kinds:
                self._learn(kind)
        return [self._numbers[kind] for kind in kinds] if None in found else cast("list[int]", found)

    def named(self, numbers: Iterable[int]) -> dict[int, Kind]:
        """The kinds that have these numbers, each once."""
        return {number: self._kinds[number] for number in set(numbers)}

    def _learn(self, kind: Kind) -> None:
        if kind not in self._numbers:
            number = len(self._kinds) + 1 if self._may_match(kind) else 0
            self._numbers[kind] = number
            if number:
                self._kinds[number] = kind


class Child:
    """The process, seen from the collector."""

    def __init__(self, told: Told, *, may_match: Callable[[Kind], bool]) -> None:
        """Start it; it will get the records of kinds that `may_match` one of the rules.

        Raises: OSError, and what `pickle` raises.
        """
        self._kinds = KindNumbers(may_match)
        written = pickle.dumps(told)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "m365watch.detection.engine.engine_worker"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=bare_environment(),
            start_new_session=True,  # Ctrl-C is for the collector, which then ends the child
        )
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._inlet, self._outlet = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._encode = msgspec.msgpack.Encoder().encode_into
        self._frame = bytearray()
        self._decode = msgspec.msgpack.Decoder(Answer).decode
        for pipe in (self._inlet, self._outlet):
            _widen(pipe)
        self.watch = Watch(self._process)
        """Ends it where it stands still for too long: nothing here waits for ever."""
        self.watch.note(Asked.TO_TAKE)
        with suppress(OSError):  # a child that ended at once shows when it is asked
            write_frame(self._inlet, written)
        self.watch.note(Asked.NOTHING)

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._process.pid

    def take(self, portions: Sequence[Portion], *, number: int, now: datetime) -> Answer:
        """Have a batch count. Raises: ChildLost."""
        self._tell(Take(number, now))
        for piece in self._cut(portions):
            self._tell(piece)
        self._tell(Piece([]))
        return self._answer()

    def look(self, *, now: datetime) -> Answer:
        """Let time alone count. Raises: ChildLost."""
        self._tell(Look(now))
        return self._answer()

    def catch_up(self, *, now: datetime) -> Answer:
        """Judge what waits. Raises: ChildLost."""
        self._tell(CatchUp(now))
        return self._answer()

    def stop(self) -> None:
        """End it; it has ended when this returns, or does so as soon as the system lets it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.watch.close()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # one that is frozen ends once it no more is
                self._process.wait(_ENDS_S)

    def _cut(self, portions: Iterable[Portion]) -> Iterator[Piece]:
        """The portions in pieces; a large one is a piece of its own."""
        parts: list[Part] = []
        count = 0
        for portion in portions:
            parts.append(part_of(portion, self._kinds))
            count += len(parts[-1].records)
            if count >= PIECE_RECORDS:
                yield Piece(parts)
                parts, count = [], 0
        if parts:
            yield Piece(parts)

    def _tell(self, what: Take | Piece | Look | CatchUp) -> None:
        self.watch.note(Asked.TO_TAKE)
        try:
            self._encode(what, self._frame)
            write_frame(self._inlet, self._frame)
        except OSError as error:
            raise ChildLost(self._end) from error
        except OverflowError as error:
            raise ChildLost(f"cannot be told of a record: {error}") from error

    def _answer(self) -> Answer:
        self.watch.note(Asked.TO_ANSWER)
        frame = read_frame(self._outlet)
        self.watch.note(Asked.NOTHING)
        if frame is None:
            raise ChildLost(self._end)
        return self._decode(frame)

    @property
    def _end(self) -> str:
        return self.watch.reason or "has ended"


def part_of(portion: Portion, kinds: KindNumbers) -> Part:
    """The portion, but for what no rule can match."""
    numbers = kinds.of(list(portion.kinds))
    kept = list(filter(None, numbers))
    return Part(
        portion.tenant,
        portion.received_at,
        portion.count,
        portion.earliest_ms,
        kinds.named(kept),
        kept,
        cast("list[memoryview]", list(compress(portion.records, numbers))),
    )


def _widen(pipe: int) -> None:
    """A pipe of a megabyte wakes the other side less often; where there is none, it works all the same."""
    try:
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        pass
