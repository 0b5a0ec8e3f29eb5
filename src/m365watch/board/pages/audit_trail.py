"""Trail: who saw and did what on the board, for administrators of all tenants."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode

from m365watch.board.access.redaction import EMPTIED
from m365watch.board.access.roles import Role
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.ledger_queries import sees_every_tenant
from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import counted
from m365watch.board.widgets.previous_lake import words_of_earlier
from m365watch.board.widgets.widget_types import Cell, Empty, Grid, Heading, Several, Shape
from m365watch.lake.audit_trail_table import Deed, DeedsAsked

SHOWN_MAX = 100
_PANEL_PARTS = 3
"""Of the path of a panel: the word, its page, and its name."""
_PLACES = ("before", "shown")
"""Where a further part of a search begins, which the search itself does not say."""
PAGES_MAX = 200
ASKED_SHOWN_MAX = 20_000
"""More than any SQL has that is answered; the lake has the rest of what was asked in vain."""
_TROUBLE = "What is done here cannot be written down now"
_NOT_THEIRS = Empty("The trail speaks of all tenants, and your role sees some of them.")
_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "all": ("All", ()),
    "looks": ("Looks", ("view", "api")),
    "exports": ("Exports", ("export",)),
    "changes": ("Changes", ("change",)),
    "tries": ("Preflights", ("try",)),
    "sign-ins": ("Sign-ins", ("sign_in", "sign_out")),
    "refused": ("Refused", ("refused",)),
}
_WORDS = {
    "view": ("looked", "muted"),
    "api": ("API", "muted"),
    "export": ("took along", "medium"),
    "change": ("changed", "high"),
    "try": ("tried", "low"),
    "sign_in": ("signed in", "low"),
    "sign_out": ("signed out", "low"),
    "refused": ("refused", "failed"),
}


async def deeds(view: View, sources: Sources) -> Shape:
    """Who saw and did what, the newest first."""
    if not sees_every_tenant(view):
        return Several([], empty=_NOT_THEIRS)
    by = view.option("by", tuple(_BY))
    number = min(int(given), PAGES_MAX) if (given := view.given("sheet")).isdecimal() else 0
    asked = DeedsAsked(
        datetime.fromtimestamp(view.range.start_s, UTC),
        datetime.fromtimestamp(view.range.end_s, UTC),
        names=view.narrowing.of("user"),
        addresses=view.narrowing.of("ip"),
        actions=_BY[by][1],
        most=SHOWN_MAX,
        skipped=number * SHOWN_MAX,
    )
    found = await sources.list_trail(view, asked)
    trouble, loss = sources.trail_trouble(), sources.trail_loss()
    before = await words_of_earlier(view, sources)
    shown, has_more = found[:SHOWN_MAX], len(found) > SHOWN_MAX
    headings = [Heading(one) for one in ("Time (UTC)", "Who", "Role", "From", "Action", "Answer", "What")]
    grid = Grid(
        [*headings, Heading("Asked for", wide=True)],
        [_row(one) for one in shown],
        cut=_cut(number, shown, _told(trouble, loss, before)),
        earlier=view.url("/trail", sheet=str(number + 1)) if has_more and number < PAGES_MAX else "",
        later=view.url("/trail", sheet=str(number - 1) if number > 1 else "") if number else "",
        empty=None if shown else _none(view, number, trouble=trouble, loss=loss, before=before),
    )
    choices = tuple((name, words) for name, (words, _) in _BY.items())
    return Several([grid], choices=choices, chosen=by)


def _told(trouble: str, loss: str, before: str) -> list[str]:
    return [
        *([f"{_TROUBLE}: {trouble}"] if trouble else ()),
        *([loss] if loss else ()),
        *([before.rstrip(".")] if before else ()),
    ]


def _none(view: View, number: int, *, trouble: str, loss: str, before: str) -> Empty:
    if trouble:
        return Empty(f"{_TROUBLE}, so that nobody can say.", trouble)
    if number:
        return Empty("There are no earlier lines.", "Go back to the newest, or choose a longer time.")
    if loss:
        return Empty("No such line of this time is kept.", f"{loss}.")
    if before:
        return Empty("Nobody did this in this time since the lake is another.", before)
    if view.narrowing.values:
        return Empty(
            "No line of this time fulfils all filters.", "Take a filter out, or choose a longer time."
        )
    return Empty("Nobody did this in this time.", "Choose a longer time, or another kind above.")


def _cut(number: int, shown: list[Deed], told: list[str]) -> str:
    first = number * SHOWN_MAX + 1
    lines = (
        f"lines {first:,} to {first + len(shown) - 1:,}" if number else counted(len(shown), "line", "lines")
    )
    return f"{'. '.join([lines, *told])}." if told else lines


def _row(one: Deed) -> list[Cell]:
    words, tone = _WORDS.get(one.action, (one.action, ""))
    url = url_of(one)
    told = " ".join(filter(None, (one.says, _asked(one.query))))
    return [
        Cell(f"{one.time:%m-%d %H:%M:%S}", sorts=one.time.timestamp(), tone="muted"),
        Cell(one.name or "a stranger", narrows=("user", one.name) if one.name else None),
        Cell(one.role or "none", tone="muted"),
        Cell(one.address, narrows=("ip", one.address) if one.address else None),
        Cell(words, tone=tone),
        Cell(str(one.status), sorts=one.status, tone="muted" if one.status < 400 else "failed"),
        Cell(one.path, url=url if len(url) <= ASKED_SHOWN_MAX else ""),
        Cell(told if len(told) <= ASKED_SHOWN_MAX else f"{told[:ASKED_SHOWN_MAX]}…", tone="muted"),
    ]


def url_of(one: Deed) -> str:
    """Where what was looked at can be looked at again; empty where it was no page, nor a part of one."""
    before, *parts = one.path.split("/")
    is_page = one.action == "view" and one.status == HTTPStatus.OK and one.query != EMPTIED
    if not is_page or before or not parts or not parts[0]:
        return ""
    if parts[0] == "panel":
        return f"{_url(f'/{parts[1]}', one.query)}#panel-{parts[2]}" if len(parts) == _PANEL_PARTS else ""
    if one.path == "/search/part":
        pairs = parse_qsl(one.query, keep_blank_values=True, errors="replace")
        return _url("/search", urlencode([pair for pair in pairs if pair[0] not in _PLACES]))
    return _url(one.path, one.query)


def _url(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _asked(query: str) -> str:
    """The rest of the URL as people read it; as it stands where it is not made of names and values."""
    pairs = parse_qsl(query)
    return ", ".join(f"{name} {value}" for name, value in pairs) if pairs else query


PAGE = Page(
    "trail",
    "Trail",
    (
        Panel(
            "deeds",
            "Who saw and did what",
            deeds,
            says="Each line was on disk before it was answered. The filters User and Address narrow it.",
            tall="rows",
        ),
    ),
    says="What people looked at, took along and changed on the board. It is in the lake as board_trail.",
    role=Role.ADMIN,
    is_of_all_tenants=True,
    narrowed_by=frozenset({"user", "ip"}),
    choices={"by": _BY},
)
