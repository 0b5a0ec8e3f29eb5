"""The application: routes to pages, panels and exports, and the API, all over the same loaders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from m365watch.board.access.audit_recorder import Noted, OnlyNoted, Trail
from m365watch.board.access.fetch_metadata import SIGN_IN
from m365watch.board.access.roles import Gate, Role
from m365watch.board.api.api_routes import Api, takes_along
from m365watch.board.app.alert_actions import change_states
from m365watch.board.app.exports import csv_of, refuse_unread
from m365watch.board.app.live_updates import Listeners, tell_news, tell_once, until
from m365watch.board.app.request_metrics import Measured
from m365watch.board.app.responses import bit_by_bit, client_left, while_there
from m365watch.board.app.reverse_proxy import BehindProxy
from m365watch.board.app.search_routes import SearchRoutes
from m365watch.board.app.security_middleware import TOKEN_HEADER, Guarded, Tokens, access_of
from m365watch.board.config_editor.editor_routes import Configuring
from m365watch.board.pages.page_registry import PAGES, page_named, pages_shown
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import DIMENSIONS, NEGATED, NOT, plain_name
from m365watch.board.query.display_names import Names, name_applications, name_tenants
from m365watch.board.query.filter_values import meant
from m365watch.board.query.query_context import MENTIONS, UNREAD_SHOWN_MAX, View, misread, read_view
from m365watch.board.widgets.entity_links import PATH as INVESTIGATION
from m365watch.board.widgets.template_renderer import STATIC, Templates
from m365watch.common.clock import Clock
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError
from m365watch.common.urls import split_url

_log = structlog.get_logger(__name__)
NAMES_WAIT_S = 1.0
"""A page waits no longer for what its filters are called: it shows their ids then."""
_FOR_A_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the pages are served."""

    host: str
    port: int
    address: str = ""
    """Where browsers reach it; empty: at host and port."""
    proxies: tuple[str, ...] = ()
    """Networks of the proxies that every request comes through; empty: there is none."""
    proxy_headers: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where browsers reach it, whatever the configuration says of it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.address or f"http://{host}:{self.port}"

    @property
    def is_secure(self) -> bool:
        """Whether browsers come by https."""
        return self.address.startswith("https:")

    @property
    def names(self) -> list[str]:
        """The host of `address`, as browsers name it."""
        return [split_url(self.address).netloc] if self.address else []


class Entrance(Protocol):
    """Where whoever is not known yet becomes known: people sign in, or open the board by a link."""

    @property
    def door(self) -> str:
        """The path of its page."""
        ...

    def routes(self) -> list[BaseRoute]:
        """Its pages."""
        ...


class Board:
    """The pages of one configuration."""

    def __init__(
        self,
        sources: Sources,
        *,
        gate: Gate,
        listening: Listening,
        entrance: Entrance | None = None,
        trail: Trail | None = None,
        ending: asyncio.Event | None = None,
        templates: Templates | None = None,
    ) -> None:
        """Nothing listens yet; `app` is the application.

        `entrance` is where people become known, if they do, `trail` where it is noted what they do. At
        `ending` nobody is told news any more. Boards of one process may share `templates`, which are
        compiled once.
        """
        self._ending = ending or asyncio.Event()
        self._sources = sources
        self._gate = gate
        self._templates = templates or Templates()
        self._tokens = Tokens()
        self._listeners = Listeners()
        self.app = Starlette(
            routes=[
                *(entrance.routes() if entrance else ()),
                Route("/", self._home),
                *Api(sources).routes,
                Route("/narrow", self._narrow),
                Route("/live", self._live),
                Route("/alerts/state", self._change_states, methods=["POST"]),
                *Configuring(sources, self._templates).routes(),
                Route("/panel/{page}/{panel}", self._panel),
                *SearchRoutes(
                    sources, view_of=self._view, html=self._html, show_panel=self._show_posted
                ).routes(),
                Route("/export/{page}/{panel}.csv", self._export),
                Mount(f"/static/{self._templates.version}", _Static(directory=STATIC)),
                Route("/{page}", self._page),
            ],
            middleware=[
                *_proxies_of(listening),
                Middleware(Measured, requests=sources.requests, clock=sources.clock),
                *_noted_by(trail, sources.clock),
                Middleware(
                    Guarded,
                    gate=gate,
                    tokens=self._tokens,
                    host=listening.host,
                    port=listening.port,
                    names=listening.names,
                    secure=listening.is_secure,
                    is_shell=_is_shell,
                    door=entrance.door if entrance else SIGN_IN,
                ),
                *([Middleware(OnlyNoted, trail=trail, takes_along=takes_along)] if trail else ()),
                Middleware(GZipMiddleware, minimum_size=512, compresslevel=5),
            ],
            exception_handlers={ClientDisconnect: client_left},
        )

    async def _home(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        return RedirectResponse(f"/{PAGES[0].name}", status_code=303)

    async def _page(self, request: Request) -> Response:
        view = self._view(request)
        page = page_named(request.path_params["page"])
        if page is None or not page.is_for(view.access):
            return self._nothing_here(view)
        view = _looked_at(view, page, request)
        shown = pages_shown(view.access)
        path = f"/{page.name}"
        named: Names = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(NAMES_WAIT_S):
                named = await self._names_of(view)
        places = self._sources.knows_places
        return self._html(
            "page.html", page=page, view=view, shown=shown, path=path, named=named, knows_places=places
        )

    async def _names_of(self, view: View) -> Names:
        """What the tenants and applications are called that the view is narrowed by, by their ids."""
        tenants: Names = {}
        if view.narrowing.of("tenant"):
            tenants = await name_tenants(view, self._sources)
        apps = [value for name, value in view.narrowing.pairs() if plain_name(name) == "app"]
        return {**tenants, **await name_applications(view, self._sources, apps)}

    async def _narrow(self, request: Request) -> Response:
        """What the form of the filters leads to: the page it was on, narrowed by one value more."""
        page = page_named(request.query_params.get("page", "")) or PAGES[0]
        name, value = request.query_params.get("dimension", ""), request.query_params.get("value", "").strip()
        view = self._view(request)
        path = f"/{page.name}"
        if name in MENTIONS and value:
            return RedirectResponse(view.url(INVESTIGATION, **{name: value}), status_code=303)
        if request.query_params.get("sense") == "not" and f"{NOT}{name}" in NEGATED:
            name = f"{NOT}{name}"
        if name not in {*DIMENSIONS, *NEGATED} or not value:
            return RedirectResponse(view.url(path), status_code=303)
        with suppress(CollectorError):
            value = await meant(view, self._sources, name, value)
        return RedirectResponse(view.narrowed_url(path, name, value), status_code=303)

    async def _panel(self, request: Request) -> Response:
        view, page, panel = self._asked(request)
        if page is None or panel is None:
            return PlainTextResponse("there is no such panel\n", status_code=404)
        if panel.posted:
            return Response(status_code=405, headers={"Allow": "POST"})
        return await self._load(request, view, page, panel)

    async def _load(self, request: Request, view: View, page: Page, panel: Panel) -> Response:
        """The body of a panel, or what keeps it from being shown."""
        path = f"/{page.name}"
        try:
            shape = await while_there(request, panel.load(view, self._sources))
        except CollectorError as error:
            return self._html("trouble.html", what=error.what, fix=error.fix)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - one panel's defect is no other's
            defect = defect_of(error, where=f"board panel {page.name}/{panel.name}")
            _log.error(str(defect), code=defect.code)
            return self._html("trouble.html", what=f"This panel has a defect: {defect.what}", fix=defect.fix)
        return HTMLResponse(self._templates.render_shape(shape, view=view, path=path, title=panel.title))

    async def _show_posted(self, request: Request) -> Response:
        """A panel whose request has a body, which was read."""
        view, page, panel = self._asked(request)
        if page is None or panel is None:
            return PlainTextResponse("there is no such panel\n", status_code=404)
        if not panel.posted:
            return Response(status_code=405, headers={"Allow": "GET, HEAD"})
        return await self._load(request, view, page, panel)

    async def _export(self, request: Request) -> Response:
        view, page, panel = self._asked(request)
        if page is None or panel is None or not view.access.may(Role.ANALYST):
            return PlainTextResponse("there is no such panel\n", status_code=404)
        if panel.posted:
            return Response(status_code=405, headers={"Allow": "POST"})
        if (refusal := refuse_unread(view)) is not None:
            return refusal
        try:
            shape = await while_there(request, panel.load(view, self._sources))
        except CollectorError as error:
            return PlainTextResponse(f"{error}\n", status_code=503)
        name = f"m365watch-{page.name}-{panel.name}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(csv_of(shape), media_type="text/csv; charset=utf-8", headers=headers)

    async def _change_states(self, request: Request) -> Response:
        return await change_states(request, self._view(request), self._sources)

    async def _live(self, request: Request) -> Response:
        view = self._view(request)

        async def told() -> AsyncIterator[bytes]:
            if not self._listeners.have_room(view.access):
                async for news in tell_once(view, self._sources):
                    yield news
                return
            with self._listeners.one_more(view.access):
                async for news in until(self._ending, tell_news(view, self._sources)):
                    if self._gate.access_of(request) != view.access:
                        return  # they have signed out, or may do something else by now
                    yield news

        return bit_by_bit(told(), media_type="text/event-stream")

    def _asked(self, request: Request) -> tuple[View, Page | None, Panel | None]:
        view = self._view(request)
        page = page_named(request.path_params["page"])
        if page is None or not page.is_for(view.access):
            return view, None, None
        return _looked_at(view, page, request), page, page.panel(request.path_params["panel"])

    def _view(self, request: Request) -> View:
        return read_view(request.query_params, access_of(request), now=self._sources.clock.now())

    def _nothing_here(self, view: View) -> Response:
        shown = pages_shown(view.access)
        return self._html("missing.html", status=404, page=None, view=view, shown=shown, path="/overview")

    def _html(self, template: str, *, status: int = 200, **values: Any) -> Response:
        if (view := values.get("view")) is not None:
            values |= {"token": self._tokens.token_of(view.access), "token_header": TOKEN_HEADER}
        return HTMLResponse(self._templates.render(template, **values), status_code=status)


def _looked_at(view: View, page: Page, request: Request) -> View:
    """The view on a page, with what its URL asks of that page in vain."""
    told = (*view.unread, *misread(request.query_params, page.choices))
    return replace(view, page=page.name, unread=told[:UNREAD_SHOWN_MAX])


def _is_shell(path: str) -> bool:
    """Whether it is a page, whose panels it loads by requests of its own."""
    return page_named(path.removeprefix("/")) is not None


def _proxies_of(listening: Listening) -> list[Middleware]:
    if not listening.proxies:
        return []
    return [Middleware(BehindProxy, addresses=listening.proxies, headers=listening.proxy_headers)]


def _noted_by(trail: Trail | None, clock: Clock) -> list[Middleware]:
    return [Middleware(Noted, trail=trail, clock=clock, takes_along=takes_along)] if trail else []


class _Static(StaticFiles):
    """Files that never change under their address."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = _FOR_A_YEAR
        return response
