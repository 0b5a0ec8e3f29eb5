"""`./dev entered [CHECKOUT ...]`: the functions and files of ours that a record, an alert and a page enter.

That is what an engineer has to read to follow each of them. The product is driven from outside alone, by its
command line and over HTTP, against a small service played here, so that the same tool measures any commit.
`entered_hook/sitecustomize.py` notes the functions in every thread and every process (`sys.setprofile`).

* record: `run` with a lake, from the listing that names the record's blob to the commit and what follows it;
* alert: the same with one rule that matches, until a webhook was notified of it, less what a record enters;
* page: `board`, the Overview and every panel on it, each time over another range.

Each is done once to warm up, and then in several turns: what counts was entered in every one of them. For an
alert and a page, what an idle process enters (timers, listings of nothing) is left out as well. One record is
too little for the worker processes of the detections and of the lake's upkeep: the collector does their work
itself, by the same functions.

ENTERED_LIST=FILE keeps the names of the functions of the last checkout, as JSON.
"""

from __future__ import annotations

import argparse
import base64
import json
import mmap
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

from tools.code_structure import show

_ROOT = Path(__file__).resolve().parents[1]
_HOOK = Path(__file__).parent / "entered_hook"
_TENANT, _APPLICATION = "0a1b2c3d-0000-4000-8000-00000000000a", "99999999-8888-4777-8666-555555555555"
_TURNS = 5
_QUIET_S = 0.5
"""So long nothing new was entered: the turn is over."""
_PATIENCE_S = 120.0
_POLL_S = 4
"""From one listing to the next: longer than a turn, so that none falls into it."""
_PAGE = "/overview"
_FIRST_LISTINGS = 8
"""A week, a day each and what is left over."""
_RULE = """\
title: Made to be measured
id: 3f0c9a52-2f0e-4c43-9a0b-6d1a3c5d7e91
status: test
logsource: {product: m365}
detection: {made: {Operation: MeasuredOperation}, condition: made}
level: high
"""

Functions = set[tuple[str, str]]
"""Each its file, and its name in it."""


class Service:
    """A token endpoint, the Management Activity API of one tenant, and a receiver of notifications."""

    def __init__(self, turn: Callable[[], None]) -> None:
        """`turn` is called before a listing that names a new blob is answered."""
        self._turn = turn
        self._blobs: dict[str, tuple[datetime, bytes]] = {}
        self._waiting: list[bytes] = []
        self.listed = 0
        self.notified = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def offer(self, operation: str) -> None:
        """A record in a blob of its own, which the next listing names."""
        now = datetime.now(UTC)
        record = {
            "Id": str(uuid.uuid4()),
            "CreationTime": f"{now - timedelta(minutes=5):%FT%T}",
            "RecordType": 25,
            "Operation": operation,
            "OrganizationId": _TENANT,
            "UserType": 0,
            "UserKey": "made",
            "UserId": f"{uuid.uuid4().hex}@contoso.example",
            "Workload": "MicrosoftTeams",
            "ClientIP": "203.0.113.7",
        }
        self._waiting.append(json.dumps([record]).encode())

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One answer."""
        request.rfile.read(int(request.headers.get("content-length", 0)))
        parts = urlsplit(request.path)
        body = self._body(parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()})
        request.send_response(200)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        self.notified += parts.path == "/told"

    def _body(self, path: str, query: dict[str, str]) -> bytes:
        if path.endswith("/token"):
            token = {"token_type": "Bearer", "expires_in": 3600, "access_token": _token(self.url)}
            return json.dumps(token).encode()
        if path.endswith("/subscriptions/content"):
            return json.dumps(self._list(query)).encode()
        if "/audit/" in path:
            return self._blobs[path.rpartition("/")[2]][1]
        enabled = {"contentType": "Audit.General", "status": "enabled", "webhook": None}
        return json.dumps([enabled] if path.endswith("/list") else enabled).encode()

    def _list(self, query: dict[str, str]) -> list[dict[str, str]]:
        start, end = (
            datetime.fromisoformat(query[key]).replace(tzinfo=UTC) for key in ("startTime", "endTime")
        )
        if self._waiting and datetime.now(UTC) - end < timedelta(hours=1):
            self._blobs[uuid.uuid4().hex] = (end - timedelta(seconds=30), self._waiting.pop())
            self._turn()
        self.listed += 1
        return [
            {
                "contentUri": f"{self.url}/api/v1.0/{_TENANT}/activity/feed/audit/{name}",
                "contentId": name,
                "contentType": query["contentType"],
                "contentCreated": f"{created:%FT%T}.000Z",
                "contentExpiration": f"{created + timedelta(days=7):%FT%T}.000Z",
            }
            for name, (created, _) in self._blobs.items()
            if start <= created < end
        ]


class Turns:
    """The turn that lasts, as the hook reads it, and what it wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "turn").write_bytes(b"\0")
        (folder / "trace").touch()
        with (folder / "turn").open("r+b") as file:
            self._byte = mmap.mmap(file.fileno(), 1)
        self._number = 0

    def environment(self, checkout: Path) -> dict[str, str]:
        """Of a process that is measured."""
        ours = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return ours | {
            "PYTHONPATH": os.pathsep.join((str(_HOOK), str(checkout / "src"))),
            "ENTERED_TURN": str(self._folder / "turn"),
            "ENTERED_TRACE": str(self._folder / "trace"),
            "ENTERED_PACKAGE": str(checkout / "src" / "m365watch"),
        }

    def begin(self) -> None:
        """The next turn lasts from now on."""
        self._number += 1
        self._byte[0] = self._number

    def end(self) -> None:
        """It is over as soon as nothing new is entered."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < _QUIET_S:
            if (now := (self._folder / "trace").stat().st_size) != size:
                size, since = now, time.monotonic()
            time.sleep(0.02)
        self._byte[0] = 0

    def idle(self, is_over: Callable[[], object]) -> None:
        """A turn in which nothing is asked for; after the first one there are two of them."""
        self.begin()
        _wait(is_over)
        self._byte[0] = 0

    def common(self) -> Functions:
        """What was entered in every turn after the first, which warmed up, and the two idle ones."""
        return set.intersection(*self._by_turn()[3:])

    def idling(self) -> Functions:
        """What was entered in both idle turns: what happens once a minute is no reason to leave it out."""
        return set.intersection(*self._by_turn()[1:3])

    def _by_turn(self) -> list[Functions]:
        by_turn: list[Functions] = [set() for _ in range(self._number)]
        for line in (self._folder / "trace").read_text().splitlines():
            number, file, name = line.split("\t")
            by_turn[int(number) - 1].add((file, name))
        return by_turn


def measure(checkout: Path, *, turns: int = _TURNS, python: Path | None = None) -> dict[str, int]:
    """The figures of one checkout: functions and files for a record, an alert and a page."""
    checkout = checkout.resolve()
    entered: dict[str, Functions] = {}
    own = checkout / ".venv" / "bin" / "python"
    interpreter = str(python or (own if own.exists() else sys.executable))
    with tempfile.TemporaryDirectory(prefix="m365watch-entered-") as name:
        folders = {kind: Path(name) / kind for kind in ("record", "alert", "page")}
        for kind, folder in folders.items():
            folder.mkdir()
            entered[kind] = (
                _pages(interpreter, checkout, folder, turns=turns)
                if kind == "page"
                else _records(interpreter, checkout, folder, turns=turns, alerts=kind == "alert")
            )
    entered["alert"] -= entered["record"]
    figures: dict[str, int] = {}
    for kind, functions in entered.items():
        figures[f"functions entered for one {kind}"] = len(functions)
        figures[f"files entered for one {kind}"] = len({file for file, _ in functions})
    if path := os.environ.get("ENTERED_LIST"):
        Path(path).write_text(json.dumps({kind: sorted(some) for kind, some in entered.items()}, indent=1))
    return figures


def _records(interpreter: str, checkout: Path, folder: Path, *, turns: int, alerts: bool) -> Functions:
    """Record after record, each with an alert or none."""
    state = Turns(folder)
    service = Service(state.begin)
    _configure(folder, service.url, alerts=alerts)

    def idle() -> None:
        listed = service.listed
        state.idle(lambda: service.listed > listed + 1)

    def deliver() -> None:
        commits, notified = _commits(folder), service.notified
        service.offer("MeasuredOperation")
        _wait(lambda: _commits(folder) > commits and service.notified >= notified + alerts)
        state.end()

    try:
        with _running(interpreter, checkout, folder, state, "run"):
            _wait(lambda: service.listed > _FIRST_LISTINGS)
            for work in (deliver, idle, idle, *[deliver] * turns):
                work()
    finally:
        service.close()
    return state.common() - (state.idling() if alerts else set())


def _pages(interpreter: str, checkout: Path, folder: Path, *, turns: int) -> Functions:
    """The Overview over one range after another, of a lake with a record and an alert."""
    _records(interpreter, checkout, folder, turns=1, alerts=True)
    (folder / "trace").unlink()
    state = Turns(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"http://{address}"

    def idle() -> None:
        began = time.monotonic()
        state.idle(lambda: time.monotonic() > began + _POLL_S)

    def look(path: str) -> None:
        state.begin()
        for panel in re.findall(r'hx-get="(/panel/[^"]+)"', _get(url, path)):
            _get(url, unescape(panel))
        state.end()

    with _running(interpreter, checkout, folder, state, "board", "--listen", address):
        _wait(lambda: _answers(url))
        look(_PAGE)
        idle()
        idle()
        for path in sorted(set(re.findall(rf'href="({_PAGE}\?[^"]+)"', _get(url, _PAGE))))[:turns]:
            look(unescape(path))
    return state.common() - state.idling()


def _configure(folder: Path, url: str, *, alerts: bool) -> None:
    """A lake, one feed, and rules if there are to be alerts."""
    credentials = {"tenant_id": _TENANT, "client_id": _APPLICATION, "client_secret": "made~up"}
    services = {"general_audit": {"request_period_in_seconds": _POLL_S}}
    cloud = {"login_url": url, "management_url": url}
    target = {"type": "webhook", "webhook_url": f"{url}/told", "rate_limit_per_minute": 6_000}
    detections: dict[str, Any] = {"enabled": alerts}
    if alerts:
        detections |= {"packs": [], "rules_directories": "rules", "notifications": {"told": target}}
    document = {
        "globals": {"watch_configuration": False},
        "inputs": {"office365": {"credentials": credentials, "cloud": cloud, "services": services}},
        "outputs": {"lake": {"type": "lake"}},
        "detections": detections,
    }
    (folder / "rules").mkdir()
    (folder / "rules" / "measured.yml").write_text(_RULE)
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "config.json").chmod(0o600)


@contextmanager
def _running(
    interpreter: str, checkout: Path, folder: Path, state: Turns, command: str, *words: str
) -> Iterator[None]:
    """The product, until the block ends. Raises: RuntimeError: it ended before."""
    arguments = [interpreter, "-P", "-c", "from m365watch.cli.main import main; main()", command]
    with (folder / "lines").open("w") as lines:
        process = subprocess.Popen(
            [*arguments, "--config", "config.json", *words],
            cwd=folder,
            env=state.environment(checkout),
            stdout=lines,
            stderr=lines,
        )
        try:
            yield
        except TimeoutError:
            raise RuntimeError(f"{command}: {(folder / 'lines').read_text()}") from None
        finally:
            process.terminate()
            process.wait()


def _wait(is_so: Callable[[], object]) -> None:
    """Raises: TimeoutError."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > _PATIENCE_S:
            raise TimeoutError
        time.sleep(0.01)


def _commits(folder: Path) -> int:
    """How many commits the table of records has: those of the collector's own notices come when they like."""
    logs = folder.glob("lake/**/_delta_log/*.json")
    return sum("collectors_out" not in path.parts for path in logs)


def _answers(url: str) -> bool:
    try:
        return bool(_get(url, _PAGE))
    except OSError:
        return False


def _get(url: str, path: str) -> str:
    with urlopen(url + path, timeout=_PATIENCE_S) as answer:
        return str(answer.read().decode())


def _token(audience: str) -> str:
    """Signed by nobody: the collector looks into it and leaves its proof to Microsoft."""
    now = int(time.time())
    claims = {"aud": audience, "tid": _TENANT, "appid": _APPLICATION, "roles": ["ActivityFeed.Read"]}
    parts: tuple[dict[str, Any], ...] = (
        {"alg": "none", "typ": "JWT"},
        claims | {"iat": now, "exp": now + 3600},
    )
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        + "."
    )


def main(arguments: Iterable[str] | None = None) -> int:
    """0; of each checkout the figures."""
    parser = argparse.ArgumentParser(
        prog="./dev entered",
        description="Counts the functions that one record, one alert and one page enter: 3 minutes.",
    )
    parser.add_argument("checkouts", nargs="*", type=Path, metavar="CHECKOUT", help="left out: this one")
    parser.add_argument("--python", type=Path, help="left out: a checkout's own .venv, or else this one's")
    parser.add_argument("--turns", type=int, default=_TURNS, help="so many times each, after a first one")
    options = parser.parse_args(None if arguments is None else list(arguments))
    from rich.console import Console

    columns = [
        (path.resolve().name, measure(path, turns=options.turns, python=options.python))
        for path in options.checkouts or [_ROOT]
    ]
    show(columns, Console(width=120))
    return 0


if __name__ == "__main__":
    sys.exit(main())
