"""The process that runs SQL, as the kernel sees it from outside: no privileges, filtered calls, no dumps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE_S

from raw_http import COMMAND, served

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ENDLESS = "SELECT count(*) FROM range(100000000000) AS one(number) WHERE number % 7 = 8"
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


def test_the_process_of_sql_has_no_privileges(lake: Path) -> None:
    """While a query runs, each thread of its process has a filter, no new privileges and no capability."""
    process = subprocess.Popen(
        [*COMMAND, "query", "--lake", str(lake), ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        until_s, seen = time.monotonic() + PATIENCE_S, list[dict[str, str]]()
        while len(seen) < 2 or seen[0]["Seccomp"] != "2":  # a query that runs has threads
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until_s, seen
            for child in children_of(process.pid):
                seen = list(threads_of(child))
            time.sleep(0.05)
        assert {thread["Seccomp"] for thread in seen} == {"2"}
        assert {thread["NoNewPrivs"] for thread in seen} == {"1"}
        names = ("CapEff", "CapPrm", "CapInh", "CapAmb")
        assert {int(thread[name], 16) for thread in seen for name in names} == {0}
    finally:
        process.terminate()
        process.communicate()


def test_the_process_of_sql_holds_no_credential(lake: Path) -> None:
    """Neither the environment of the command nor a file that it has open reaches the process."""
    with (lake.parent / "secret").open("wb") as secret:
        process = subprocess.Popen(
            [*COMMAND, "query", "--lake", str(lake), ENDLESS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[secret.fileno()],
            env=os.environ | {"M365_SECRET": "hunter2"},
        )
    try:
        until_s, seen = time.monotonic() + PATIENCE_S, list[dict[str, str]]()
        while len(seen) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until_s
            for child in children_of(process.pid):
                seen = list(threads_of(child))
            time.sleep(0.05)
        if os.geteuid() == 0:  # others may not see what a process holds that cannot be dumped
            assert b"hunter2" not in Path(f"/proc/{child}/environ").read_bytes()
            assert not [one for one in Path(f"/proc/{child}/fd").iterdir() if "secret" in str(one.readlink())]
        assert status_of_look_into(child) == 3
    finally:
        process.terminate()
        process.communicate()


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
    with served(kind, tmp_path) as one:
        limits = Path(f"/proc/{one.process.pid}/limits").read_text(encoding="utf-8")
        [line] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert line.split()[4] == "0"
        assert status_of_look_into(one.process.pid) == 3


def test_an_ordinary_process_can_be_looked_into() -> None:
    """The probe above is not refused for another reason."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert status_of_look_into(process.pid) == 0
        finally:
            process.kill()
