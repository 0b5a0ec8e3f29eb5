"""What tenants are called where more than one is in sight: by the domain of their people, or by an input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import NOT_NARROWED
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.time_range import read_range
from m365watch.common.errors import CollectorError

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
