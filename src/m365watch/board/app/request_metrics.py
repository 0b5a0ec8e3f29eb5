"""The board's own figures, for `/metrics`: what it is asked, how long that takes, what it asks the lake."""

from __future__ import annotations

from asyncio import CancelledError
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m365watch.board.access.api_tokens import METRICS
from m365watch.board.access.fetch_metadata import PROBED, SAFE_METHODS, is_of_sign_in
from m365watch.common.clock import Clock
from m365watch.common.errors import QueryStopped
from m365watch.health.metrics import family_lines, histogram_lines
from m365watch.pipeline.latency import Histogram

BOUND_MAX_S = 32.0
"""The last bound of a request's time: a query is stopped before."""
LEFT = "left"
"""The status of an answer that nobody waited for."""
_LEFT_STATUS = 499
_BEGINNINGS = {
    "api": "api",
    "export": "export",
    "live": "live",
    "panel": "panel",
    "values": "search",
}
"""The kind of what is asked for, by where its path begins; whatever else is looked at is a page."""


class Queries:
    """What the board asks of the lake: how much of it is not answered yet, and how the rest ended."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.running: Counter[str] = Counter({"panel": 0, "search": 0, "sql": 0})
        self.ended: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def one_more(self, kind: str) -> Iterator[None]:
        """One of that kind is asked while this is entered."""
        self.running[kind] += 1
        ended = "failed"
        try:
            yield
            ended = "answered"
        except QueryStopped:
            ended = "stopped"
            raise
        except (CancelledError, GeneratorExit):
            ended = "cancelled"
            raise
        finally:
            self.running[kind] -= 1
            self.ended[kind, ended] += 1


class Requests:
    """What was asked of the board, by kind, and how long it took."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.open: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.took: dict[str, Histogram] = {}

    def begin(self, kind: str) -> None:
        """One has come."""
        self.open[kind] += 1

    def end(self, kind: str, status: str, took_s: float) -> None:
        """One is over."""
        self.open[kind] -= 1
        self.ended[kind, status] += 1
        if kind != "live":  # it lasts for as long as its page is open
            self.took.setdefault(kind, Histogram()).add(took_s)


class Measured:
    """The application, with each request counted."""

    def __init__(self, app: ASGIApp, *, requests: Requests, clock: Clock) -> None:
        """It stands around everything else, so that refusals are counted as well."""
        self._app = app
        self._requests = requests
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count it."""
        kind = kind_of(scope) if scope["type"] == "http" else None
        if kind is None:
            await self._app(scope, receive, send)
            return
        status = LEFT

        async def send_seen(sent: Message) -> None:
            nonlocal status
            if sent["type"] == "http.response.start" and sent["status"] != _LEFT_STATUS:
                status = f"{sent['status'] // 100}xx"
            await send(sent)

        begun_s = self._clock.monotonic_s()
        self._requests.begin(kind)
        try:
            await self._app(scope, receive, send_seen)
        finally:
            self._requests.end(kind, status, self._clock.monotonic_s() - begun_s)


def kind_of(scope: Scope) -> str | None:
    """What is asked for; None for files that no answer is made for."""
    path = scope["path"]
    first, _, rest = path.removeprefix("/").partition("/")
    if first == "static":
        return None
    if path in PROBED or path == METRICS:
        return "probe"
    if is_of_sign_in(path) or path == "/sign-out":
        return "sign-in"
    if first in _BEGINNINGS:
        return _BEGINNINGS[first]
    if scope["method"] not in SAFE_METHODS:
        return "change"
    return "search" if first == "search" and rest else "page"


def figures_text(requests: Requests, queries: Queries | None, sessions: int | None) -> str:
    """Every family of them, each line ended; `sessions` only where there are any."""
    lines = [
        *family_lines(
            "board_requests_total",
            "counter",
            "Requests to the board by kind, and what became of them.",
            [({"kind": kind, "status": status}, float(n)) for (kind, status), n in requests.ended.items()],
        ),
        *family_lines(
            "board_requests_open",
            "gauge",
            "Requests that are being answered.",
            [({"kind": kind}, float(n)) for kind, n in requests.open.items()],
        ),
        *histogram_lines(
            "board_request_seconds",
            "How long the answers took.",
            [({"kind": kind}, took) for kind, took in requests.took.items()],
            bound_max_s=BOUND_MAX_S,
        ),
    ]
    if queries is not None:
        lines += family_lines(
            "board_queries_running",
            "gauge",
            "Questions to the lake that are not answered yet.",
            [({"kind": kind}, float(n)) for kind, n in queries.running.items()],
        )
        lines += family_lines(
            "board_queries_total",
            "counter",
            "Questions to the lake by how they ended: cancelled by who asked, stopped by a limit.",
            [({"kind": kind, "ended": ended}, float(n)) for (kind, ended), n in queries.ended.items()],
        )
    if sessions is not None:
        lines += family_lines("board_sessions", "gauge", "People's open sessions.", [({}, float(sessions))])
    return "".join(f"{line}\n" for line in lines)
