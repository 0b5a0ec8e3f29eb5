"""Who has seen and done what: noted of every request that shows or changes something, before its answer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m365watch.board.access import Access
from m365watch.board.journal import TrailJournal
from m365watch.board.security import ACCESS, SIGN_IN
from m365watch.clock import Clock
from m365watch.lake.trail import Deed

SHIP_EVERY_S = 60.0
TEXT_MAX = 500
AGAIN_S = 900.0
"""What a page loads belongs to the look at it; after so long it is another look."""
REFUSED_AGAIN_S = 60.0
REMEMBERED_MAX = 4_000
_SAYS = "m365watch.says"
_NAME = "m365watch.name"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NOTHING = frozenset({"/", "/healthz", "/readyz", "/metrics", "/live", "/narrow", "/favicon.ico"})
_CHANGES_NOTHING = frozenset({"/collectors/review"})
"""What is sent with a body, again and again while somebody types, and only looked at."""
_REFUSALS = frozenset({401, 403, 421, 429})
_LOOKS = frozenset({"view", "api"})
_log = structlog.get_logger(__name__)


class Trail(Protocol):
    """Where deeds are noted."""

    async def note(self, deed: Deed) -> None:
        """Return when it is durable."""
        ...


def tell(scope: Scope, says: str, *, name: str = "") -> None:
    """What the trail says of the request beside its address; `name` where nobody has signed in yet."""
    scope[_SAYS] = says
    if name:
        scope[_NAME] = name


class KeptTrail:
    """The trail of one board."""

    def __init__(self, journal: TrailJournal, *, clock: Clock) -> None:
        """Nothing is noted yet."""
        self._journal = journal
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="board-trail")
        self._complaint = ""

    async def note(self, deed: Deed) -> None:
        """Return when it is durable; where nothing can be written down, that is complained of."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.append, [deed])
            self._complaint = ""
        except OSError as error:
            if (why := error.strerror or "unknown") != self._complaint:
                self._complaint = why
                _log.error(f"board: the trail cannot be written: {why}; nobody is written down")

    async def run(self) -> None:
        """Bring it to the lake, again and again."""
        while True:
            await self._clock.sleep(SHIP_EVERY_S)
            await asyncio.get_running_loop().run_in_executor(self._thread, self._ship)

    def close(self) -> None:
        """Bring the rest to the lake, and let go."""
        self._thread.submit(self._ship)
        self._thread.shutdown()
        self._journal.close()

    def _ship(self) -> None:
        try:
            self._journal.ship()
        except OSError as error:
            _log.warning(f"board: the trail waits: {error.strerror or 'unknown'}")


class Noted:
    """The application, with a line on the trail for whatever it shows or changes."""

    def __init__(self, app: ASGIApp, *, trail: Trail, clock: Clock) -> None:
        """It stands around what tells who asks, so that refusals are noted as well."""
        self._app = app
        self._trail = trail
        self._clock = clock
        self._lately: OrderedDict[tuple[str, ...], float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, once it is noted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_noted(sent: Message) -> None:
            if sent["type"] == "http.response.start":
                await self._note(scope, sent["status"])
            await send(sent)

        await self._app(scope, receive, send_noted)

    async def _note(self, scope: Scope, status: int) -> None:
        access: Access | None = scope.get(ACCESS)
        action = action_of(scope["method"], scope["path"], status, is_known=access is not None)
        query = scope["query_string"].decode("latin-1")[:TEXT_MAX]
        if scope["path"].startswith(f"{SIGN_IN}/"):
            query = ""  # a code is in it
        name = access.name if access else scope.get(_NAME, "")
        address = (scope.get("client") or ("", 0))[0]
        if not action or self._is_told(action, scope["path"], query, name or address):
            return
        deed = Deed(
            number=0,
            time=self._clock.now(),
            name=name,
            role=access.role.name.lower() if access else "",
            address=address,
            session=access.session if access else "",
            action=action,
            status=status,
            path=scope["path"][:TEXT_MAX],
            query=query,
            says=str(scope.get(_SAYS, ""))[:TEXT_MAX],
        )
        await self._trail.note(deed)

    def _is_told(self, action: str, path: str, query: str, who: str) -> bool:
        """Whether it is a part of what was noted a moment ago; what is not, is remembered."""
        is_panel = path.startswith("/panel/")
        if action not in _LOOKS and action != "refused":
            return False
        place = f"/{path.split('/')[2]}" if is_panel else path
        asked = "&".join(sorted(query.split("&"))) if action in _LOOKS else ""
        key = (action, place, asked, who)
        now_s = self._clock.now().timestamp()
        told_s = self._lately.get(key)
        lasts_s = AGAIN_S if is_panel else REFUSED_AGAIN_S if action == "refused" else 0.0
        if told_s is not None and now_s - told_s < lasts_s:
            return True
        self._lately[key] = now_s
        self._lately.move_to_end(key)
        while len(self._lately) > REMEMBERED_MAX:
            self._lately.popitem(last=False)
        return False


def action_of(method: str, path: str, status: int, *, is_known: bool) -> str:
    """What a request is on the trail; empty for what is no deed."""
    if path in _NOTHING or path.startswith("/static/"):
        return ""
    if not is_known and path != SIGN_IN and not path.startswith(f"{SIGN_IN}/"):
        return ""  # strangers learn nothing, and do not fill the trail
    if status in _REFUSALS:
        return "refused"
    if path.startswith(SIGN_IN):
        is_in = method == "POST" or path.endswith("/back")
        return "sign_in" if status == HTTPStatus.SEE_OTHER and is_in else ""
    if path in _CHANGES_NOTHING:
        return ""
    if method not in _SAFE:
        return "sign_out" if path == "/sign-out" else "change"
    if path.startswith("/api/v1/export/"):
        return "export"
    parts = path.split("/")
    return {"export": "export", "api": "api"}.get(parts[1], "view")
