"""The process that runs SQL, as the kernel sees it from outside: no privileges, filtered calls, no dumps."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from patience import PATIENCE_S

from raw_http import COMMAND, hooked, served
from refused_calls import PIPE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ENDLESS = "SELECT count(*) FROM range(100000000000) AS one(number) WHERE number % 7 = 8"
CORE_FILES = ["-S -c 1"] if resource.getrlimit(resource.RLIMIT_CORE)[1] else []
"""A process would leave one, where this session may have them at all."""
BUSY_RECORDS = 40_000
"""Of a day: even on a Sunday a batch is among them that detections have a process for."""
MORE_THREADS_MAX = 1000
"""How many threads a query may start beyond all of the machine's; most users may have many times that."""
LOOK_INTO = """
import ctypes, platform, struct, sys
libc, pid = ctypes.CDLL(None), int(sys.argv[1])
header, held = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
assert libc.capget(ctypes.create_string_buffer(header), held) == 0
effective, *others = struct.unpack("6I", held.raw)
assert libc.capset(header, struct.pack("6I", effective & ~(1 << 19), *others)) == 0  # CAP_SYS_PTRACE
kcmp = {"x86_64": 312, "aarch64": 272}[platform.machine()]
sys.exit(3 if libc.syscall(kcmp, pid, pid, 1, 0, 0) else 0)
"""
"""What a process of the same user may see of another, root without its right to look into all: 3, nothing."""


def threads_of(pid: int) -> Iterator[dict[str, str]]:
    """The status of each thread, in the order of their start."""
    for file in sorted(Path(f"/proc/{pid}/task").glob("*/status"), key=lambda one: int(one.parent.name)):
        with suppress(OSError):
            lines = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
            yield {name: value.strip() for name, _, value in lines}


def limits_of(pid: int, name: str) -> list[str]:
    """The soft and the hard one."""
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
    [line] = [line for line in limits.splitlines() if line.startswith(name)]
    return line.removeprefix(name).split()[:2]


def has_landlock() -> bool:
    """Whether the kernel says a version of it."""
    create_ruleset, version = 444, 1
    if sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None).syscall(create_ruleset, None, 0, version)) > 0


def children_of(pid: int) -> Iterator[int]:
    """Its child processes."""
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, file.read_text(encoding="utf-8").split())


def status_of_look_into(pid: int) -> int:
    """0 where another process of the user may look into it, 3 where not."""
    return subprocess.run([sys.executable, "-c", LOOK_INTO, str(pid)], check=False).returncode


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake without records."""
    (tmp_path / "lake" / "audit").mkdir(parents=True)
    return tmp_path / "lake"


@contextmanager
def running(lake: Path, **more: Any) -> Iterator[int]:
    """The process of a query that runs: it has several threads."""
    process = subprocess.Popen(
        [*COMMAND, "query", "--lake", str(lake), ENDLESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )
    try:
        until_s, child, seen = time.monotonic() + PATIENCE_S, 0, list[dict[str, str]]()
        while len(seen) < 2 or seen[0]["Seccomp"] != "2":
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until_s, seen
            for child in children_of(process.pid):
                seen = list(threads_of(child))
            time.sleep(0.05)
        yield child
    finally:
        process.terminate()
        process.communicate()


def test_the_process_of_sql_has_no_privileges(lake: Path) -> None:
    """While a query runs, each thread of its process has a filter, no new privileges and no capability."""
    with running(lake) as child:
        seen = list(threads_of(child))
        assert {thread["Seccomp"] for thread in seen} == {"2"}
        assert {thread["NoNewPrivs"] for thread in seen} == {"1"}
        names = ("CapEff", "CapPrm", "CapInh", "CapAmb")
        assert {int(thread[name], 16) for thread in seen for name in names} == {0}


def test_the_process_of_sql_makes_no_call_that_it_has_no_use_for(lake: Path, tmp_path: Path) -> None:
    """No network, program or process, nothing of another process, no System V IPC, no change of a file."""
    os.mkfifo(tmp_path / "outcomes")
    environment = hooked("refused_calls.py", tmp_path / "hook") | {PIPE: str(tmp_path / "outcomes")}
    with os.fdopen(os.open(tmp_path / "outcomes", os.O_RDONLY | os.O_NONBLOCK)) as pipe:
        command = [*COMMAND, "query", "--lake", str(lake), "SELECT 1"]
        subprocess.run(command, env=environment, check=True, timeout=PATIENCE_S)
        outcomes = json.load(pipe)

    assert outcomes.pop("clone3") == outcomes.pop("file_setattr") == ["ENOSYS"]
    assert {name: ends for name, ends in outcomes.items() if set(ends) != {"EPERM"}} == {}
    assert "socket" in outcomes


def test_the_process_of_sql_cannot_start_threads_without_end(lake: Path) -> None:
    """Its limit is near what the machine has, and it cannot be raised again."""
    with running(lake) as child:
        present = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
        [soft, hard] = limits_of(child, "Max processes")
        assert soft == hard
        assert int(hard) < present + MORE_THREADS_MAX


def test_the_process_of_sql_holds_no_credential(lake: Path) -> None:
    """Neither the environment of the command nor a file that it has open reaches the process."""
    with (
        (lake.parent / "secret").open("wb") as secret,
        running(lake, pass_fds=[secret.fileno()], env=os.environ | {"M365_SECRET": "hunter2"}) as child,
    ):
        if os.geteuid() == 0:  # others may not see what a process holds that cannot be dumped
            assert b"hunter2" not in Path(f"/proc/{child}/environ").read_bytes()
            assert not [one for one in Path(f"/proc/{child}/fd").iterdir() if "secret" in str(one.readlink())]
        assert status_of_look_into(child) == 3


@pytest.mark.skipif(not has_landlock(), reason="this kernel lacks Landlock")
def test_the_process_of_sql_reads_no_file_outside_the_lake(lake: Path) -> None:
    """A link in a table leads it to no other file of its user, whatever library opens it."""
    write_deltalake(str(lake / "board_trail"), pa.table({"says": ["of this machine"]}))
    command = [*COMMAND, "query", "--lake", str(lake), "SELECT says FROM board_trail"]

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)

    inside = ask()
    [file] = (lake / "board_trail").glob("*.parquet")
    file.symlink_to(file.rename(lake.parent / "elsewhere"))
    outside = ask()

    assert "of this machine" in inside.stdout
    assert (outside.returncode, outside.stdout) == (1, "")
    assert "Permission denied" in outside.stderr


def test_an_error_of_a_record_s_size_is_cut(lake: Path) -> None:
    """DuckDB quotes what a record says; the error stays a line that can be read."""
    ran = subprocess.run(
        [*COMMAND, "query", "--lake", str(lake), "SELECT error(repeat('x', 1000000))"],
        check=False,
        capture_output=True,
        timeout=PATIENCE_S,
    )

    assert ran.returncode != 0
    assert 100 < len(ran.stderr) < 2000


def test_check_says_what_confines_sql(tmp_path: Path) -> None:
    """It names what this kernel offers, and root as the wrong user."""
    with served("webhook", tmp_path):
        document = json.loads((tmp_path / "m365watch.json").read_text(encoding="utf-8"))
        document["globals"].pop("webhook")
        document["outputs"] = {"lake": {"type": "lake", "config": {"directory": str(tmp_path / "lake")}}}
        file = tmp_path / "check.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        file.chmod(0o600)
        ran = subprocess.run(
            [*COMMAND, "check", "--json", "-c", str(file)],
            check=False,
            stdout=subprocess.PIPE,
            timeout=PATIENCE_S,
        )

    assert b"SQL queries" in ran.stdout
    assert (b"runs as root" in ran.stdout) is (b"missing:" in ran.stdout and os.geteuid() == 0)


def test_the_board_says_so_when_it_starts(tmp_path: Path) -> None:
    """One line of its log, and a warning for root."""
    with served("board", tmp_path):
        log = (tmp_path / "board.out").read_text(encoding="utf-8")

    assert log.count("SQL queries") == 1
    assert ("runs as root" in log) is ("missing:" in log and os.geteuid() == 0)


@pytest.mark.parametrize("kind", ["board", "webhook"])
def test_board_and_collector_leave_no_dump(kind: str, tmp_path: Path) -> None:
    """Nothing in their memory reaches a core file, and no process of the same user reads it."""
    with served(kind, tmp_path, limits=CORE_FILES) as one:
        assert limits_of(one.process.pid, "Max core file size")[0] == "0"
        assert status_of_look_into(one.process.pid) == 3
    with subprocess.Popen(["sleep", str(PATIENCE_S)]) as ordinary:
        assert status_of_look_into(ordinary.pid) == 0
        ordinary.kill()


@pytest.mark.slow
def test_the_process_of_detections_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment of the collector nor the memory of its worker is there for the same user."""
    monkeypatch.setenv("M365_SECRET", "hunter2")
    with served("webhook", tmp_path, limits=CORE_FILES, records=BUSY_RECORDS, output="lake") as one:
        until_s, worker = time.monotonic() + PATIENCE_S, 0
        while not worker or status_of_look_into(worker) != 3:
            assert time.monotonic() < until_s, worker
            worker = next(children_of(one.process.pid), 0)
            time.sleep(0.05)
        assert limits_of(worker, "Max core file size")[0] == "0"
        if os.geteuid() == 0:  # others may not see what a process holds that cannot be dumped
            assert b"hunter2" in Path(f"/proc/{one.process.pid}/environ").read_bytes()
            assert b"hunter2" not in Path(f"/proc/{worker}/environ").read_bytes()
