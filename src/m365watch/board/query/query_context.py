"""A view: who looks, at which time, narrowed to what. Every loader takes one, every URL says one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode

from starlette.datastructures import QueryParams

from m365watch.board.access.roles import Access
from m365watch.board.query.dimension_filters import (
    NAMES,
    NEGATED,
    NOT_NARROWED,
    Narrowing,
    read_narrowing,
    unread_narrowing,
)
from m365watch.board.query.time_range import TimeRange, read_range, unread_range
from m365watch.detection.alerts.alert import clean_text

T = TypeVar("T")
_HERE = "\0here\0"
"""Stands for a value in the URLs of a table; no value has such characters."""

OPTIONS = (
    *("by", "then_from", "then_to"),
    *("alert", "state", "severity", "rule", "technique"),
    *("session", "mailbox", "site", "text", "record"),
    *("q", "sql"),
    *("instance", "template", "past"),
    *("sheet", "lanes"),
)
"""What a panel itself may be asked for, beside what narrows every panel."""
MENTIONS = ("session", "mailbox", "site", "text")
"""What an investigation may be about that no column has by itself; of `text` any record that holds it."""
OF_ONE_PAGE = ("by", "sheet", "lanes", "then_from", "then_to")
"""What the panels of one page are asked for: it goes to none but the page itself and those under it."""
UNDER = {"alert": "alerts", "record": "investigate", "sql": "search", "instance": "collectors"}
"""The page that leads to a page."""
_KNOWN = sorted({"range", "from", "to", *NAMES, *OPTIONS})
_OPTION_CHARACTERS_MAX = 300
UNREAD_SHOWN_MAX = 5
_UNREAD_MAX = 120
_LONG = {"q": 2_001, "sql": 8_001}
"""One character more than may be: whoever reads it says so, and takes no part of it for the whole."""


@dataclass(frozen=True, slots=True)
class View:
    """What one request is about."""

    access: Access
    now: datetime
    range: TimeRange
    narrowing: Narrowing = NOT_NARROWED
    options: tuple[tuple[str, str], ...] = ()
    unread: tuple[str, ...] = field(default=(), compare=False)
    """What the URL asks for and cannot be meant: it is left out, and said."""
    page: str = field(default="", compare=False)
    """The page that it is looked at on; empty: none."""
    _made: dict[tuple[str, ...], Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What was made of the view before: a table links to the same few values row after row."""

    @property
    def tenants(self) -> tuple[str, ...] | None:
        """The tenants whose records may be counted; None: all of them; empty: none."""
        return self.access.narrowed(self.narrowing.of("tenant"))

    def sees(self, tenant_id: str) -> bool:
        """Whether what is the tenant's may be shown in it; what `tenants` has, told of one of many."""
        asked = self.narrowing.of("tenant")
        return self.access.sees(tenant_id) and (not asked or tenant_id.lower() in map(str.lower, asked))

    @property
    def of_everything(self) -> View:
        """The same time and the same tenants, with nothing else that narrows it."""
        tenants = self.narrowing.of("tenant")
        return replace(self, narrowing=Narrowing({"tenant": tenants} if tenants else {}), options=())

    @property
    def before(self) -> View:
        """The same of the time before."""
        return replace(self, range=self.range.before)

    def option(self, name: str, among: tuple[str, ...]) -> str:
        """What a panel was asked for; the first of `among` where it was none of these."""
        given = dict(self.options).get(name, "")
        return given if given in among else among[0]

    def given(self, name: str) -> str:
        """What a panel was asked for under that name, whatever it is; empty where it was not."""
        return dict(self.options).get(name, "")

    @property
    def mentions(self) -> list[tuple[str, str]]:
        """What an investigation is about beside what narrows the view."""
        return [(name, value) for name, value in self.options if name in MENTIONS]

    def query(self, **options: str) -> str:
        """The URL's query that means this view, `options` added or, where empty, taken out."""
        added = urlencode([one for one in options.items() if one[1]])
        kept = self.once(("query", *options), lambda: urlencode(self.pairs(*options)))
        return f"{kept}&{added}" if kept and added else kept or added

    def pairs(self, *without: str) -> list[tuple[str, str]]:
        """The names and values that mean this view, some names left out."""
        every = [*self.range.query().items(), *self.narrowing.pairs(), *self.options]
        return [(name, value) for name, value in every if name not in without]

    def url(self, path: str, **options: str) -> str:
        """`path` in this view; what was asked of this page's panels stays here."""
        is_here = not self.page or _place(path) == UNDER.get(self.page, self.page)
        query = self.query(**({} if is_here else dict.fromkeys(OF_ONE_PAGE, "")) | options)
        return f"{path}?{query}" if query else path

    def option_url(self, path: str, name: str, value: str) -> str:
        """`path` in this view with one option: a table has it row after row with other values."""

        def make() -> tuple[str, str]:
            before, after = self.url(path, **{name: _HERE}).split(quote_plus(_HERE))
            return before, after

        before, after = self.once(("around option", path, name), make)
        return f"{before}{quote_plus(value)}{after}"

    @property
    def news_url(self) -> str:
        """Where what is new is told: the same for all pages of the same tenants, which share what comes."""
        return replace(self, range=read_range({}, now=self.now)).of_everything.url("/live")

    def narrowed_url(self, path: str, name: str, value: str) -> str:
        """`path` in this view, narrowed to one value."""

        def make() -> str:
            around = self.once(("around", path, name), lambda: self._around(path, name))
            if len(around) != 2:
                return self._narrowed_by(name, value).url(path)
            before, after = around
            return f"{before}{quote_plus(value)}{after}"

        return self.once(("narrowed", path, name, value), make)

    def _around(self, path: str, name: str) -> list[str]:
        """What stands in such a URL before its value, and after it; none where the value says more."""
        return [] if name in NEGATED else self._narrowed_by(name, _HERE).url(path).split(quote_plus(_HERE))

    def _narrowed_by(self, name: str, value: str) -> View:
        options = tuple(one for one in self.options if one[0] not in {"sheet", "lanes"})
        return replace(self, narrowing=self.narrowing.with_value(name, value), options=options)

    def once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        """What `make` makes of the view, made once for each key."""
        made: T | None = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
        return made

    def narrowed(self, name: str, values: Iterable[str]) -> View:
        """The same, narrowed to these values: what is asked about a few that another query has found."""
        return replace(self, narrowing=self.narrowing.with_values(name, values))

    def widened_url(self, path: str, name: str, value: str) -> str:
        """`path` in this view without one value."""
        return replace(self, narrowing=self.narrowing.without(name, value)).url(path)

    def unfiltered_url(self, path: str) -> str:
        """`path` in this view without filters: its time, and what the page is about, stay."""
        return replace(self, narrowing=NOT_NARROWED).url(path)

    def preset_url(self, path: str, preset: str) -> str:
        """`path` in this view, over another time."""
        span = TimeRange(0, 1, preset)
        return replace(self, range=span).url(path)


def read_view(query: QueryParams, access: Access, *, now: datetime) -> View:
    """The view that a URL's query means; never refuses one."""
    options = [
        (name, query[name][: _LONG.get(name, _OPTION_CHARACTERS_MAX)]) for name in OPTIONS if query.get(name)
    ]
    return View(
        access=access,
        now=now,
        range=read_range(dict(query), now=now),
        narrowing=read_narrowing(query.multi_items()),
        options=tuple(options),
        unread=_unread(query),
    )


def misread(query: QueryParams, choices: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """What the URL of a page asks for that means nothing there; `choices` are what some options may be."""
    told = []
    for name, value in query.multi_items():
        if name not in _KNOWN:
            near = get_close_matches(name.lower(), _KNOWN, 1)
            told.append(f"nothing is called {name}" + (f"; did you mean {near[0]}?" if near else ""))
        elif value and value not in choices.get(name, (value,)):
            told.append(f"{name}={value} is not one of {', '.join(choices[name])}")
    return _told(told)


def _place(path: str) -> str:
    """The page that a path is of, or that leads to it."""
    first, *rest = path.strip("/").split("/")
    name = rest[0] if first in {"panel", "export"} and rest else first
    return UNDER.get(name, name)


def _unread(query: QueryParams) -> tuple[str, ...]:
    pairs = query.multi_items()
    told = [*unread_range(dict(query)), *unread_narrowing(pairs)]
    return _told(told)


def _told(told: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        clean_text(one) if len(one) <= _UNREAD_MAX else f"{clean_text(one)[:_UNREAD_MAX]}…" for one in told
    )[:UNREAD_SHOWN_MAX]
