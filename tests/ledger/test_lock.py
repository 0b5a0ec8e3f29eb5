"""Who holds the ledger, told by real processes: the operating system's lock decides, never a file's text."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer
from uuid import UUID

import pytest
from promises import guarantee

from m365watch.common.errors import LedgerHeld
from m365watch.config.loader import example_settings, load_settings
from m365watch.health.collector_status import is_collector_running
from m365watch.ledger.lock import LOCK_FILE, LedgerLock, cure_beside_collector, holder_of, pid_holding
from m365watch.ledger.sqlite_ledger import LEDGER_FILE

HOLDER = """
import sys, time
from pathlib import Path
from m365watch.ledger.lock import LedgerLock
LedgerLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


OPENER = """
import sys, time
from pathlib import Path
opened = [Path(one).open() for one in sys.argv[1:]]
print("held", flush=True)
time.sleep(60)
"""
LOOKER = """
import sys
from pathlib import Path
from m365watch.ledger.lock import holder_of
print("held", flush=True)
while True:
    holder_of(Path(sys.argv[1]))
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")


@contextmanager
def holder(*paths: Path, program: str = HOLDER) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock at that path, or does what `program` does."""
    process = subprocess.Popen([sys.executable, "-c", program, *paths], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@guarantee(20)
def test_the_second_process_is_told_the_first_ones_pid_and_host(tmp_path: Path) -> None:
    """So that somebody can find it, on whichever machine."""
    with holder(tmp_path / "lock") as process, pytest.raises(LedgerHeld) as refused:
        LedgerLock(tmp_path / "lock").acquire()

    assert refused.value.what == f"held by pid {process.pid} on {socket.gethostname()}"
    assert refused.value.fix.startswith("stop that process first")


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """Its file is still there, with its name in it."""
    path = tmp_path / "lock"
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = path.read_text()

        lock = LedgerLock(path)
        lock.acquire()
        lock.release()

    assert left == f"pid {process.pid} on {socket.gethostname()}\n"


@guarantee(20)
@pytest.mark.parametrize(
    "text",
    [
        f"pid {os.getpid()} on {socket.gethostname()}\n",
        "pid 1 on 3f9c1d2b7a10\n",
        "pid 1 on another-host.example.org\n",
        "",
        "\x00\xff not text at all",
    ],
    ids=["own-pid", "container", "other-host", "empty", "garbage"],
)
def test_what_a_file_says_holds_nothing(tmp_path: Path, text: str) -> None:
    """A container starts with the pid of the one before it; a state directory moves to another machine."""
    path = tmp_path / "lock"
    path.write_text(text, encoding="latin-1")

    lock = LedgerLock(path)
    lock.acquire()
    said = path.read_text()
    lock.release()

    assert said == f"pid {os.getpid()} on {socket.gethostname()}\n"


def test_a_process_with_another_ones_pid_is_refused_all_the_same(tmp_path: Path) -> None:
    """In two containers both are pid 1: the lock is the kernel's, and knows them apart."""
    path = tmp_path / "lock"
    with holder(path):
        path.write_text("pid 1 on 3f9c1d2b7a10\n")
        with pytest.raises(LedgerHeld, match="held by pid 1 on 3f9c1d2b7a10"):
            LedgerLock(path).acquire()


@guarantee(20)
def test_two_at_the_same_time_are_never_both_let_in(tmp_path: Path) -> None:
    """Eight start together; one holds it."""
    contender = HOLDER.replace("time.sleep(60)", "sys.stdin.read()")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", contender, str(tmp_path / "lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    try:
        # A line, or the end of one that was refused; whoever holds it goes on until its input ends.
        said = [one.stdout.readline() for one in processes if one.stdout is not None]
    finally:
        complaints = [one.communicate()[1] for one in processes]

    assert sorted(said) == [""] * 7 + ["held\n"]
    assert sum("LedgerHeld" in complaint for complaint in complaints) == 7


@pytest.mark.parametrize(
    ("number", "cure"),
    [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EACCES, "call it as the user")],
)
def test_what_helps_a_command_depends_on_what_stopped_it(number: int, cure: str) -> None:
    """Another user does not help a full disk."""
    assert cure_beside_collector(OSError(number, "no")).startswith(cure)


@guarantee(31)
def test_a_lock_that_is_kept_lets_nobody_in_between_two_ledgers(tmp_path: Path) -> None:
    """One ledger is closed and the next is opened in its place; at the end of the block it is given back."""
    path = tmp_path / "lock"
    lock = LedgerLock(path)
    with lock.kept():
        lock.acquire()
        lock.release()
        with pytest.raises(LedgerHeld):
            LedgerLock(path).acquire()
        lock.acquire()
        lock.release()

    other = LedgerLock(path)
    other.acquire()
    other.release()


def test_a_start_beside_a_board_that_looks_all_the_time_never_fails(tmp_path: Path) -> None:
    """A look holds the lock for a moment, together with other looks, and refuses nobody."""
    path = tmp_path / "lock"
    path.touch()
    with holder(path, program=LOOKER), holder(path, program=LOOKER):
        for _ in range(8_000):
            lock = LedgerLock(path)
            lock.acquire()
            assert holder_of(path) == f"pid {os.getpid()} on {socket.gethostname()}"
            lock.release()


def test_a_look_that_takes_long_refuses_no_start(tmp_path: Path) -> None:
    """The looking process had to wait for a processor; one that is stopped is not waited for for ever."""
    path = tmp_path / "lock"
    path.touch()
    with path.open("rb") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        with pytest.raises(LedgerHeld):
            LedgerLock(path).acquire()
        later = Timer(0.05, fcntl.flock, (look, fcntl.LOCK_UN))
        later.start()
        lock = LedgerLock(path)
        lock.acquire()
        lock.release()
        later.join()


def test_a_command_that_looks_for_a_collector_takes_nothing_from_it(tmp_path: Path) -> None:
    """`audit` looks again and again: a collector that starts meanwhile is neither refused nor misnamed."""
    file, lock = tmp_path / "m365watch.yaml", tmp_path / LOCK_FILE
    text = example_settings().replace("<tenant>", f"{UUID(int=1)}").replace("<application>", f"{UUID(int=2)}")
    file.write_text(text)
    settings = replace(load_settings(file, environment={}, for_reading=True), state_directory=tmp_path)
    (tmp_path / LEDGER_FILE).touch()
    with closing(lock.open("w+")) as look:
        look.write("pid 1 on here\n")
        look.flush()
        fcntl.flock(look, fcntl.LOCK_SH)
        assert not is_collector_running(settings)
        fcntl.flock(look, fcntl.LOCK_EX)
        assert is_collector_running(settings)

    assert lock.read_text() == "pid 1 on here\n"


@on_linux
def test_the_process_that_holds_a_lock_is_found_without_touching_it(tmp_path: Path) -> None:
    """As long as it holds it, and the next one after it; nobody is refused because somebody looked."""
    path = tmp_path / "lock"
    assert pid_holding(path) is None
    with holder(path) as first:
        assert pid_holding(path) == first.pid
    assert pid_holding(path) is None
    with holder(path) as second:
        assert pid_holding(path) == second.pid


@guarantee(47)
@on_linux
def test_no_other_process_of_the_same_number_holds_a_lock(tmp_path: Path) -> None:
    """The number is another container's, or was used again: whoever has it here is a stranger.

    Also one that has the file open, or that holds another lock.
    """
    path, other = tmp_path / "lock", tmp_path / "other"
    path.touch()
    with holder(other) as stranger, holder(path, program=OPENER) as reader, holder(path):
        for process in (stranger, reader):
            path.write_text(f"pid {process.pid} on {socket.gethostname()}\n")
            assert pid_holding(path) is None


@pytest.mark.parametrize(
    "text", ["", "pid", "pid 0 on x\n", f"pid {2**70} on x\n", "\x00\xff not text at all"]
)
def test_of_a_text_that_names_no_process_nobody_is_found(tmp_path: Path, text: str) -> None:
    """It is being written, or is not ours."""
    path = tmp_path / "lock"
    with holder(path):
        path.write_text(text, encoding="latin-1")

        assert pid_holding(path) is None


@on_linux
def test_who_holds_a_lock_does_not_find_itself(tmp_path: Path) -> None:
    """Another process is looked for."""
    lock = LedgerLock(tmp_path / "lock")
    lock.acquire()
    try:
        assert pid_holding(tmp_path / "lock") is None
    finally:
        lock.release()
