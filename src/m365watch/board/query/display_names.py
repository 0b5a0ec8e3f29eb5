"""What the tenant's own applications are called: its records of their consent and of their changes say it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import NOT_NARROWED
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql.application_queries import NAMED
from m365watch.board.query.time_range import HOUR_S, TimeRange, read_range
from m365watch.board.widgets.labels import application_words, short_id
from m365watch.board.widgets.record_text import listed, text_of
from m365watch.common.errors import CollectorError
from m365watch.lake.rollups.facts import TRACES
from m365watch.records.headers import object_of

LOOKED_AT = 2_000
"""Of the newest records in sites: what is not among them stays in lower case."""
_IN_SITES = "workload IN ('SharePoint', 'OneDrive')"
_NEWEST = Query(
    f"SELECT object FROM facts WHERE {_IN_SITES} ORDER BY at_s DESC LIMIT {LOOKED_AT}",  # noqa: S608 - ours
    of=TRACES,
    exact=True,
    newest=LOOKED_AT,
    every=_IN_SITES,
)


async def spell_sites(view: View, sources: Sources, sites: Iterable[str]) -> Mapping[str, str]:
    """The sites, given in lower case, as the newest records of the view's time write them."""
    asked = sorted({one for one in sites if one})
    memory, scope, now_s = sources.site_names, view.tenants, view.now.timestamp()
    if left := memory.unknown(scope, asked, now_s=now_s):
        span = TimeRange(view.range.start_s // HOUR_S * HOUR_S, -(-view.range.end_s // HOUR_S) * HOUR_S)
        with suppress(CollectorError):
            rows = await sources.ask(replace(view.of_everything, range=span), _NEWEST)
            memory.learn(scope, left, _found_in([row[0] for row in rows], left), now_s=now_s)
    return memory.names(scope, asked)


def _found_in(objects: Sequence[str], sites: Iterable[str]) -> dict[str, str]:
    """What the addresses of files begin with, by what that is in lower case."""
    found: dict[str, str] = {}
    for site in sites:
        size = len(site)
        for one in objects:
            if one[size : size + 1] in ("", "/") and one[:size].lower() == site:
                found[site] = one[:size]
                break
    return found


Names = Mapping[str, str]
"""Name by the tenant's id, in lower case."""
_UNCHOSEN = ".onmicrosoft.com"
"""A domain that every tenant has, and that few are known by."""
_DOMAINS = Query(
    "SELECT tenant_id, regexp_extract(user_id, '@([^@]+)$', 1) AS domain, count(DISTINCT user_id) AS people"
    " FROM facts WHERE contains(user_id, '@') AND NOT contains(user_id, '#ext#') GROUP BY ALL"
    " ORDER BY people DESC, domain LIMIT 2000",
)


async def name_tenants(view: View, sources: Sources) -> Names:
    """The names of the tenants that the view may have, as far as something says them; no two are the same."""
    inputs = {
        one.tenant_id.lower(): one.input_name
        for one in sources.settings.tenants
        if view.access.sees(one.tenant_id)
    }
    everything = replace(view, narrowing=NOT_NARROWED, range=read_range({}, now=view.now), options=())
    domains: dict[str, str] = {}
    with suppress(CollectorError):
        rows = await sources.ask(everything, _DOMAINS)
        for tenant, domain, _ in sorted(rows, key=lambda row: row[1].endswith(_UNCHOSEN)):
            domains.setdefault(tenant, domain)
    return distinct(inputs | domains, inputs)


def distinct(names: Names, inputs: Names) -> Names:
    """The names; those that several have with what tells them apart in front, as the end may be cut off."""
    common = Counter(names.values())
    return {
        tenant: name if common[name] == 1 else f"{inputs.get(tenant) or tenant} ({name})"
        for tenant, name in names.items()
    }


async def names_among(view: View, sources: Sources, tenants: Iterable[str]) -> Names:
    """The name of each of these tenants, or its id; none where it is one tenant, which need not be said."""
    several = {one.lower() for one in tenants}
    if len(several) < 2:
        return {}
    names = await name_tenants(view, sources)
    return {one: names.get(one, one) for one in several}


ASKED_MAX = 50
_OBJECT = "application_"
"""What stands before the id of an application's own object: records of new secrets name nothing else."""
_ID = re.compile(rf"({_OBJECT})?[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")
_NAME = 1
"""The kind of a target that is a name."""


async def name_applications(view: View, sources: Sources, ids: Iterable[str]) -> Mapping[str, str]:
    """The name of each application that has one, by its id in lower case, for whoever may see the view.

    Whoever made an application has named it: the beginning of its id stands behind, and what Microsoft's
    well-known ids are called stays.
    """
    asked = {one.lower() for one in ids}
    known = {one: words for one in asked if (words := application_words(one)) != one}
    others = [one for one in asked - known.keys() if _ID.fullmatch(one)]
    if not others or not view.access.sees_contents:
        return known
    memory, scope, now_s = sources.app_names, view.tenants, view.now.timestamp()
    if left := memory.unknown(scope, others, now_s=now_s)[:ASKED_MAX]:
        with suppress(CollectorError):
            memory.learn(scope, left, await _look_up(view, sources, left), now_s=now_s)
    return known | memory.names(scope, others)


async def name_entities(
    view: View, sources: Sources, entities: Iterable[tuple[str, str]]
) -> Mapping[str, str]:
    """The same of the applications that alerts or records name among others."""
    return await name_applications(view, sources, (value for kind, value in entities if kind == "app"))


async def _look_up(view: View, sources: Sources, ids: list[str]) -> Mapping[str, str]:
    everything = replace(view.of_everything, range=read_range({"range": "90d"}, now=view.now))
    found: dict[str, str] = {}
    for app_id, raw in await sources.ask(everything, NAMED, ids=ids):
        if name := _name_in(raw):
            found.setdefault(app_id, f"{name} ({short_id(app_id.removeprefix(_OBJECT))})")
    return found


def _name_in(raw: str) -> str:
    """What the record calls the application."""
    targets = listed(object_of(raw), "Target")
    return next((text_of(one.get("ID")) for one in targets if one.get("Type") == _NAME), "")
