"""Words and cells that the panels of Health share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from math import floor

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import Names, names_among
from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import span_words
from m365watch.board.widgets.widget_types import Cell, Empty
from m365watch.common.model import Feed

TEXT_MAX = 240


async def names_of(view: View, sources: Sources, feeds: Iterable[Feed]) -> Names:
    """The names of the tenants of feeds; none where they are of one, whose name need not be said."""
    return await names_among(view, sources, {one.tenant_id for one in feeds})


def no_ledger(view: View, sources: Sources) -> Empty:
    """That no collector has run, with the command that starts one."""
    command = sources.command(view, "run")
    return Empty("No collector has run with this configuration yet.", f"This starts one: {command}")


def feed_words(feed: Feed, *, named: Names) -> str:
    """A feed's name, the tenant's in front where there are several."""
    if not named:
        return str(feed.content_type)
    content = str(feed.content_type).removeprefix("Audit.")
    return f"{named.get(feed.tenant_id.lower(), feed.tenant_id)} / {content}"


def counted_cell(number: int, tone: str) -> Cell:
    """A count that stands out where it is not 0."""
    return Cell(f"{number:,}", sorts=number, tone=tone if number else "muted")


def ago_cell(at: datetime | None, now: datetime) -> Cell:
    """How long ago something was."""
    if at is None:
        return Cell("never", sorts=0, tone="muted")
    seconds = (now - at).total_seconds()
    return Cell(f"{span_words(seconds)} ago", sorts=seconds)


def at_cell(at: datetime) -> Cell:
    """An instant, in UTC."""
    return Cell(f"{at:%Y-%m-%d %H:%M}", sorts=at.timestamp(), tone="muted")


def sentence(text: str) -> str:
    """The text as a sentence."""
    if not text or text.endswith("…"):
        return text
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def bare_words(text: str, fix: str | None, *, feed: Feed | None = None) -> str:
    """What is wrong, without the feed's name in front and the cure at the end, which stand beside it."""
    bare = text if feed is None else text.removeprefix(str(feed)).lstrip(": ")
    return cut_words(bare if fix is None else bare.removesuffix(f"; {fix}"))


def cut_words(text: str) -> str:
    """The beginning of a text that may be of any length."""
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]} …"


def days_words(days: float) -> str:
    """How long something is good for: in whole days, as the sentences about it count them."""
    return span_words((floor(days) if days >= 2 else days) * 86_400)
