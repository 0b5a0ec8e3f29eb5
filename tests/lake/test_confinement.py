"""What the kernel takes from the process that runs SQL, tried from within."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from m365watch.lake.sql_sandbox.confinement import _ARCHITECTURES, _DENIED, Confinement, _plan_filter, probe
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.sql_sandbox.sandbox_process import Question

SCRIPT = Path(__file__).with_name("confined.py")
DONE = {
    "read the lake",
    "read a table behind a link",
    "list the lake",
    "start a thread",
    "lower an own limit",
    "set a flag of an own file",
}
UNKNOWN = {"clone3", "a newer system call"}


@pytest.mark.skipif(not probe().is_complete, reason="this kernel lacks a feature")
def test_nothing_is_left_but_reading_the_lake(tmp_path: Path) -> None:
    """Threads start and the lake is read; other files, sockets, programs and processes are out of reach."""
    lake, elsewhere = tmp_path / "lake", tmp_path / "elsewhere"
    for folder in (lake, elsewhere):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    (lake / "table").symlink_to(elsewhere)
    (tmp_path / "beside").write_bytes(b"x")

    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(lake)], stdout=subprocess.PIPE, check=True, timeout=60
    )

    outcomes = json.loads(ran.stdout)
    assert {name for name, outcome in outcomes.items() if outcome == "done"} == DONE
    assert {name for name, outcome in outcomes.items() if outcome == "ENOSYS"} == UNKNOWN
    assert set(outcomes.values()) == {"done", "ENOSYS", "EPERM", "EACCES"}


def verdict_of(program: list[tuple[int, int, int, int]], data: dict[int, int]) -> int:
    """What the kernel makes of a system call: the few operations of classic BPF that a filter uses."""
    at = loaded = 0
    while True:
        operation, if_true, if_false, operand = program[at]
        at += 1
        if operation == 0x06:
            return operand
        if operation == 0x20:
            loaded = data[operand]
        else:
            holds = {0x15: loaded == operand, 0x25: loaded > operand, 0x45: bool(loaded & operand)}[operation]
            at += if_true if holds else if_false


DENIED = """
accept accept4 add_key bind bpf chmod chown connect execve execveat fchmod fchmodat fchmodat2 fchown
fchownat fork fremovexattr fsetxattr futimesat io_uring_setup ioprio_set kcmp keyctl kill lchown listen
lremovexattr lsetxattr migrate_pages mount move_pages mq_open mq_unlink msgctl msgget msgrcv msgsnd
open_by_handle_at perf_event_open pidfd_getfd pidfd_open pidfd_send_signal process_madvise
process_mrelease process_vm_readv process_vm_writev ptrace removexattr request_key rt_sigqueueinfo
rt_tgsigqueueinfo sched_setaffinity sched_setattr sched_setparam sched_setscheduler semctl semget semop
semtimedop sendmmsg sendmsg sendto setns setpriority setxattr shmat shmctl shmget socket tkill truncate
unshare userfaultfd utime utimensat utimes vfork
"""
ALLOWED, REFUSED, UNKNOWN_CALL, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


@pytest.mark.parametrize(
    ("machine", "read", "clone", "fcntl", "ioctl"), [("x86_64", 0, 56, 72, 16), ("aarch64", 63, 220, 25, 29)]
)
def test_the_filter_of_each_processor_judges_its_calls(
    machine: str, read: int, clone: int, fcntl: int, ioctl: int
) -> None:
    """Numbers are of one architecture: those of another one, as of 32 bits on x86_64, end the process."""
    program = _plan_filter(machine)
    column, architecture = list(_ARCHITECTURES).index(machine), _ARCHITECTURES[machine]

    def judge(number: int, argument: int = 0, second: int = 0, *, arch: int = architecture) -> int:
        return verdict_of(program, {0: number, 4: arch, 16: argument, 24: second})

    denied = {number for name in DENIED.split() if (number := _DENIED[name][column]) is not None}
    assert {judge(number) for number in denied} == {REFUSED}
    assert judge(read) == ALLOWED
    assert judge(read, arch=0x40000003) == KILLED
    assert judge(0x40000000 | read) == UNKNOWN_CALL
    assert (judge(clone, 0x00010000), judge(clone, 17)) == (ALLOWED, REFUSED)
    commands = (*range(2000), *range(0x8900, 0x8910))
    assert {one for one in commands if judge(fcntl, 0, one) == REFUSED} == {8, 10, 15}
    assert {one for one in commands if judge(ioctl, 0, one) == REFUSED} == {0x8901, 0x8902}


@pytest.mark.parametrize(
    ("found", "is_complete", "text"),
    [
        (Confinement(), False, "the kernel does not confine SQL queries; missing: "),
        (Confinement(True, 0, True), False, "missing: Landlock"),
        (Confinement(True, 7, True), True, "SQL queries: no privileges, Landlock ABI 7, seccomp"),
    ],
)
def test_what_is_missing_is_said(found: Confinement, is_complete: bool, text: str) -> None:
    """One line names what holds and what this machine cannot do."""
    assert found.is_complete is is_complete
    assert text in found.text


@pytest.mark.skipif(not probe().seccomp, reason="this kernel lacks seccomp")
def test_an_older_kernel_confines_by_what_it_has(tmp_path: Path) -> None:
    """Without Landlock files are within reach, as for the user, and all else is not."""
    program = (
        "import runpy, sys; from m365watch.lake.sql_sandbox import confinement;"
        "confinement._LANDLOCK_CREATE = 999; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    )
    lake = tmp_path / "lake"
    (lake / "table").mkdir(parents=True)
    for folder in (lake, lake / "table"):
        (folder / "file").write_bytes(b"x")

    ran = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPT), str(lake)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )

    outcomes = json.loads(ran.stdout)
    assert outcomes["read /etc/passwd"] == "done"
    assert {outcomes[name] for name in ("socket", "fork", "execve", "signal the parent")} == {"EPERM"}


def test_an_error_is_cut_before_it_crosses_the_pipe(tmp_path: Path) -> None:
    """A record of a megabyte that an error repeats does not become an error of a megabyte."""
    (tmp_path / "audit").mkdir()
    question = Question(
        directory=str(tmp_path),
        sql="SELECT error(repeat('x', 1000000))",
        tenants=None,
        sees_trail=True,
        limit_s=30.0,
        memory_bytes=1 << 30,
        rows_max=1,
    )

    ran = subprocess.run(
        [sys.executable, "-m", "m365watch.lake.sql_sandbox.sandbox_process"],
        input=msgspec.json.encode(question),
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert b"Invalid Input Error: xxx" in ran.stdout
    assert len(ran.stdout) < 1000
    assert not ran.stderr


QUERIES = {
    "time zones": (
        "SELECT CAST(TIMESTAMPTZ '2026-07-01 10:00:00+00' AT TIME ZONE 'Europe/Berlin' AS VARCHAR)",
        "2026-07-01 12:00:00",
    ),
    "collations": ("SELECT 'ä' COLLATE de < 'z' COLLATE de", True),
    "regular expressions": (r"SELECT regexp_extract('id=17', '\d+')", "17"),
    "a large sort": ("SELECT max(n) FROM (SELECT n FROM range(3000000) t(n) ORDER BY hash(n))", 2999999),
}


@pytest.mark.parametrize("kind", QUERIES)
def test_what_queries_use_works_confined(kind: str, tmp_path: Path) -> None:
    """Nothing of DuckDB is read from files when it is used first."""
    (tmp_path / "audit").mkdir()
    sql, value = QUERIES[kind]

    assert LakeReader(tmp_path).query(sql).rows == [(value,)]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root becomes another user")
def test_root_queries_the_lake_of_another_user() -> None:
    """Without capabilities root reads no other user's files, so the process becomes their owner."""
    lake = Path(tempfile.mkdtemp())
    try:
        (lake / "audit").mkdir()
        for path in (lake / "audit", lake):
            os.chown(path, 65534, 65534)
            path.chmod(0o700)
        assert LakeReader(lake).query("SELECT count(*) FROM audit").rows == [(0,)]
    finally:
        shutil.rmtree(lake)
