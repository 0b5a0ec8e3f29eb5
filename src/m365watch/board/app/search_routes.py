"""The routes of the search: its further parts, completions, exports, and searches that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from m365watch.board.access.roles import Role
from m365watch.board.app.alert_actions import body_of
from m365watch.board.app.exports import csv_line, json_line, raw_lines, refuse_unread
from m365watch.board.app.form_fields import form_of
from m365watch.board.app.responses import bit_by_bit, given, said, while_there
from m365watch.board.pages.search import EXPORT_COLUMNS, export_row, find_part
from m365watch.board.pages.sql import SQL_MAX, objects_of
from m365watch.board.query.completion import complete, list_values
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.filter_values import in_records_words
from m365watch.board.query.query_context import View
from m365watch.board.query.saved_searches import NAME_MAX, OF_ONE_MAX, URL_MAX, SavedSearches, TooMany
from m365watch.common.errors import CollectorError, FilterRefused
from m365watch.detection.alerts.alert import clean_text
from m365watch.lake.search.filter_parser import read_filter
from m365watch.lake.search.record_search import Hit
from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer, text_of

SQL_BYTES_MAX = 12 * SQL_MAX + 1_000
"""What it takes in a form: up to four bytes a character, three signs a byte."""
EXPORTED_MAX = 100_000
"""Records of one export: the newest."""
_NDJSON = "application/x-ndjson"


class KeepAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What a page sends to keep its search."""

    name: str
    page: Literal["search", "sql"] = "search"
    shared: bool = False


class SearchRoutes:
    """What the page of the search asks for beside its panel."""

    def __init__(
        self,
        sources: Sources,
        *,
        view_of: Callable[[Request], View],
        html: Callable[..., Response],
        show_panel: Callable[[Request], Awaitable[Response]],
    ) -> None:
        """`view_of` says what a request is about, `html` renders a template, `show_panel` a panel."""
        self._show_panel = show_panel
        self._sources = sources
        self._view_of = view_of
        self._html = html
        self._searches = SavedSearches(sources.settings.state_directory)

    def routes(self) -> list[Route]:
        """In front of the routes of all panels."""
        return [
            Route("/search/part", self._part),
            Route("/search/complete", self._complete),
            Route("/values", self._values),
            Route("/search/saved", self._saved),
            Route("/search/saved", self._keep, methods=["POST"]),
            Route("/search/saved/{number:int}/remove", self._remove, methods=["POST"]),
            Route("/export/search/hits.csv", self._csv),
            Route("/export/search/hits.ndjson", self._ndjson),
            Route("/panel/{page}/{panel}", self._sql_panel, methods=["POST"]),
            Route("/export/sql/answer.csv", self._sql_csv, methods=["POST"]),
            Route("/export/sql/answer.ndjson", self._sql_ndjson, methods=["POST"]),
        ]

    async def _part(self, request: Request) -> Response:
        """What an older part of the lake has, as the page asks for one after the other."""
        view = self._view_of(request)
        before_s, shown = (_number(request.query_params.get(name, "")) for name in ("before", "shown"))
        try:
            part = find_part(view, self._sources, before_s=before_s, shown=shown)
            shape = await while_there(request, part)
        except CollectorError as error:
            return self._html("trouble.html", status=503, what=error.what, fix=error.fix)
        return self._html("part.html", shape=shape, view=view, path="/search")

    async def _complete(self, request: Request) -> Response:
        """What may come at the place at which somebody types."""
        view = self._view_of(request)
        at = _number(request.query_params.get("at", ""))
        try:
            found = await while_there(request, complete(view, self._sources, view.given("q"), at))
        except CollectorError as error:
            return given({"error": str(error), "code": error.code}, status=503)
        return given(found)

    async def _values(self, request: Request) -> Response:
        """Values of what a page may be narrowed by."""
        name, typed = (request.query_params.get(one, "") for one in ("dimension", "typed"))
        view = self._view_of(request)
        try:
            found = await while_there(request, list_values(view, self._sources, name, typed))
        except CollectorError as error:
            return given({"error": str(error), "code": error.code}, status=503)
        return given({"choices": found})

    async def _saved(self, request: Request) -> Response:
        view = self._view_of(request)
        try:
            found = await asyncio.to_thread(self._searches.list, view.access)
        except CollectorError as error:
            return self._html("trouble.html", what=error.what, fix=error.fix)
        return self._html("saved.html", saved=found, view=view)

    async def _keep(self, request: Request) -> Response:
        """Keep the search whose URL's query this request has."""
        view = self._view_of(request)
        try:
            asked = msgspec.json.decode(await body_of(request), type=KeepAsked)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return said(400, f"this request cannot be read: {error}")
        name = clean_text(asked.name)
        url = view.url("/sql" if asked.page == "sql" else "/search")
        if not 0 < len(name) <= NAME_MAX:
            return said(400, f"a name has 1 to {NAME_MAX} characters")
        if len(url) > URL_MAX:
            return said(400, "this search is too long to be kept")
        keep = partial(
            self._searches.keep,
            *(view.access, name, url),
            is_shared=asked.shared,
            now_s=int(view.now.timestamp()),
        )
        try:
            replaced = await asyncio.to_thread(keep)
        except TooMany:
            return said(400, f"you keep {OF_ONE_MAX} searches: remove one first")
        except CollectorError as error:
            return said(503, error.what)
        return said(200, f"Kept as {name}{', in place of what it was before' if replaced else ''}")

    async def _remove(self, request: Request) -> Response:
        view = self._view_of(request)
        try:
            gone = await asyncio.to_thread(self._searches.remove, view.access, request.path_params["number"])
        except CollectorError as error:
            return said(503, error.what)
        return said(200, "Removed") if gone else said(404, "there is no such search of yours")

    async def _csv(self, request: Request) -> Response:
        async def lines(chunks: AsyncIterator[list[tuple[Hit, bytes]]]) -> AsyncIterator[str]:
            yield csv_line(EXPORT_COLUMNS)
            try:
                async for hits in chunks:
                    yield "".join(csv_line(export_row(hit)) for hit, _ in hits)
            except CollectorError as error:
                yield csv_line([f"The export ends here, and is not whole: {error}"])

        return await self._exported(request, lines, "csv", "text/csv; charset=utf-8")

    async def _ndjson(self, request: Request) -> Response:
        return await self._exported(request, partial(raw_lines, what="export"), "ndjson", _NDJSON)

    async def _sql_panel(self, request: Request) -> Response:
        return await self._show_panel(await _with_sql(request))

    async def _sql_csv(self, request: Request) -> Response:
        def written(told: QueryAnswer) -> str:
            rows = (["" if one is None else text_of(one) for one in row] for row in told.rows)
            return "".join(map(csv_line, [list(told.columns), *rows]))

        return await self._answered(request, written, "csv", "text/csv; charset=utf-8")

    async def _sql_ndjson(self, request: Request) -> Response:
        def written(told: QueryAnswer) -> bytes:
            return b"".join(map(json_line, objects_of(told)))

        return await self._answered(request, written, "ndjson", _NDJSON)

    async def _answered(
        self, request: Request, written: Callable[[QueryAnswer], str | bytes], kind: str, media_type: str
    ) -> Response:
        view = self._view_of(await _with_sql(request))
        sql = view.given("sql")
        if not (view.access.may(Role.ANALYST) and view.access.sees_contents):
            return PlainTextResponse("there is no such panel\n", status_code=404)
        if not 0 < len(sql) <= SQL_MAX:
            return PlainTextResponse("one SELECT is wanted\n", status_code=400)
        if (refusal := refuse_unread(view)) is not None:
            return refusal
        try:
            asking = self._sources.ask_sql(view, sql, rows_max=EXPORTED_MAX)
            told = await while_there(request, asking)
            body = b"" if told is None else await asyncio.to_thread(written, told)
        except CollectorError as error:
            return PlainTextResponse(f"{error}\n", status_code=503)
        return Response(body, media_type=media_type, headers=_attached(view, "sql", kind))

    async def _exported(
        self, request: Request, lines: Callable[..., AsyncIterator[Any]], kind: str, media_type: str
    ) -> Response:
        view = self._view_of(request)
        is_whole = kind == "ndjson"
        if not view.access.may(Role.ANALYST) or (is_whole and not view.access.sees_contents):
            return PlainTextResponse("there is no such panel\n", status_code=404)
        if (refusal := refuse_unread(view)) is not None:
            return refusal
        try:
            term = await in_records_words(view, self._sources, read_filter(view.given("q")))
            chunks = self._sources.read_hits(view, term, most=EXPORTED_MAX)
        except FilterRefused as refusal:
            return PlainTextResponse(f"{refusal}\n", status_code=400)
        return bit_by_bit(lines(chunks), media_type=media_type, headers=_attached(view, "search", kind))


async def _with_sql(request: Request) -> Request:
    """The request with the SQL of its body in place of any in its URL, for the view and for the trail."""
    sql = (await form_of(request, bytes_max=SQL_BYTES_MAX)).get("sql", "")
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "sql"]
    request.scope["query_string"] = urlencode([*kept, ("sql", sql)]).encode()
    return Request(request.scope, request.receive)


def _attached(view: View, name: str, kind: str) -> dict[str, str]:
    """The heading by which a browser keeps the answer as a file."""
    return {"Content-Disposition": f'attachment; filename="m365watch-{name}-{view.now:%Y%m%d-%H%M%S}.{kind}"'}


def _number(text: str) -> int:
    """A number of a URL; 0 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else 0
