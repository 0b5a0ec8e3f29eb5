"""Whose domains are the organisation's own: the one place by which the pages say who is outside.

The settings tell some, and the lake tells the rest: a mailbox in a tenant has a name of one of its domains.
Who acted tells nothing, as partners and guests act too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import NOT_NARROWED
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.time_range import read_range
from m365watch.common.errors import CollectorError
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.lake.rollups.facts import MAILBOXES

OWNERS = Query(
    "SELECT tenant_id, split_part(mailbox, '@', -1) AS name FROM facts WHERE contains(mailbox, '@')"
    " GROUP BY ALL ORDER BY sum(n) DESC, 1, 2 LIMIT 5000",
    of=MAILBOXES,
)
"""Tenant and domain of those whose mailbox it is, the most frequent first."""


def is_own(name: str) -> str:
    """SQL: whether the domain of a column's names, or one above it, is one of `$own`.

    These are TENANT@DOMAIN; those without a tenant count in all of them.
    """
    return (
        "len(list_filter(CAST($own AS VARCHAR[]), lambda one: split_part(one, '@', 1) IN ('', tenant_id)"
        f" AND ends_with('.' || split_part({name}, '@', -1), '.' || split_part(one, '@', 2)))) > 0"
    )


LASTS_S = 3_600
"""How long the lake's word counts: a tenant hardly ever has a new domain."""
SCOPES_MAX = 1_000
"""Sets of tenants whose domains are remembered; beyond that all are looked up anew."""
_RANGE = {"range": "30d"}


async def own_domains(view: View, sources: Sources) -> Knowledge:
    """Those of all tenants that whoever looks may see; the settings' alone where the lake cannot say."""
    memory, scope, now_s = sources.own_domains, view.access.tenants, view.now.timestamp()
    told_s, told = memory.get(scope, (float("-inf"), {}))
    if now_s - told_s >= LASTS_S:
        with suppress(CollectorError):
            told = await _look_up(view, sources)
            if len(memory) >= SCOPES_MAX:
                memory.clear()
            memory[scope] = (now_s, told)
    return Knowledge(accepted_domains=sources.settings.detections.accepted_domains, tenant_domains=told)


async def _look_up(view: View, sources: Sources) -> Mapping[str, frozenset[str]]:
    everything = replace(view, narrowing=NOT_NARROWED, range=read_range(_RANGE, now=view.now), options=())
    found: dict[str, set[str]] = defaultdict(set)
    for tenant, name in await sources.ask(everything, OWNERS):
        found[tenant].add(name)
    return {tenant: frozenset(names) for tenant, names in found.items()}


def listed_for_sql(own: Knowledge) -> list[str]:
    """What `is_own` of a query is given as `$own`: a tenant, or none for all of them, and a domain."""
    by_tenant = {"": own.accepted_domains, **own.tenant_domains}
    return [f"{tenant}@{one}" for tenant, domains in sorted(by_tenant.items()) for one in sorted(domains)]
