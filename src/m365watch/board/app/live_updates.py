"""What is new, told to open pages as it happens: records, alerts, the configuration, how the feeds are."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from m365watch.board.access.redaction import SeenAlert
from m365watch.board.access.roles import Access
from m365watch.board.config_editor.config_status import read_standing
from m365watch.board.query.data_sources import WAITING, Sources
from m365watch.board.query.ledger_queries import see_collector, sees_every_tenant
from m365watch.board.query.query_context import View
from m365watch.common.errors import LedgerUnusable, OutputUnusable
from m365watch.common.progress import FeedProgress
from m365watch.detection.rules.extension import Severity

LOOK_EVERY_S = 5.0
TOLD_AT_LEAST_EVERY = 3
"""In looks: a connection that says nothing for long is closed by what is in between."""
OPEN_MAX = 256
"""Connections by which news are told at the same time; all pages of one browser share one."""
EACH_MAX = 4
"""Those of one session, and of whoever does without one: less than the six that a browser has to a host."""
AGAIN_S = 60
"""How often a page asks that none of them is left for."""


class Listeners:
    """Who is told news as they come, and for whom there is room."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._open: Counter[tuple[str, str]] = Counter()

    def have_room(self, access: Access) -> bool:
        """Whether one connection more may stay open for them."""
        return self._open.total() < OPEN_MAX and self._open[_who(access)] < EACH_MAX

    @contextmanager
    def one_more(self, access: Access) -> Iterator[None]:
        """Theirs is open meanwhile."""
        who = _who(access)
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            self._open += Counter()


def _who(access: Access) -> tuple[str, str]:
    return access.name, access.session


async def until(ending: asyncio.Event, news: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The news, up to when the board is to end: it waits for nobody who only listens."""
    ended = asyncio.ensure_future(ending.wait())
    try:
        while not ending.is_set():
            step = asyncio.ensure_future(anext(news, None))
            try:
                await asyncio.wait((ended, step), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not step.done():
                    step.cancel()
                    await asyncio.wait((step,))
            if step.cancelled() or (said := step.result()) is None:
                return
            yield said
    finally:
        ended.cancel()
        await news.aclose()


async def tell_news(view: View, sources: Sources) -> AsyncGenerator[bytes, None]:
    """Server-sent events: at once how it stands, then every change; ends when nobody listens."""
    told, quiet = "", 0
    known: Collection[str] | None = None
    while True:
        standing, alerts = await _standing(view, sources)
        said = json.dumps({**standing, "new": _newcomer(alerts, known)})
        if alerts is not None:
            known = {one.alert.id for one in alerts}
        if said != told:
            told, quiet = said, 0
            yield f"data: {said}\n\n".encode()
        elif (quiet := quiet + 1) >= TOLD_AT_LEAST_EVERY:
            quiet = 0
            yield b": still here\nretry: 3000\n\n"
        await sources.clock.sleep(LOOK_EVERY_S)


async def tell_once(view: View, sources: Sources) -> AsyncGenerator[bytes, None]:
    """How it stands, and after how long the page is to ask again: a browser does so by itself."""
    standing, _ = await _standing(view, sources, again_s=AGAIN_S)
    said = json.dumps({**standing, "new": None})
    yield f"retry: {AGAIN_S * 1000}\ndata: {said}\n\n".encode()


def _newcomer(alerts: Sequence[SeenAlert] | None, known: Collection[str] | None) -> dict[str, str] | None:
    """The gravest alert that was not there at the look before, by whatever id; None where there is none."""
    if alerts is None or known is None:
        return None
    new = [one.alert for one in alerts if not {one.alert.id, *one.alert.formerly} & set(known)]
    worst = max(new, key=lambda one: (one.severity.rank, one.last_at_ms), default=None)
    return None if worst is None else {"id": worst.id, "title": worst.title}


async def _standing(
    view: View, sources: Sources, *, again_s: int = 0
) -> tuple[dict[str, object], Sequence[SeenAlert] | None]:
    """What a page is told, and the alerts that wait; None where they cannot be read."""
    now = replace(view, now=sources.clock.now())
    feeds: list[FeedProgress] = []
    alerts: list[SeenAlert] = []
    unread = ""
    try:
        feeds = await sources.list_feeds(now, is_live=True) or []
        alerts = await sources.list_alerts(now, states=WAITING, severity_min=Severity.MEDIUM) or []
    except LedgerUnusable:
        unread = "ledger"
    except OutputUnusable:
        unread = "alerts"
    collector = await see_collector(sources, feeds)
    mark = (await read_standing(now, sources)).mark if sees_every_tenant(now) else ""
    troubled = sum(1 for one in feeds if one.last_error)
    standing: dict[str, object] = {
        "records": sum(one.records_delivered for one in feeds),
        "alerts": len(alerts),
        "feeds": len(feeds),
        "troubled": troubled,
        "stopped": collector.stopped_words(),  # an age would be news at every look
        "unread": unread,
        "configuration": mark,
        "gone": await sources.lost_lake() is not None,
        "again_s": again_s,
    }
    return standing, None if unread else alerts
