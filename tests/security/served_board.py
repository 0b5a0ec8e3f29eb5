"""A board in a process of its own, and what comes to it by the socket. Nothing here imports the product."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest
from forked import run_forked
from patience import PATIENCE_S
from ports import kept_port

COMMAND = (sys.executable, "-m", "m365watch.cli.main")
PASSWORD = "four plain words here"
LINK = re.compile(r"http://127\.0\.0\.1:\d+/open(\?\S+)?#(?P<code>\S+)")
OWN_PAGE = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
"""What a browser says of a request that a page of the board makes."""
TYPED = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FROM_ELSEWHERE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
"""A link in a mail, in a chat, or on a page of somebody else."""
WITHIN_ELSEWHERE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str
    took_s: float
    cookies: tuple[str, ...] = ()


@dataclass
class ServedBoard:
    """A board, and a browser's cookies for it."""

    port: int
    config: Path
    output: Path
    pid: int
    environment: Mapping[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(
        self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: str = ""
    ) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        given = dict(headers or {})
        if self.cookies:
            given["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        begun_s = time.monotonic()
        try:
            connection.request(method, path, body or None, given)
            answer = connection.getresponse()
            is_endless = "event-stream" in answer.getheader("content-type", "")
            text = "" if is_endless else answer.read().decode(errors="replace")
        finally:
            connection.close()
        set_by = tuple(value for name, value in answer.getheaders() if name.lower() == "set-cookie")
        lowered = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, lowered, text, time.monotonic() - begun_s, set_by)

    def printed(self) -> str:
        return self.output.read_text()

    def code(self) -> str:
        """The code of a new link."""
        words = ("board", "link", "--config", str(self.config), "--listen", f"127.0.0.1:{self.port}")
        done = run(*words, environment=self.environment)
        assert done.returncode == 0, done.stderr
        found = LINK.search(done.stdout)
        assert found, done.stdout
        return found["code"]

    def exchange(self, code: str, **fields: str) -> Reply:
        """What the page behind a link does with its code."""
        form = OWN_PAGE | {
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
            "content-type": "application/x-www-form-urlencoded",
        }
        reply = self.ask("/open", form, method="POST", body=urlencode({"code": code, **fields}))
        for line in reply.cookies:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return reply

    def csrf(self) -> dict[str, str]:
        """The header with which a page of the board proves that it is one."""
        found = re.search(r'name="csrf-token" content="([0-9a-f]+)"', self.ask("/sql", TYPED).text)
        assert found
        return {"x-csrf-token": found[1]}


def run(
    *arguments: str, environment: Mapping[str, str] | None = None, typed: str | None = None
) -> subprocess.CompletedProcess[str]:
    """One command of the product, to its end."""
    if typed is None:
        return run_forked("m365watch.cli.main", *arguments, environment=os.environ | dict(environment or {}))
    return subprocess.run(
        [*COMMAND, *arguments],
        env=os.environ | dict(environment or {}),
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def add_user(config: Path, name: str, *options: str, environment: Mapping[str, str] | None = None) -> None:
    """Let somebody sign in with `PASSWORD`."""
    words = ("board", "user", "add", name, *options, "--password-stdin", "--config", str(config))
    done = run(*words, environment=environment, typed=PASSWORD)
    assert done.returncode == 0, done.stderr


def collected_day(folder: Path, factory: pytest.TempPathFactory) -> Path:
    """The configuration of a simulated tenant of which a day was collected.

    Of the processes of a run of tests the first collects it, and all have a copy of that.
    """
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "collected_day"
    with shared.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "config.json").exists():
            sizes = ("--days", "1", "--records-per-day", "300", "--no-board")
            done = run("demo", "--directory", str(shared), *sizes)
            assert done.returncode == 0, done.stderr
    shutil.copytree(shared, folder / "demo")
    return folder / "demo" / "config.json"


@contextmanager
def board_of(config: Path, environment: Mapping[str, str] | None = None) -> Iterator[ServedBoard]:
    """The board of a configuration, opened by nobody yet."""
    given = dict(environment or {})
    with kept_port() as port, tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output.txt"
        with (
            output.open("wb") as printed,
            subprocess.Popen(
                [*COMMAND, "board", "--config", str(config), "--listen", f"127.0.0.1:{port}"],
                stdout=printed,
                stderr=subprocess.STDOUT,
                env=os.environ | {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"} | given,
            ) as process,
        ):
            try:
                until_s = time.monotonic() + PATIENCE_S
                while f"board: http://127.0.0.1:{port}/" not in output.read_text():
                    assert process.poll() is None, output.read_text()
                    assert time.monotonic() < until_s, output.read_text()
                    time.sleep(0.05)
                yield ServedBoard(port, config, output, process.pid, given)
            finally:
                process.terminate()
                process.wait(PATIENCE_S)
