"""A second service that speaks the API's contract, and shares nothing with the simulator.

Source: api-contract 1.3, 1.4, 2.1, 2.3 to 2.5 and 3.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qsl, unquote, urlsplit

from emulator.content import CONTENT_TYPES, Blob, Form, Store
from emulator.faults import Fault, Faults

TENANT = "b7d3c1a0-1111-4222-8333-944455566677"
CLIENT = "0e0e0e0e-aaaa-4bbb-8ccc-dddddddddddd"
SECRET = "p+w/d=&%~ with blanks"
_PAGE = 3
_CALLS_PER_TOKEN = 90
_HTML = b"<!DOCTYPE html><html><body><h1>Server Error</h1></body></html>"
_FEED = re.compile(r"/api/v1(?:\.0)?/([^/]+)/activity/feed/(.+)")
_STATUS = {
    "AF20001": 400,
    "AF20010": 400,
    "AF20022": 400,
    "AF20024": 400,
    "AF20031": 400,
    "AF20050": 404,
    "AF20055": 400,
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How this service differs from others of its kind."""

    token_path: str
    """The only token endpoint it has, below the tenant."""
    next_page_header: str
    newest_first: bool
    api_version: str
    """The version in the addresses that it names."""


OLD = Manner("oauth2/token", "nextpageuri", newest_first=False, api_version="v1")
NEW = Manner("oauth2/v2.0/token", "NEXTPAGEURI", newest_first=True, api_version="v1.0")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer before it is put on the wire."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Form = Form.PLAIN
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes


class Emulator:
    """One tenant's service; answers requests of any number of threads."""

    def __init__(self, store: Store, manner: Manner, *, now: Callable[[], datetime]) -> None:
        """It starts with one subscription that names no status and one that is disabled."""
        self.url = ""
        self.released = False
        """Whether the late blobs have come out."""
        self.odd: list[str] = []
        """Requests that break a rule of the contract."""
        self.faults = Faults()
        self._store = store
        self._manner = manner
        self._now = now
        self._lock = Lock()
        self._enabled = {CONTENT_TYPES[0]}
        self._token = ""
        self._token_calls = 0
        self._cuts: dict[str, Blob] = {}

    def answer(self, asked: Asked) -> Answer:
        """The answer to any request."""
        if asked.headers.get("host", "") != urlsplit(self.url).netloc:
            self.odd.append(f"to host {asked.headers.get('host')}")
        found = _FEED.fullmatch(asked.path)
        if found is None:
            return self._answer_token(asked)
        if not asked.query.get("publisheridentifier"):
            self.odd.append(f"without publisher: {asked.path}")
        with self._lock:
            if not self._admits(asked):
                return _denied()
        if found[1] != TENANT:
            return _refused("AF20010")
        return self._answer_call(unquote(found[2]), asked)

    def _admits(self, asked: Asked) -> bool:
        """Whether the token is good; each serves some calls and is then refused."""
        self._token_calls += 1
        if self._token_calls > _CALLS_PER_TOKEN:
            self._token = ""
        return bool(self._token) and asked.headers.get("authorization") == f"Bearer {self._token}"

    def _answer_token(self, asked: Asked) -> Answer:
        if asked.method != "POST" or asked.path != f"/{TENANT}/{self._manner.token_path}":
            return Answer(404, _HTML, {"Content-Type": "text/html"})
        form = dict(parse_qsl(asked.body.decode()))
        wanted = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET}
        is_old = self._manner is OLD
        wanted |= {"resource": self.url} if is_old else {"scope": f"{self.url}/.default"}
        if any(form.get(name) != value for name, value in wanted.items()):
            return _json({"error": "invalid_client", "error_codes": [7000215]}, status=401)
        with self._lock:
            self._token, self._token_calls = secrets.token_urlsafe(40), 0
            life: object = "3599" if is_old else 3599
            return _json({"token_type": "Bearer", "expires_in": life, "access_token": self._token})

    def _answer_call(self, call: str, asked: Asked) -> Answer:
        if call == "subscriptions/list":
            rest = [{"contentType": name, "status": "enabled", "webhook": None} for name in self._started()]
            disabled = {"contentType": CONTENT_TYPES[1], "status": "disabled", "webhook": None}
            return _json([{"contentType": CONTENT_TYPES[0], "webhook": None}, disabled, *rest])
        if call == "subscriptions/start" and asked.method == "POST":
            return self._start(asked.query.get("contenttype", ""))
        if call == "subscriptions/content":
            return self._list(asked)
        if call.startswith("audit/"):
            return self._fetch(call.removeprefix("audit/"))
        return Answer(404, _HTML, {"Content-Type": "text/html"})

    def _started(self) -> list[str]:
        return sorted(self._enabled - {CONTENT_TYPES[0]})

    def _start(self, content_type: str) -> Answer:
        if content_type in self._enabled:
            return _refused("AF20024")
        self._enabled.add(content_type)
        return _json({"contentType": content_type, "status": "enabled", "webhook": None})

    def _list(self, asked: Asked) -> Answer:
        content_type = asked.query.get("contenttype", "")
        if content_type not in self._enabled:
            return _refused("AF20022")
        page = int(asked.query.get("nextpage", "p0").removeprefix("p"))
        fault = self.faults.of_listing(content_type, is_first_page=page == 0)
        if fault is not None:
            return _spoilt(fault, _json([]))
        window = self._window(asked.query)
        if window is None:
            return _refused("AF20055")
        blobs = self._blobs_in(content_type, *window)
        headers = {}
        if (page + 1) * _PAGE < len(blobs):
            query = f"contenttype={content_type}&endtime={_long(window[1])}&starttime={_long(window[0])}"
            address = f"{self._feed_url()}/subscriptions/content?{query}&nextpage=p{page + 1}"
            headers[self._manner.next_page_header] = address
        # Each page begins with the last blob of the one before.
        listed = blobs[max(0, page * _PAGE - 1) : (page + 1) * _PAGE]
        return _json([self._listed(blob) for blob in listed], headers=headers)

    def _feed_url(self) -> str:
        return f"{self.url}/api/{self._manner.api_version}/{TENANT}/activity/feed"

    def _window(self, query: Mapping[str, str]) -> tuple[datetime, datetime] | None:
        try:
            start, end = (_instant(query[name]) for name in ("starttime", "endtime"))
        except (KeyError, ValueError):
            return None
        oldest = self._now() - timedelta(days=7)
        if not start < end <= start + timedelta(hours=24) or start < oldest:
            return None
        return start, end

    def _blobs_in(self, content_type: str, start: datetime, end: datetime) -> list[Blob]:
        found = []
        for blob in self._store.blobs:
            if blob.content_type != content_type or (blob.late and not self.released):
                continue
            seen = blob if blob.created_at >= start else blob.rest(start)
            if seen is not None and start <= seen.created_at < end:
                found.append(seen)
                self._cuts[seen.content_id] = seen
        return sorted(found, key=lambda blob: blob.created_at, reverse=self._manner.newest_first)

    def _listed(self, blob: Blob) -> dict[str, str]:
        return {
            "contentCreated": blob.created,
            "contentUri": f"http://localhost/{CLIENT}/activity/feed/audit/{blob.content_id}",
            "contentExpiration": f"{blob.created_at + timedelta(days=20):%Y-%m-%dT%H:%M:%S}Z",
            "contentId": blob.content_id,
            "contentType": blob.content_type.upper(),
        }

    def _fetch(self, content_id: str) -> Answer:
        blob = self._cuts.get(content_id)
        if blob is None:
            return _refused("AF20050")
        right = Answer(200, blob.packed(), _headers_of(blob.form), blob.form)
        fault = self.faults.of_blob(content_id)
        return right if fault is None else _spoilt(fault, right)


def _headers_of(form: Form) -> dict[str, str]:
    headers = {"content-TYPE": "application/json; charset=utf-8", "Server": "Emulated"}
    if form is Form.GZIP:
        headers["content-encoding"] = "GZIP"
    if form is Form.IDENTITY:
        headers["Content-Encoding"] = "identity"
    if form is Form.OCTETS:
        headers["content-TYPE"] = "application/octet-stream"
    return headers


def _spoilt(fault: Fault, right: Answer) -> Answer:
    match fault:
        case Fault.PAGE_500:
            return Answer(500, _HTML, {"Content-Type": "text/html"})
        case Fault.THROTTLED_403 | Fault.THROTTLED_429:
            return _refused("AF429", status=403 if fault is Fault.THROTTLED_403 else 429)
        case Fault.DENIED:
            return _denied()
        case Fault.PAGE_TOKEN:
            return _refused("AF20031")
        case _:
            return Answer(right.status, right.body, right.headers, Form.PLAIN, fault)


def _denied() -> Answer:
    return _json({"Message": "Authorization has been denied for this request."}, status=401)


def _refused(code: str, *, status: int | None = None) -> Answer:
    error = {"error": {"code": code, "message": f"{code} is what this service says."}}
    return _json(error, status=status or _STATUS[code])


def _json(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(document).encode()
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})})


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z")[:26]).replace(tzinfo=UTC)


def _long(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S.%f}0Z"


@contextmanager
def emulator_running(store: Store, manner: Manner, *, now: Callable[[], datetime]) -> Iterator[Emulator]:
    """The service, answering on a port of its own until the block ends."""
    emulator = Emulator(store, manner, now=now)

    class Conversation(_Conversation):
        service = emulator

    with ThreadingHTTPServer(("127.0.0.1", 0), Conversation) as server:
        server.daemon_threads = True
        emulator.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield emulator
        finally:
            server.shutdown()
            thread.join()


class _Conversation(BaseHTTPRequestHandler):
    """One connection."""

    service: Emulator
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self) -> None:
        self._converse()

    def do_POST(self) -> None:
        self._converse()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Keep quiet."""

    def _converse(self) -> None:
        path, _, query = self.path.partition("?")
        asked = Asked(
            method=self.command,
            path=path,
            query={name.lower(): value for name, value in parse_qsl(query)},
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        answer = self.service.answer(asked)
        time.sleep(0.001 * (len(answer.body) % 7))
        if answer.fault is Fault.CLOSED:
            self.close_connection = True
            return
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.form is Form.CHUNKED:
            self._send_chunked(answer.body)
            return
        is_cut = answer.fault is Fault.CUT
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if is_cut else answer.body)
        self.close_connection = self.close_connection or is_cut

    def _send_chunked(self, body: bytes) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(body), 701):
            piece = body[start : start + 701]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
