"""A board in a process of its own, and a browser's session with it. Nothing here imports the product."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

from patience import PATIENCE_S

from served_board import OWN_PAGE, PASSWORD, TYPED


@dataclass(frozen=True)
class Reply:
    """An answer of the board."""

    status: int
    text: str

    @property
    def document(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.text)
        return found


@dataclass
class Session:
    """Somebody's session: cookies, the page's token, and every answer that came."""

    port: int
    address: str = "127.0.0.1"
    """Where it comes from."""
    cookies: dict[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    token: str = ""

    def ask(self, method: str, path: str, body: str = "", headers: Mapping[str, str] | None = None) -> Reply:
        given = dict(headers or OWN_PAGE)
        if self.cookies:
            given["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = HTTPConnection(
            "127.0.0.1", self.port, timeout=PATIENCE_S, source_address=(self.address, 0)
        )
        try:
            connection.request(method, path, body.encode() or None, given)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, kept = value.partition(";")[0].partition("=")
                self.cookies[key] = kept
        self.answers.append(text)
        return Reply(answer.status, text)

    def post(self, path: str, document: object) -> Reply:
        """A request as a page of the board sends it."""
        headers = OWN_PAGE | {"content-type": "application/json", "x-csrf-token": self.token}
        return self.ask("POST", path, json.dumps(document), headers)

    def take_token(self) -> None:
        """Load a page, which has the token in it."""
        shown = self.ask("GET", "/overview", headers=TYPED).text
        found = re.search(r'name="csrf-token" content="([0-9a-f]+)"', shown)
        assert found, shown
        self.token = found[1]

    def base(self) -> str:
        """Names the text of the file that the page shows."""
        shown = self.ask("GET", "/panel/collectors/inputs").text
        found = re.search(r'data-base="([0-9a-f]{32})"', shown)
        assert found, shown
        return found[1]


def signed_in(port: int, name: str, *, address: str = "127.0.0.1") -> Session:
    """The session of somebody whom `add_user` has added."""
    session = Session(port, address)
    shown = session.ask("GET", "/sign-in", headers=TYPED).text
    found = re.search(r'name="token" value="([0-9a-f]+)"', shown)
    assert found, shown
    fields = {"name": name, "password": PASSWORD, "next": "/", "token": found[1]}
    form = OWN_PAGE | {"content-type": "application/x-www-form-urlencoded"}
    reply = session.ask("POST", "/sign-in", urlencode(fields), form)
    assert reply.status == 303, reply
    return session


@dataclass
class Listener:
    """A server that keeps whatever reaches it."""

    port: int
    heard: list[str] = field(default_factory=list)
    """Requests."""
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def listening() -> Iterator[Listener]:
    """Somebody's HTTP server on loopback, which grants a token to whoever asks for one."""
    it = Listener(0)

    class Handler(BaseHTTPRequestHandler):
        def setup(self) -> None:
            it.connections += 1
            super().setup()

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length).decode(errors="replace")
            it.heard.append(f"{self.requestline}\n{self.headers}\n{body}")
            answer = b'{"access_token": "granted", "expires_in": 3600, "token_type": "Bearer"}'
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_CONNECT = do_HEAD = do_POST  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield it
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
