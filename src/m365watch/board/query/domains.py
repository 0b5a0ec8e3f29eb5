"""Domains: those of each tenant's mailboxes, and whether a name is of one that is the tenant's own."""

from __future__ import annotations

from m365watch.board.query.query_planner import Query
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
