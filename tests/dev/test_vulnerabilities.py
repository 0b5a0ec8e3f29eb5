"""A known vulnerability of a locked package ends the check, and a database that is away does not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from packaging.requirements import Requirement
from patience import PATIENCE_S
from promises import guarantee

from test_package_audit import NOW
from tools.audit import ANSWERS_STRICT_S, Places, audit, main
from tools.sbom import LOCK, ROOT, purl_of, read_lock
from tools.vulnerabilities import (
    ACCEPTED,
    Vulnerability,
    WrongLine,
    find_vulnerabilities,
    judge,
    list_idle,
    list_pins,
    read_accepted,
)

TODAY = date(2026, 11, 27)
PINS = [Requirement("a==1"), Requirement("b==2")]
LOCKED = read_lock(LOCK.read_text())[0]


class Database(ThreadingHTTPServer):
    """A database of vulnerabilities, and an index beside it, on loopback."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, known: dict[str, list[str]]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.known = known

    @property
    def places(self) -> list[str]:
        """What an audit is told, so that it asks here."""
        url = f"http://127.0.0.1:{self.server_port}"
        return ["--database", f"{url}/querybatch", "--index", f"{url}/simple"]


class Answering(BaseHTTPRequestHandler):
    """In the order of the questions, with nothing for what it knows nothing of."""

    server: Database

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        known = [self.server.known.get(one["package"]["purl"], []) for one in asked]
        self._answer({"results": [{"vulns": [{"id": one} for one in ids]} if ids else {} for ids in known]})

    def do_GET(self) -> None:
        self._answer({"files": [{"upload-time": "2026-01-01T00:00:00Z"}]})

    def _answer(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the test's own words are enough."""


@contextmanager
def serving(known: dict[str, list[str]]) -> Iterator[Database]:
    """The database while it answers."""
    with Database(known) as database:
        thread = threading.Thread(target=database.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield database
        finally:
            database.shutdown()
            thread.join()


def accepting(tmp_path: Path, line: str) -> Path:
    """A file with that one line."""
    path = tmp_path / "accepted.txt"
    path.write_text(f"# a comment\n\n{line}\n")
    return path


@guarantee(27)
def test_a_known_vulnerability_of_a_locked_version_ends_a_plain_audit_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As `./dev check` calls it; the line names package, version and vulnerability, and what can be done."""
    with serving({purl_of(LOCKED): ["PYSEC-1"]}) as database:
        assert main(database.places, answers_s=PATIENCE_S) == 1

    first, hint, _ = capsys.readouterr().err.splitlines()
    assert first == f"audit: {LOCKED.name} {str(LOCKED.specifier)[2:]}: known vulnerability PYSEC-1"
    assert hint.startswith("audit: hint: ./dev lock; or accept it")


@guarantee(27)
@pytest.mark.parametrize(
    ("until", "code", "told"), [("2999-12-31", 0, ""), ("2020-12-31", 1, "accepted until 2020-12-31 only")]
)
def test_what_is_accepted_passes_until_its_last_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], until: str, code: int, told: str
) -> None:
    """And then ends the check again, so that somebody looks."""
    accepted = accepting(tmp_path, f"PYSEC-1 {LOCKED.name} until {until}: nobody calls it")

    with serving({purl_of(LOCKED): ["PYSEC-1"]}) as database:
        assert main(database.places, accepted=accepted, answers_s=PATIENCE_S) == code

    assert told in capsys.readouterr().err


@guarantee(27)
def test_a_database_that_cannot_be_reached_is_one_loud_line_and_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A machine without a network can be worked on."""
    with serving({}) as database:
        places = database.places

    assert main(places) == 0
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("audit: NOT LOOKED AT: known vulnerabilities; 127.0.0.1 gives no answer: ")


def test_a_database_that_is_silent_holds_up_no_check() -> None:
    """The process ends long before whatever hangs would: it takes the connection and never answers."""
    with create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer = subprocess.run(
            [sys.executable, "-m", "tools.audit", "--database", url, "--index", url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=ANSWERS_STRICT_S - 1,
            check=False,
        )

    assert answer.returncode == 0
    assert [line.partition(";")[0] for line in answer.stderr.splitlines()[:-1]] == [
        "audit: NOT LOOKED AT: known vulnerabilities",
        "audit: NOT LOOKED AT: releases",
    ]


def test_known_vulnerabilities_are_named_with_the_package() -> None:
    """Each with the version that was asked about; further pages of one answer are asked for."""
    pages = iter(
        [
            {"results": [{}, {"vulns": [{"id": "PYSEC-1"}], "next_page_token": "t"}]},
            {"results": [{"vulns": [{"id": "GHSA-2"}]}]},
        ]
    )
    asked = []

    def fetch(request: Any) -> Any:
        asked.append(
            [(one["package"]["purl"], one.get("page_token")) for one in json.loads(request.data)["queries"]]
        )
        return next(pages)

    assert find_vulnerabilities(PINS, fetch, database="https://database.example") == [
        Vulnerability("PYSEC-1", "b", "2"),
        Vulnerability("GHSA-2", "b", "2"),
    ]
    assert asked == [[("pkg:pypi/a@1", None), ("pkg:pypi/b@2", None)], [("pkg:pypi/b@2", "t")]]


@pytest.mark.parametrize("answer", [[], {}, {"results": []}, {"results": [{"vulns": [{}]}] * 200}, "busy"])
def test_an_answer_of_another_shape_is_no_answer(answer: Any) -> None:
    """It is not taken for good news, and ends with a line and not with a traceback."""
    places = Places("https://database.example/querybatch", "https://index.example")
    told = audit(lambda _: answer, places, now=NOW, answers_s=60)

    assert told.unseen[0].startswith("NOT LOOKED AT: known vulnerabilities; database.example")


def test_every_lock_is_asked_about() -> None:
    """What only builds, tests or measures runs on somebody's machine too."""
    names = {pin.name for pin in list_pins()}

    assert {"aiohttp", "pytest", "hatchling", "tenzir"} <= names


def test_an_acceptance_is_of_one_vulnerability_of_one_package() -> None:
    """Names as the index spells them are the same."""
    accepted = read_accepted("PYSEC-1 A until 2026-11-27: why\nPYSEC-3 b until 2026-11-27: why\n", "x")
    found = [
        Vulnerability("PYSEC-1", "a", "1"),
        Vulnerability("PYSEC-1", "b", "2"),
        Vulnerability("X-2", "a", "1"),
    ]

    assert judge(found, accepted, today=TODAY) == [
        "b 2: known vulnerability PYSEC-1",
        "a 1: known vulnerability X-2",
    ]
    assert list_idle(found, accepted) == [
        "PYSEC-3 of b is accepted and not known of the locked version: take out its line"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "PYSEC-1",
        "PYSEC-1 a until 2026-12-31",
        "PYSEC-1 a until 2026-12-31: ",
        "PYSEC-1 a: why",
        "P a until 2026-13-01: y",
    ],
)
def test_an_acceptance_without_reason_or_last_day_ends_the_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    """Nothing passes by a line that nobody can judge; no question is asked before."""
    assert main([], fetch=lambda _: pytest.fail("asked"), accepted=accepting(tmp_path, line)) == 1
    assert "accepted.txt, line 3: " in capsys.readouterr().err


def test_what_is_accepted_here_can_be_read() -> None:
    """The file as it is committed; WrongLine fails this test with its line."""
    assert [one for one in read_accepted(ACCEPTED.read_text(), ACCEPTED.name) if not one.why] == []
    assert issubclass(WrongLine, Exception)
