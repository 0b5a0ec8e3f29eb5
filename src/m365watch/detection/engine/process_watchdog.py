"""A process that stands still, stopped or frozen: said, and in the end done without.

Whoever writes to it, or waits for its answer, would wait for as long as it stands. One that works gets on
meanwhile, however slowly: it takes in what it is told in a thread of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from enum import Enum, auto
from threading import Event, Thread

import structlog

from m365watch.common.error_boundary import GoingOn

LOOK_S = 1.0
STILL_S = 60.0
"""After so long it is said; one that a signal has stopped is ended then, as it does nothing by itself."""
HARM_S = 600.0
"""One that has not gone on for so long has come to harm."""
END_S = 2.0
"""At the collector's end, so long is waited for one that takes nothing in."""
_log = structlog.get_logger(__name__)


class Asked(Enum):
    """What the process is asked for."""

    NOTHING = auto()
    TO_TAKE = auto()
    """To take in what it is told, which it does at once."""
    TO_ANSWER = auto()
    """To answer, which may be a long work."""


class Watch:
    """Looks after a process from a thread of its own, until it is closed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Nothing is asked of it yet."""
        self.reason = ""
        """Why the process was ended, for who does without it."""
        self._process = process
        self._asked = Asked.NOTHING
        self._step = 0
        self._is_hurried = False
        self._is_told = False
        self._is_over = Event()
        self._going_on = GoingOn("detections")
        self._thread = Thread(target=self._look_on, name="detect-watch", daemon=True)
        self._thread.start()

    def note(self, asked: Asked) -> None:
        """It has done what it was asked for before, and is asked for this now."""
        self._step += 1
        self._asked = asked

    def hurry(self) -> None:
        """The collector ends: wait for nothing that stands still."""
        self._is_hurried = True

    def close(self) -> None:
        """Look no more."""
        self._is_over.set()
        self._thread.join()

    def _look_on(self) -> None:
        before, still_s = self._step, 0.0
        while not self._is_over.wait(LOOK_S):
            if self._asked is Asked.NOTHING or self._step != before:
                before, still_s = self._step, 0.0
                self._tell_going_on()
                continue
            still_s += LOOK_S
            with self._going_on("looks at the process"):
                self._judge(still_s)

    def _judge(self, still_s: float) -> None:
        does = "taken nothing" if self._asked is Asked.TO_TAKE else "not answered"
        if (self._is_hurried or still_s >= STILL_S) and is_stopped(self._process):
            self._end(f"was stopped by a signal, has {does} for {still_s:.0f} s, is ended")
        elif still_s >= HARM_S or (self._is_hurried and self._asked is Asked.TO_TAKE and still_s >= END_S):
            self._end(f"has {does} for {still_s:.0f} s, is ended")
        elif still_s >= STILL_S and not self._is_told:
            self._is_told = True
            pid = self._process.pid
            _log.warning(
                f"detections: the process that does them, {pid}, has {does} for {still_s:.0f} s; batches "
                "wait for it, on disk where others go on: if it is frozen, let it go on; "
                f"after `kill -9 {pid}` the collector does it itself"
            )

    def _tell_going_on(self) -> None:
        if self._is_told:
            self._is_told = False
            _log.info("detections: the process that does them goes on")

    def _end(self, reason: str) -> None:
        self.reason = reason
        self._process.kill()


def is_stopped(process: subprocess.Popen[bytes]) -> bool:
    """Whether a signal has stopped it, as SIGSTOP does, so that it does nothing until another one comes."""
    found = None
    with suppress(OSError, AttributeError):  # it has ended, or the system does not tell
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    return found is not None and found.si_status in {signal.SIGSTOP, signal.SIGTSTP}
