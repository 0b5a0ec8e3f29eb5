"""Panels and pages as values: a page is a list of panels, a panel a loader with a title."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from m365watch.board.access.roles import Access, Role
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import MENTIONS, View
from m365watch.board.widgets.widget_types import Shape

Loader = Callable[[View, Sources], Coroutine[Any, Any, Shape]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: loaded by itself, so that a slow one holds up no other."""

    name: str
    title: str
    load: Loader
    width: int = 12
    """Of the 12 columns that a wide window has."""
    says: str = ""
    """What it shows, in a sentence, for whoever asks."""
    tall: str = ""
    """The class of its skeleton: chart, rows, tiles."""
    is_live: bool = False
    """Whether it is loaded anew as records arrive."""
    posted: str = ""
    """The option that is sent in the body of a POST, and never in a URL that another page can lead to."""
    needs_places: bool = False
    """Whether it has nothing to show where no table tells where addresses are."""


KEYS = "1234567890"


def keys_of(pages: Sequence[Page]) -> list[tuple[str, Page]]:
    """The key that goes to each page after g: digits in their order, then the first letters of titles."""
    letters = [page.title[0].lower() for page in pages[len(KEYS) :]]
    return list(zip((*KEYS, *letters), pages, strict=False))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the navigation."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    says: str = ""
    keys: str = ""
    """The keys by which its alerts are changed, for whoever may."""
    role: Role = Role.VIEWER
    shows_contents: bool = False
    """Whether it is nothing without contents: whoever does not see them, does not see it."""
    is_timeless: bool = False
    """Whether it shows what is, whatever time and filters are chosen."""
    narrowed_by: frozenset[str] | None = None
    """The filters that hold on it, whatever else its URL has; None: all of them."""
    choices: Mapping[str, Collection[str]] = field(default_factory=dict)
    """What some of its options may be: of anything else it says so."""
    is_of_all_tenants: bool = False
    """Whether it is for those alone who may see all of them."""
    is_taken_along: bool = True
    """Whether its panels are tables for a spreadsheet too."""
    under: str = ""
    """The page of the navigation that leads to it; empty where it stands there itself."""

    def is_for(self, access: Access) -> bool:
        """Whether they may see it."""
        is_wide = access.tenants is None or not self.is_of_all_tenants
        return is_wide and access.may(self.role) and (access.sees_contents or not self.shows_contents)

    def holds(self, name: str) -> bool:
        """Whether a filter of that name narrows it; what an investigation is about narrows few pages."""
        if name in MENTIONS:
            return self.name in {"investigate", "record", "search"}
        return self.narrowed_by is None or name in self.narrowed_by

    def panels_shown(self, *, knows_places: bool) -> Sequence[Panel]:
        """Its panels; of those that need tables of addresses, where there are none, one that says so."""
        if knows_places:
            return self.panels
        needy = [one for one in self.panels if one.needs_places]
        return [
            replace(one, width=12, tall="") if one in needy else one
            for one in self.panels
            if one not in needy[1:]
        ]

    def panel(self, name: str) -> Panel | None:
        """Its panel of that name."""
        return next((one for one in self.panels if one.name == name), None)
