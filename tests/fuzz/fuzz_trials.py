"""Inputs tried in a child process, which is ended by the system where one takes too long or too much."""

from __future__ import annotations

import contextlib
import gc
import json
import mmap
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz_contract import TOLD, Attempt, Broken, Target

SILENT_S_MAX = 120.0
"""After so long without a word and without work a child hangs: it waits for something that never comes."""
_HEADROOM_BYTES = 2 << 30
_TRACED_COSTS = 30.0
_SOURCES = f"{os.sep}m365watch{os.sep}"
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Finding:
    """An input that ended as none may."""

    target: str
    given: bytes
    what: str
    """The kind, in a line; the same for all inputs that find the same."""
    detail: str = ""


@dataclass
class Tried:
    """What came of a child."""

    inputs: int = 0
    finding: Finding | None = None


Inputs = Iterable[tuple[bytes, bool]]
"""Each with whether it is watched line by line."""


def try_inputs(target: Target, inputs: Callable[[], Inputs], *, on_kept: Callable[[bytes], None]) -> Tried:
    """Try them in a child until one is a finding, or to their end."""
    shown = mmap.mmap(-1, _LENGTH_BYTES + target.input_bytes_max)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        _be_the_child(target, inputs(), shown, writes, on_kept)
    os.close(writes)
    with os.fdopen(reads, "rb") as told:
        return _listen(target, told, shown, child)


def _listen(target: Target, told: Any, shown: mmap.mmap, child: int) -> Tried:
    tried, heard = Tried(), b""
    hangs, worked = False, ""
    while True:
        ready, _, _ = select.select([told], [], [], SILENT_S_MAX)
        before, worked = worked, _work_of(child)
        if not ready and worked != before:
            continue  # it works, on a machine that has much to do
        if not ready:
            os.kill(child, signal.SIGKILL)
            hangs = True
            break
        more = os.read(told.fileno(), 1 << 16)
        if not more:
            break
        heard += more
    _, status = os.waitpid(child, 0)
    for line in heard.splitlines():
        said = json.loads(line)
        tried.inputs = said["inputs"]
        if said.get("what"):
            tried.finding = Finding(target.name, _shown_in(shown), said["what"], said["detail"])
    if tried.finding is None and status:
        tried.inputs += 1
        tried.finding = Finding(target.name, _shown_in(shown), _what_ended(status, hangs=hangs))
    return tried


def _work_of(child: int) -> str:
    """How much CPU time the child has had, in the system's own words; empty where that is not told."""
    try:
        return " ".join(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13])
    except OSError:
        return ""


def _what_ended(status: int, *, hangs: bool) -> str:
    if hangs:
        return f"hangs: not a word in {SILENT_S_MAX:.0f} s"
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGPROF:
        return "takes longer than its length allows"
    return f"ends the process with {signal.Signals(-code).name if code < 0 else code}"


def _shown_in(shown: mmap.mmap) -> bytes:
    length = int.from_bytes(shown[:_LENGTH_BYTES], "little")
    return shown[_LENGTH_BYTES : _LENGTH_BYTES + length]


def _be_the_child(
    target: Target, inputs: Inputs, shown: mmap.mmap, writes: int, on_kept: Callable[[bytes], None]
) -> None:
    """Try the inputs, tell what comes of it, and end."""
    folder = Path(tempfile.mkdtemp(prefix="m365watch-fuzz-"))
    tried = 0
    try:
        gc.unfreeze()
        warnings.simplefilter("error")
        _silence()
        attempt = target.prepare(folder)
        _bound_memory()
        lines = Lines()
        for given, is_watched in inputs:
            tried += 1
            shown[:_LENGTH_BYTES] = len(given).to_bytes(_LENGTH_BYTES, "little")
            shown[_LENGTH_BYTES : _LENGTH_BYTES + len(given)] = given
            found = _try_one(target, attempt, given, lines if is_watched else None)
            if found is not None:
                os.write(writes, _line({"inputs": tried, "what": found[0], "detail": found[1]}))
                break
            if lines.take_news():
                on_kept(given)
            if not tried % 256:
                os.write(writes, _line({"inputs": tried}))
        else:
            os.write(writes, _line({"inputs": tried}))
        code = 0
    except BaseException:  # noqa: BLE001 - a child ends here, whatever it was
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
        code = 70
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


def _line(said: dict[str, object]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _silence() -> None:
    """What the product writes of its own accord goes nowhere."""
    import structlog

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False)
    nowhere = Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - to the end
    sys.stdout = sys.stderr = nowhere


def _bound_memory() -> None:
    """A child that wants gigabytes gets MemoryError, and not the machine's last."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        bound = pages * mmap.PAGESIZE + _HEADROOM_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def _try_one(target: Target, attempt: Attempt, given: bytes, lines: Lines | None) -> tuple[str, str] | None:
    """What is wrong with how the input ended, and where; None where nothing is."""
    cpu_s = target.cpu_s(given) * (_TRACED_COSTS if lines else 1)
    before_bytes = _resident_bytes(fresh=True)
    # Its default ends the process, wherever it is just then: in a regular expression, for example.
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        with lines.watched() if lines else contextlib.nullcontext():
            attempt(given)
    except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
        signal.setitimer(signal.ITIMER_PROF, 0)
        return _what_of(error), "".join(traceback.format_exception(error))[-8_000:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    grown_bytes = _resident_bytes(fresh=False) - before_bytes
    if before_bytes and grown_bytes > target.memory_bytes(given):
        return "takes more memory than its length allows", f"{grown_bytes:,} bytes for {len(given):,}"
    if lines is None:
        TOLD.take()
    return None


def _what_of(error: BaseException) -> str:
    """The error's type, and where in the project it came from."""
    if isinstance(error, Broken):
        return f"Broken: {re.sub('[0-9]+', '_', str(error.args[0]))[:80]}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _SOURCES in frame.filename] or frames
    place = ours[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}, {place.name}"


def _resident_bytes(*, fresh: bool) -> int:
    """The most that was in memory since the last look; `fresh`, what is there now, and a new look begins."""
    try:
        if fresh:
            with open("/proc/self/clear_refs", "w") as peak:  # noqa: PTH123 - it is asked thousands of times
                peak.write("5")
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - the same
            for line in status:
                if line.startswith(b"VmHWM"):
                    return int(line.split()[1]) << 10
    except OSError:
        """This system does not tell."""
    return 0


class Lines:
    """The lines of the project that any input has run, and the outcomes that any has had."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, int]] = set()
        self._new = 0
        self._outcomes: set[str] = set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """See which lines run."""
        before = len(self._seen)
        sys.settrace(self._begin)
        try:
            yield
        finally:
            sys.settrace(None)
            self._new += len(self._seen) - before
            new = TOLD.take() - self._outcomes
            self._outcomes |= new
            self._new += len(new)

    def take_news(self) -> bool:
        """Whether there was anything new since the last time."""
        new, self._new = self._new, 0
        return new > 0

    def _begin(self, frame: FrameType, kind: str, _: object) -> Any:
        return self._see if _SOURCES in frame.f_code.co_filename else None

    def _see(self, frame: FrameType, kind: str, _: object) -> Any:
        self._seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self._see


def spent_s() -> float:
    """CPU seconds of this process and its ended children."""
    used = os.times()
    return used.children_user + used.children_system + time.process_time()
