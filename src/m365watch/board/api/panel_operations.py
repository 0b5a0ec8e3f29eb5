"""Panels for programs: the pages' own loaders, answered as JSON or as CSV."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.responses import Response

from m365watch.board.access.roles import Role, Scope
from m365watch.board.api.operation import BASE, Call, Operation, schema_named
from m365watch.board.api.parameters import NARROWING, TIME, matching, one_of, option, options_of, whole
from m365watch.board.api.problem_details import NOT_THERE, PARAMETER_WRONG, ROLE_MISSING, Refused
from m365watch.board.api.schemas import panel_document
from m365watch.board.app.exports import csv_of, raw_lines
from m365watch.board.app.responses import bit_by_bit, given
from m365watch.board.pages.page_registry import PAGES, page_named
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.pages.sql import SQL_MAX
from m365watch.board.query.filter_values import in_records_words
from m365watch.board.query.query_context import OPTIONS
from m365watch.lake.search.filter_parser import read_filter

LIMIT, LIMIT_MAX = 1_000, 100_000
MEDIA_TYPE = "application/x-ndjson"


async def _list(call: Call) -> Response:
    most = int(call.one("limit", str(LIMIT)))
    term = await in_records_words(call.view, call.sources, read_filter(call.one("q")))
    found = call.sources.read_hits(call.view, term, most=most)
    return bit_by_bit(raw_lines(found, what="answer"), media_type=MEDIA_TYPE)


RECORDS = Operation(
    name="records",
    method="GET",
    path=f"{BASE}/records",
    title="Find records",
    says=(
        "Those of the time that the filter `q` holds for, the newest days first, each as Microsoft sent it,"
        " one a line. Where reading ends early, the last line is an object with the key `error` alone."
    ),
    tag="Records",
    answer=_list,
    gives={"type": "string"},
    media_type=MEDIA_TYPE,
    scope=Scope.EXPORT,
    role=Role.ANALYST,
    shows_contents=True,
    parameters=(
        option("q"),
        *TIME,
        *NARROWING,
        whole("limit", f"At most so many; left out, {LIMIT:,}.", 1, LIMIT_MAX),
    ),
)


_WORDS = {
    name: tuple(dict.fromkeys(word for page in PAGES for word in page.choices.get(name, ())))
    for name in OPTIONS
}
"""What an option may be on any page."""
_SCOPES = {"sql": Scope.SQL}
"""What the panels of a page need, where it is not `read`."""


class SqlAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question in SQL."""

    sql: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=SQL_MAX,
            description="One SELECT, over the tables that docs/lake.md describes.",
        ),
    ]


BODIES = (SqlAsked,)


def panel_operations() -> list[Operation]:
    """One for each panel of each page, and one that gives any of them as CSV."""
    return [*(_panel_operation(page, panel) for page in PAGES for panel in page.panels), _EXPORT]


def _panel_operation(page: Page, panel: Panel) -> Operation:
    async def answer(call: Call) -> Response:
        if not page.is_for(call.who):
            raise Refused(ROLE_MISSING, f"{page.title} is not for the token's role and tenants")
        return given(panel_document(await panel.load(call.view, call.sources)))

    return Operation(
        name=f"{page.name}.{panel.name}",
        method="POST" if panel.posted else "GET",
        path=f"{BASE}/{page.name}/{panel.name}",
        title=f"{page.title}: {panel.title}",
        says=panel.says,
        tag=page.title,
        answer=answer,
        gives=schema_named("PanelAnswer"),
        scope=_SCOPES.get(page.name, Scope.READ),
        role=page.role,
        shows_contents=page.shows_contents,
        parameters=(*TIME, *NARROWING, *options_of(page.name, page.choices)),
        body=SqlAsked if panel.posted else None,
        asks_by_body=bool(panel.posted),
    )


async def _export(call: Call) -> Response:
    page = page_named(call.one("page"))
    panel = page.panel(call.one("panel")) if page else None
    if page is None or panel is None or panel.posted:
        raise Refused(NOT_THERE, "there is no such panel")
    if not page.is_for(call.who):
        raise Refused(ROLE_MISSING, f"{page.title} is not for the token's role and tenants")
    for name, words in page.choices.items():
        if (given_word := call.one(name, next(iter(words)))) not in words:
            raise Refused(PARAMETER_WRONG, f"{name}: {given_word} is not one of {', '.join(words)}")
    text = csv_of(await panel.load(call.view, call.sources))
    name = f"m365watch-{page.name}-{panel.name}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


_EXPORT = Operation(
    name="export",
    method="GET",
    path=f"{BASE}/export/{{page}}/{{panel}}",
    title="Any panel as CSV",
    says="The same rows as the JSON has, in a table. No value begins a formula of a spreadsheet.",
    tag="Export",
    answer=_export,
    gives={"type": "string"},
    media_type="text/csv",
    scope=Scope.EXPORT,
    role=Role.ANALYST,
    parameters=(
        one_of("page", (one.name for one in PAGES), "The page.", in_path=True),
        matching("panel", r"[a-z-]{1,40}", "The panel.", "the name of a panel", in_path=True),
        *TIME,
        *NARROWING,
        *(option(name, _WORDS[name]) for name in OPTIONS if name != "sql"),
    ),
    may_answer=(404,),
)
