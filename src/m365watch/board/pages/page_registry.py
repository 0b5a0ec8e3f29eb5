"""The pages in the order of the navigation. A new page is a module here, and a line in `PAGES`."""

from __future__ import annotations

from m365watch.board.access.roles import Access
from m365watch.board.pages import (
    alert,
    alerts,
    applications,
    collectors,
    exchange,
    overview,
    search,
    sharepoint,
    sign_ins,
    sql,
    threats,
)
from m365watch.board.pages import audit_trail as trail
from m365watch.board.pages import instance_editor as instance
from m365watch.board.pages import investigation as investigate
from m365watch.board.pages.health import feed_health as health
from m365watch.board.pages.page_types import Page

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    sign_ins.PAGE,
    exchange.PAGE,
    sharepoint.PAGE,
    applications.PAGE,
    threats.PAGE,
    alerts.PAGE,
    alert.PAGE,
    investigate.PAGE,
    investigate.RECORD,
    search.PAGE,
    sql.PAGE,
    health.PAGE,
    collectors.PAGE,
    instance.PAGE,
    trail.PAGE,
)


def page_named(name: str) -> Page | None:
    """The page of that name."""
    return next((one for one in PAGES if one.name == name), None)


def pages_shown(access: Access) -> list[Page]:
    """The pages of the navigation that somebody may see, in its order."""
    return [one for one in PAGES if one.is_for(access) and not one.under]
