"""Who has seen and done what: noted of every request that shows or changes something, before its answer."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m365watch.board.access.api_tokens import is_of_the_api
from m365watch.board.access.audit_journal import TrailJournal
from m365watch.board.access.fetch_metadata import SAFE_METHODS, SIGN_IN, is_of_sign_in
from m365watch.board.access.roles import Access
from m365watch.board.api.problem_details import TRAIL_CLOSED, problem_answer
from m365watch.board.app.security_middleware import ACCESS
from m365watch.board.query.time_range import PRESET
from m365watch.common.clock import Clock
from m365watch.common.error_boundary import GoingOn
from m365watch.common.worker_thread import OwnThread
from m365watch.lake.audit_trail_table import Deed
from m365watch.storage.database import DatabaseError

SHIP_EVERY_S = 60.0
URL_MAX = 65_535
"""The server answers no longer one, so that what was asked for stands on the trail whole."""
QUERY_MAX = 3 * URL_MAX
"""Bytes that no browser sends are escaped."""
PATH_MAX = 500
"""More than any path has that leads somewhere."""
SAYS_MAX = 20_000
"""As many alerts as one request changes, each by its whole id."""
AGAIN_S = 900.0
"""What a page loads belongs to the look at it; after so long it is another look."""
REFUSED_AGAIN_S = 60.0
REMEMBERED_MAX = 4_000
_SAYS = "m365watch.says"
_WHO = "m365watch.who"
_NOTHING = frozenset({"/", "/healthz", "/readyz", "/metrics", "/live", "/narrow", "/favicon.ico"})
_TYPED = frozenset({"/search/complete", "/values", "/search/saved"})
"""What a page asks by itself while somebody types, or beside what they look at; a refusal of it is noted."""
_PLACES = frozenset({"before", "shown"})
"""Where a further part of a search begins: it is the same search."""
_CHANGES_NOTHING = {"/collectors/review": "", "/collectors/try": "try"}
"""What is sent with a body and changes nothing: a text while somebody types it, and a preflight."""
_ASKED_BY_POST = frozenset(
    {"/panel/sql/answer", "/export/sql/answer.csv", "/export/sql/answer.ndjson", "/api/v1/sql/answer"}
)
"""What has its question in a body, and changes nothing: SQL."""
_REFUSALS = frozenset({401, 403, 421, 429})
_LOOKS = frozenset({"view", "api"})
CLOSED = "nothing is changed or taken along until it can be; looks go on, and nobody is written down"
_log = structlog.get_logger(__name__)


class Trail(Protocol):
    """Where deeds are noted."""

    async def note(self, deed: Deed) -> bool:
        """Return when it is durable; whether it is."""
        ...

    async def trouble(self) -> str:
        """Why a deed could not be written down now; empty where it could."""
        ...


def tell(scope: Scope, says: str, *, who: Access | None = None) -> None:
    """What the trail says of the request beside its address; `who` it is where nobody has signed in yet."""
    scope[_SAYS] = says
    if who is not None:
        scope[_WHO] = who


class KeptTrail:
    """The trail of one board."""

    def __init__(self, journal: TrailJournal, *, clock: Clock) -> None:
        """Nothing is noted yet."""
        self._journal = journal
        self._clock = clock
        self._thread = OwnThread("board-trail")
        self._shipper = OwnThread("board-trail-lake")
        self._complaint = ""
        self._going_on = GoingOn("board")

    @property
    def complaint(self) -> str:
        """Why the last deed was not written down; empty where it was."""
        return self._complaint

    @property
    def loss(self) -> str:
        """Which lines had to go before a lake took them; empty for none."""
        return self._journal.loss

    async def note(self, deed: Deed) -> bool:
        """Return when it is durable; where nothing can be written down, that is complained of."""
        return not await self._try(partial(self._journal.append, [deed]))

    async def trouble(self) -> str:
        """Why a deed could not be written down now; empty where it could."""
        return await self._try(self._journal.try_write)

    async def _try(self, write: Callable[[], None]) -> str:
        try:
            await self._thread(write)
            self._complaint = ""
        except DatabaseError as error:
            if (why := str(error)) != self._complaint:
                self._complaint = why
                _log.error(f"board: the trail cannot be written: {why}; {CLOSED}")
        return self._complaint

    async def run(self) -> None:
        """Bring it to the lake, again and again."""
        while True:
            await self._clock.sleep(SHIP_EVERY_S)
            await self._shipper(self._ship)

    def close(self) -> None:
        """Bring the rest to the lake, and let go."""
        self._thread.close()
        self._shipper.begin(self._ship)
        self._shipper.close()
        self._journal.close()

    def _ship(self) -> None:
        with self._going_on("trail"):
            try:
                self._journal.ship()
            except DatabaseError as error:
                _log.warning(f"board: the trail waits: {error}")


class NoTrail:
    """A trail that could not be opened: nothing is noted, and nothing changed or taken along."""

    def __init__(self, why: str) -> None:
        """`why` it could not."""
        self.complaint = why
        self.loss = ""

    async def note(self, deed: Deed) -> bool:  # noqa: ARG002 - the port's signature
        """It is not."""
        return False

    async def trouble(self) -> str:
        """Why."""
        return self.complaint


class _Look(NamedTuple):
    """A look, or a refusal, that stands for others for a while."""

    key: tuple[str, ...]
    lasts_s: float


class Noted:
    """The application, with a line on the trail for whatever it shows or changes."""

    def __init__(
        self, app: ASGIApp, *, trail: Trail, clock: Clock, takes_along: Callable[[str], bool]
    ) -> None:
        """It stands around what tells who asks, so that refusals are noted as well.

        `takes_along` says of a path of the API whether it is an export.
        """
        self._app = app
        self._takes_along = takes_along
        self._trail = trail
        self._clock = clock
        self._lately: OrderedDict[tuple[str, ...], float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, once it is noted."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        is_closed = False

        async def send_noted(sent: Message) -> None:
            nonlocal is_closed
            if sent["type"] == "http.response.start":
                is_closed = not await self._note(scope, sent["status"])
                if is_closed:
                    await _unnoted(scope, await self._trail.trouble() or "the disk takes nothing")(
                        scope, receive, send
                    )
            if not is_closed:
                await send(sent)

        await self._app(scope, receive, send_noted)

    async def _note(self, scope: Scope, status: int) -> bool:
        """Whether it may be answered: an export that could not be noted may not."""
        access: Access | None = scope.get(ACCESS)
        is_export = self._takes_along(scope["path"])
        action = action_of(
            scope["method"], scope["path"], status, is_known=access is not None, is_export=is_export
        )
        query = scope["query_string"].decode("latin-1")[:QUERY_MAX]
        if scope["path"].startswith(f"{SIGN_IN}/"):
            query = ""  # a code is in it
        who: Access | None = access or scope.get(_WHO)
        name = who.name if who else ""
        address = (scope.get("client") or ("", 0))[0]
        session = access.session if access else ""
        look = _look_of(action, scope["path"], query, (name, address, session))
        if not action or self._is_told(look):
            return True
        deed = Deed(
            number=0,
            time=self._clock.now(),
            name=name,
            role=who.role.name.lower() if who and (access or action == "sign_in") else "",
            address=address,
            session=session,
            action=action,
            status=status,
            path=scope["path"][:PATH_MAX],
            query=query,
            says=str(scope.get(_SAYS, ""))[:SAYS_MAX],
        )
        is_noted = await self._trail.note(deed)
        if not is_noted and look is not None:
            self._lately.pop(look.key, None)  # the next one is told
        return is_noted or action != "export"

    def _is_told(self, look: _Look | None) -> bool:
        """Whether it is a part of what was noted a moment ago; what is not, is remembered."""
        if look is None:
            return False
        now_s = self._clock.now().timestamp()
        told_s = self._lately.get(look.key)
        if told_s is not None and now_s - told_s < look.lasts_s:
            return True
        self._lately[look.key] = now_s
        self._lately.move_to_end(look.key)
        while len(self._lately) > REMEMBERED_MAX:
            self._lately.popitem(last=False)
        return False


def _look_of(action: str, path: str, query: str, who: tuple[str, ...]) -> _Look | None:
    """What stands for others of its kind on the trail; None for a deed that stands for itself."""
    if action not in _LOOKS and action != "refused":
        return None
    place = _page_of(path)
    if action == "refused":
        return _Look((action, place, *who), REFUSED_AGAIN_S)
    # Of thousands of long ones a few bytes each are remembered.
    asked = hashlib.blake2b(_asked(query).encode(), digest_size=16).hexdigest()
    return _Look((action, place, asked, *who), AGAIN_S if place != path else 0.0)


def _page_of(path: str) -> str:
    """The page that a panel, or a further part of a search, is loaded by; any other path is its own."""
    if path.startswith("/panel/"):
        return f"/{path.split('/')[2]}"
    return "/search" if path == "/search/part" else path


def _asked(query: str) -> str:
    """What a URL asks for, however it is written, and whether it names the usual time or not."""
    pairs = parse_qsl(query, keep_blank_values=True, errors="replace")
    return urlencode(sorted(one for one in pairs if one != ("range", PRESET) and one[0] not in _PLACES))


class OnlyNoted:
    """The application behind what tells who asks: no change, try or export without a line on the trail.

    Looks go on: whoever hunts an intruder must not be blind because a disk is full.
    """

    def __init__(self, app: ASGIApp, *, trail: Trail, takes_along: Callable[[str], bool]) -> None:
        """Where it is not possible to write down what somebody does, it is not done."""
        self._app = app
        self._takes_along = takes_along
        self._trail = trail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 503."""
        if scope["type"] != "http" or scope.get(ACCESS) is None or not self._is_closed_by_it(scope):
            await self._app(scope, receive, send)
        elif why := await self._trail.trouble():
            await _unnoted(scope, why)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_closed_by_it(self, scope: Scope) -> bool:
        is_export = self._takes_along(scope["path"])
        action = action_of(scope["method"], scope["path"], HTTPStatus.OK, is_known=True, is_export=is_export)
        return action in {"change", "export", "try"}


def _unnoted(scope: Scope, why: str) -> Response:
    says = f"it cannot be written down who does this: {why}"
    fix = "make room, or give the board the right to write, in its state directory; then try again"
    if is_of_the_api(scope["path"]):
        return problem_answer(TRAIL_CLOSED, says, fix=fix)
    return PlainTextResponse(f"{says[:1].upper()}{says[1:]}. {fix[:1].upper()}{fix[1:]}.\n", status_code=503)


def action_of(method: str, path: str, status: int, *, is_known: bool, is_export: bool = False) -> str:
    """What a request is on the trail; empty for what is no deed. `is_export`: the API takes along by it."""
    if _is_no_deed(path, is_known=is_known):
        return ""
    if status in _REFUSALS:
        return "refused"
    if is_of_sign_in(path):
        is_in = method == "POST" or path.endswith("/back")
        return "sign_in" if status == HTTPStatus.SEE_OTHER and is_in else ""
    if path in _CHANGES_NOTHING:
        return _CHANGES_NOTHING[path]
    if path in _TYPED and method in SAFE_METHODS:
        return ""
    if method not in SAFE_METHODS and path not in _ASKED_BY_POST:
        return "sign_out" if path == "/sign-out" else "change"
    if is_export:
        return "export"
    parts = path.split("/")
    return {"export": "export", "api": "api"}.get(parts[1], "view")


def _is_no_deed(path: str, *, is_known: bool) -> bool:
    if path in _NOTHING or path.startswith("/static/"):
        return True
    # Strangers learn nothing, and do not fill the trail.
    return not is_known and not is_of_sign_in(path)
