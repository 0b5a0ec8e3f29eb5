"""SharePoint and OneDrive: who takes files, who shares them with whom, and who deletes them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import spell_sites
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.geolocation import place_words
from m365watch.board.query.impossible_travel import placed
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import sharepoint_queries as sharepoint
from m365watch.board.query.sql.aggregates import added
from m365watch.board.widgets.change_flags import Told, change_table, marks_of_guard, marks_of_sharing
from m365watch.board.widgets.empty_states import good_news, no_records
from m365watch.board.widgets.labels import counted, program_words, right_words, short
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.record_text import change_words, deed, field_of, number, opening, settings_of
from m365watch.board.widgets.time_series import chart_of, colours_of, sparks_of
from m365watch.board.widgets.widget_types import (
    Cell,
    Empty,
    Grid,
    Heading,
    Ranked,
    Ranking,
    Several,
    Shape,
    Spot,
    Tile,
    WorldMap,
)
from m365watch.detection.fields.enrichment_context import Whereabouts
from m365watch.records.headers import object_of

SPOTS_MAX = 400
RANKED_MAX = 8
ADDRESSES_MAX = 20
"""A spot of more addresses leads nowhere: a URL has an end."""
NO_PLACES = Empty(
    "Audit records do not say where an address is.",
    "Name a table with cities (MMDB) in detections.enrich.databases, and here stands a map.",
)
NO_SPOTS = Empty(
    "No address of these records has a place.",
    "Tables of countries alone have none: name one with cities in detections.enrich.databases.",
)


@dataclass
class _Work:
    """What was done with files from one place."""

    where: Whereabouts
    counts: Sequence[int] = (0, 0, 0, 0)
    """Records, downloads, uploads, deletions."""
    addresses: list[str] = field(default_factory=list)


async def _work(view: View, sources: Sources) -> dict[tuple[float, float], _Work]:
    """What was done in each place, the busiest first."""
    found: dict[tuple[float, float], _Work] = {}
    for address, *counts in await sources.ask(view, sharepoint.PLACES):
        where = sources.places.locate(address)
        if (place := placed(where)) is None:
            continue
        work = found.setdefault((round(place[0], 1), round(place[1], 1)), _Work(where))
        work.counts = [one + more for one, more in zip(work.counts, counts, strict=True)]
        work.addresses.append(address)
    return dict(sorted(found.items(), key=lambda one: -one[1].counts[0]))


async def _why_none(view: View, sources: Sources) -> Empty:
    if not sources.knows_places:
        return NO_PLACES
    if await sources.ask(view, sharepoint.PLACES):
        return NO_SPOTS
    return await no_records(view, sources, of="records of files")


async def world(view: View, sources: Sources) -> Shape:
    """From where files are read, taken, brought and deleted."""
    found = await _work(view, sources) if sources.knows_places else {}
    if not found:
        return WorldMap((), empty=await _why_none(view, sources))
    most = max(work.counts[0] for work in found.values())
    return WorldMap(
        [_spot(view, place, work, most=most) for place, work in list(found.items())[:SPOTS_MAX]],
        cut=f"the {SPOTS_MAX} most frequent places" if len(found) > SPOTS_MAX else "",
    )


async def towns(view: View, sources: Sources) -> Shape:
    """The places that most was done from, and what was taken to them."""
    found = await _work(view, sources) if sources.knows_places else {}
    named: dict[str, list[int]] = {}
    for work in found.values():
        counts = named.setdefault(place_words(work.where), [0] * 4)
        counts[:] = [one + more for one, more in zip(counts, work.counts, strict=True)]
    rows = [
        Ranked(name, records, note=f"{downloads:,} downloads, {uploads:,} uploads, {deletions:,} deletions")
        for name, (records, downloads, uploads, deletions) in named.items()
    ]
    rows.sort(key=lambda one: (-one.count, one.label))
    total = sum(one.count for one in rows)
    return Ranking("", rows[:RANKED_MAX], total, empty=None if rows else await _why_none(view, sources))


def _spot(view: View, place: tuple[float, float], work: _Work, *, most: int) -> Spot:
    records, downloads, uploads, deletions = work.counts
    says = (
        f"{place_words(work.where)}: {counted(records, 'record', 'records')}, {downloads:,} downloads,"
        f" {uploads:,} uploads, {deletions:,} deletions,"
        f" from {counted(len(work.addresses), 'address', 'addresses')}"
    )
    is_short = len(work.addresses) <= ADDRESSES_MAX
    url = view.narrowed("ip", sorted(work.addresses)).url("/sharepoint") if is_short else ""
    return Spot(*place, says, math.sqrt(records / most), "c1", url)


_EASILY_NARROWED = frozenset({"tenant_id", "workload", "outcome"})
"""By these the small rollups of files can be narrowed."""
_SHARED_WITH = (("outside", "outside"), ("everybody", "all sharing"))


async def figures(view: View, sources: Sources) -> Shape:
    """How much happens in both, and what of it leads outside or away."""
    done, shared, course = await asyncio.gather(
        sources.ask(view, sharepoint.FIGURES),
        sources.ask(view, sharepoint.COUNTS.query),
        sources.ask(view, sharepoint.SPARKS),
    )
    downloads, uploads, deletions, malware = done[0] if done else (0,) * 4
    guests, anonymous = added(shared, len(sharepoint.FIGURES_SHARED))
    sparks = sparks_of(view.range, course)
    in_sites, in_drives = (
        sum(number for workload, _, number in course if workload == name)
        for name in ("SharePoint", "OneDrive")
    )
    tiles = [
        Tile("SharePoint", short(in_sites), spark=sparks["SharePoint"]),
        Tile("OneDrive", short(in_drives), spark=sparks["OneDrive"]),
        Tile("Downloads", short(downloads), "synchronised ones too"),
        Tile("Uploads", short(uploads)),
        Tile("Shared with guests", short(guests), tone="medium" if guests else ""),
        Tile("Anonymous links", short(anonymous), "made, changed or used", tone="high" if anonymous else ""),
        Tile("Deletions", short(deletions)),
        Tile("Malware", short(malware), tone="critical" if malware else ""),
    ]
    return await figures_here(view, sources, tiles)


async def activity(view: View, sources: Sources) -> Shape:
    """What happens over time, by operation."""
    rows = await sources.ask(view, sharepoint.ACTIVITY)
    return chart_of(
        view.range,
        rows,
        colour=colours_of(rows),
        narrows=lambda name: ("operation", name) if name else None,
        empty=None if rows else await no_records(view, sources, of="records of SharePoint and OneDrive"),
    )


async def operations(view: View, sources: Sources) -> Shape:
    """The most frequent operations, and how many people did them."""
    rows = [row[1:] for row in await sources.ask(view, sharepoint.DEEDS) if row[0] == "operations"]
    ranked = [
        Ranked(name or "not said", count, ("operation", name), note=counted(people, "person", "people"))
        for name, count, people in rows
    ]
    empty = None if rows else await no_records(view, sources, of="records of SharePoint and OneDrive")
    return Ranking.of_all(ranked, empty)


def _path_of(name: str) -> str:
    """A site's address without its host; anything else as it stands."""
    return name.partition("://")[2].partition("/")[2] or name


def _tops(title: str, rows: list[Row], narrows: str = "") -> Grid:
    numbers = ("Downloads", "Uploads", *(("People",) if narrows != "user" else ()))
    cells = [
        [
            Cell(
                program_words(name) if title == "Program" else _path_of(name),
                narrows=(narrows, name) if narrows else None,
            ),
            number(downloads),
            number(uploads, "" if uploads else "muted"),
            number(people),
        ]
        for name, _, downloads, uploads, people in rows
    ]
    headings = [Heading(title), *(Heading(one, numeric=True) for one in numbers)]
    return Grid(headings, [row[: len(headings)] for row in cells])


async def _top_of(view: View, sources: Sources, column: str) -> list[Row]:
    """Most downloads first; a narrowed view asks for all its tables together."""
    is_easy = view.narrowing.columns <= _EASILY_NARROWED
    query = sharepoint.TOPS[column] if is_easy else sharepoint.EVERY_TOP
    return [row[1:] for row in await sources.ask(view, query) if row[0] == column]


async def sites(view: View, sources: Sources) -> Shape:
    """Which sites and which addresses most is taken from."""
    by_site, by_address = await asyncio.gather(
        _top_of(view, sources, "site"), _top_of(view, sources, "client_ip")
    )
    empty = None if by_site or by_address else await no_records(view, sources, of="records of sites")
    spelled = await spell_sites(view, sources, [row[0] for row in by_site])
    by_site = [(spelled.get(row[0], row[0]), *row[1:]) for row in by_site]
    return Several([_tops("Site", by_site), _tops("Address", by_address, "ip")], empty=empty)


async def taking(view: View, sources: Sources) -> Shape:
    """Who downloads and uploads, which kinds of files, and with which programs."""
    by_user, by_kind, by_agent = await asyncio.gather(
        *(_top_of(view, sources, column) for column in ("user_id", "extension", "program"))
    )
    parts = [_tops("Person", by_user, "user"), _tops("Kind of file", by_kind), _tops("Program", by_agent)]
    return Several(parts, empty=None if by_user else await no_records(view, sources, of="records of files"))


async def sharing(view: View, sources: Sources) -> Shape:
    """What was shared, by whom, with whom, and with which rights; by default outside the organisation."""
    by = view.option("by", tuple(name for name, _ in _SHARED_WITH))
    changes = sharepoint.SHARING if by == "everybody" else sharepoint.SHARING_OUTSIDE
    names = ("Time (UTC)", "Operation", "By", "Stands out…", "With", "File or site", "Right", "From")

    def tell(rows: Sequence[Row]) -> list[Told]:
        return [shared_by(view, row, among_all=by == "everybody") for row in rows]

    grid = await change_table(view, sources, changes, names, tell, of="records of sharing outside")
    return Several([grid], empty=grid.empty, choices=_SHARED_WITH, chosen=by)


def shared_by(view: View, row: Row, *, among_all: bool) -> Told:
    """What a record says was shared, with whom, and why that stands out: that it is outside, `among_all`."""
    record = object_of(row[6])
    target, kind = field_of(record, "TargetUserOrGroupName"), field_of(record, "TargetUserOrGroupType")
    is_anonymous = row[1].lower().startswith("anonymouslink") or ".Anonymous" in target
    is_guest = kind.lower() in {"guest", "partner"} or "#ext#" in target.lower()
    whom = "anybody" if is_anonymous else target
    right = field_of(record, "EventData").partition("</")[0].rpartition(">")[2]
    cells = deed(
        row,
        Cell(whom or "not said", tone="high" if is_anonymous else "medium" if is_guest else ""),
        Cell(_file_of(record, row[5])),
        Cell(right_words(right) or "not said", tone="muted"),
    )
    marks = marks_of_sharing(row[1], is_anonymous=is_anonymous, is_guest=is_guest and among_all)
    return Told(row, opening(view, row, cells), marks)


def _file_of(record: dict[str, object], stands: str) -> str:
    return field_of(record, "SourceFileName") or _path_of(stands) or "not said"


async def domains(view: View, sources: Sources) -> Shape:
    """The domains of those outside whom something was shared with."""
    rows = await sources.ask(view, sharepoint.DOMAINS)
    ranked = [
        Ranked(name, count, colour="medium", note=f"by {counted(people, 'person', 'people')}")
        for name, count, people in rows
    ]
    said = "Nothing was shared with anybody outside in this view."
    empty = None if rows else await good_news(view, sources, said)
    return Ranking.of_all(ranked, empty)


async def deleting(view: View, sources: Sources) -> Shape:
    """Who deletes and recycles most."""
    rows = [row[1:] for row in await sources.ask(view, sharepoint.DEEDS) if row[0] == "deleting"]
    ranked = [
        Ranked(user or "not said", count, ("user", user) if user else None, "failed")
        for user, count, _ in rows
    ]
    empty = None if rows else await no_records(view, sources, of="deletions")
    return Ranking.of_all(ranked, empty)


async def guarding(view: View, sources: Sources) -> Shape:
    """Malware, site administrators, sharing policies, and versions deleted."""
    names = ("Time (UTC)", "Operation", "By", "Stands out…", "Who, or before → after", "Site or file", "From")
    of = "records of malware, or changes of administrators and policies,"

    def tell(rows: Sequence[Row]) -> list[Told]:
        return [Told(row, opening(view, row, _guarding_row(row)), marks_of_guard(row[1])) for row in rows]

    return await change_table(view, sources, sharepoint.GUARDING, names, tell, of=of)


def _guarding_row(row: Row) -> list[Cell]:
    record = object_of(row[6])
    what = change_words(settings_of(record)) or field_of(
        record, "TargetUserOrGroupName", "VirusInfo", "SourceFileName"
    )
    return deed(
        row,
        Cell(what or "not said"),
        Cell(_path_of(row[5]) or "not said"),
        tone="critical" if "malware" in row[1].lower() else "",
    )


PAGE = Page(
    "sharepoint",
    "SharePoint & OneDrive",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel("sharing", "Sharing", sharing, tall="chart", is_live=True),
        Panel("taking", "Downloads and uploads", taking, tall="chart", is_live=True),
        Panel("guarding", "Malware, administrators, policies", guarding, tall="chart"),
        Panel("domains", "Shared with whom outside", domains, width=4, tall="chart"),
        Panel("deleting", "Deletions", deleting, width=4, tall="chart"),
        Panel("operations", "Operations", operations, width=4, tall="chart"),
        Panel("sites", "Sites and addresses", sites, tall="chart"),
        Panel("activity", "Everything in sites and drives", activity, tall="chart", is_live=True),
        Panel("map", "Map of work with files", world, width=8, tall="chart", needs_places=True),
        Panel("towns", "Places", towns, width=4, tall="chart", needs_places=True),
    ),
    says="Who takes files, who shares them with whom, and who deletes them.",
    choices={"by": dict(_SHARED_WITH)},
)
