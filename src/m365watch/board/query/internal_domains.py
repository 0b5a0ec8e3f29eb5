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
from m365watch.board.query.domains import OWNERS
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import read_range
from m365watch.common.errors import CollectorError
from m365watch.detection.fields.enrichment_context import Knowledge

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
