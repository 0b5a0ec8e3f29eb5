"""How the board and the collector stand, for what watches over them: alive, ready, and figures to scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Annotated

import msgspec
from starlette.responses import PlainTextResponse, Response

from m365watch.board.access.roles import Access, Scope
from m365watch.board.api.operation import BASE, Call, Operation, schema_named
from m365watch.board.api.parameters import one_of
from m365watch.board.api.problem_details import KINDS
from m365watch.board.app.request_metrics import figures_text
from m365watch.board.app.responses import given
from m365watch.board.query.data_sources import Sources
from m365watch.common.errors import CollectorError, LakeMissing, Unavailable
from m365watch.common.timestamps import ms_of
from m365watch.config.models.settings import Settings
from m365watch.health.checks.check_specs import Surface, trouble_for
from m365watch.health.collector_status import read_configuration, read_expiry, read_latency, read_status
from m365watch.health.metrics import MEDIA_TYPE, metrics_text
from m365watch.notifications.channel_status import Standings, look_at_standings

TAG = "Standing"
LOOK_LIMIT_S = 5.0
"""How long the lake and the ledger may take to be looked at."""


class Part(msgspec.Struct, frozen=True):
    """One thing that the pages read."""

    name: Annotated[str, msgspec.Meta(description="lake, ledger or alerts")]
    ready: bool
    code: Annotated[
        str, msgspec.Meta(description="Why it is not: a code of docs/reference/errors.md; else empty.")
    ] = ""


class Readiness(msgspec.Struct, frozen=True):
    """Whether everything that the pages read can be read."""

    ready: bool
    parts: list[Part]


class ProblemSaid(msgspec.Struct, frozen=True):
    """One way in which a request goes wrong."""

    code: str
    status: int
    title: str


async def _alive(call: Call) -> Response:  # noqa: ARG001 - every operation is handed the call
    return PlainTextResponse("ok\n")


async def _ready(call: Call) -> Response:
    parts = await asyncio.gather(
        _lake_part(call.sources), _ledger_part(call.sources.settings), _alerts_part(call.sources)
    )
    found = [one for one in parts if one is not None]
    is_ready = all(one.ready for one in found)
    return given(Readiness(is_ready, found), status=200 if is_ready else 503)


async def _lake_part(sources: Sources) -> Part | None:
    """How the lake is; None where the configuration has none."""
    facts = sources.facts
    if facts is None:
        return None

    async def look() -> str:
        return "" if (await facts.snapshot()).version >= 0 else LakeMissing.code

    return await _looked_at("lake", look())


async def _ledger_part(settings: Settings) -> Part:
    async def look() -> str:
        await asyncio.to_thread(read_configuration, settings)
        return ""

    return await _looked_at("ledger", look())


async def _alerts_part(sources: Sources) -> Part | None:
    """How the alerts are; None where no detections have run."""

    async def look() -> str:
        trouble = await sources.alerts_trouble()
        return "" if trouble is None else trouble.code

    part = await _looked_at("alerts", look())
    return part if part.code or sources.has_alerts else None


async def _looked_at(name: str, looking: Awaitable[str]) -> Part:
    """The part of that name, after a look that says why it is not ready, or nothing."""
    try:
        async with asyncio.timeout(LOOK_LIMIT_S):
            code = await looking
    except TimeoutError:
        code = Unavailable.code
    except CollectorError as error:
        code = error.code
    return Part(name, ready=not code, code=code)


async def _metrics(call: Call) -> Response:
    text = await asyncio.to_thread(figures_of, call.sources, call.who)
    if call.who.tenants is None:
        text += own_figures_of(call.sources)
    return Response(text, media_type=MEDIA_TYPE)


def own_figures_of(sources: Sources) -> str:
    """What is asked of the board by everybody, and what it asks the lake."""
    queries = None if sources.facts is None else sources.facts.queries
    return figures_text(sources.requests, queries, sources.count_sessions())


def figures_of(sources: Sources, access: Access) -> str:
    """What `m365watch status --metrics` prints, of the tenants of somebody's scope alone.

    Outputs and targets of notifications are those of all tenants together, and shown to whom may see all.

    Raises: LedgerUnusable; OutputUnusable.
    """
    settings, now, tenants = sources.settings, sources.clock.now(), access.tenants
    progress, applications = read_status(settings, now=now), read_expiry(settings)
    book = [*read_latency(settings)]
    if tenants is None:
        told, names = _targets(sources)
        untold = names if told.fault is not None else []
        checks = trouble_for(Surface.METRICS, settings, sources.clock)
        return metrics_text(
            progress, book, applications, now=now, targets=told.figures, untold=untold, checks=checks
        )
    applications = [
        msgspec.structs.replace(one, tenants=shown)
        for one in applications
        if (shown := [tenant for tenant in one.tenants if tenant.lower() in tenants])
    ]
    feeds = [one for one in progress.feeds if one.feed.tenant_id.lower() in tenants]
    series = [one for one in book if one[0].tenant_id.lower() in tenants]
    return metrics_text(replace(progress, feeds=feeds, outputs=[]), series, applications, now=now)


def _targets(sources: Sources) -> tuple[Standings, list[str]]:
    """How the targets of notifications stand, and their names."""
    detections = sources.settings.detections
    names = [one.name for one in detections.channels] if detections.enabled else []
    if not names:
        return Standings(), names
    now_ms = ms_of(sources.clock.now())
    return look_at_standings(sources.settings.state_directory, names, now_ms=now_ms), names


async def _problem(call: Call) -> Response:
    kind = next(one for one in KINDS if one.code == call.one("code"))
    return given(ProblemSaid(kind.code, kind.status, kind.title))


def standing_operations(document: Callable[[], Mapping[str, object]]) -> list[Operation]:
    """What watches over the board asks; `document` describes the API."""

    async def describe(call: Call) -> Response:  # noqa: ARG001 - every operation is handed the call
        return given(document())

    return [
        Operation(
            name="openapi",
            method="GET",
            path=f"{BASE}/openapi.json",
            title="This document",
            tag=TAG,
            answer=describe,
            gives={"type": "object"},
            scope=None,
        ),
        Operation(
            name="problem",
            method="GET",
            path=f"{BASE}/problems/{{code}}",
            title="What a kind of problem is",
            tag=TAG,
            answer=_problem,
            gives=schema_named("ProblemSaid"),
            parameters=(one_of("code", (one.code for one in KINDS), "The problem's code.", in_path=True),),
            is_open=True,
        ),
        *_WATCHED,
    ]


_WATCHED = (
    Operation(
        name="alive",
        method="GET",
        path="/healthz",
        title="Whether the board lives",
        tag=TAG,
        answer=_alive,
        gives={"type": "string"},
        media_type="text/plain",
        is_open=True,
    ),
    Operation(
        name="ready",
        method="GET",
        path="/readyz",
        title="Whether lake, ledger and alerts can be read",
        says="503, with the same document, where one of them cannot.",
        tag=TAG,
        answer=_ready,
        gives=schema_named("Readiness"),
        is_open=True,
    ),
    Operation(
        name="metrics",
        method="GET",
        path="/metrics",
        title="The collector's figures, for Prometheus",
        says="Those of `m365watch status --metrics`, of the tenants that the token is for; for a token of all"
        " tenants also those of the board itself.",
        tag=TAG,
        answer=_metrics,
        gives={"type": "string"},
        media_type="text/plain",
        scope=Scope.METRICS,
    ),
)
DOCUMENTS = (Readiness, ProblemSaid)
