"""Which outputs a tenant's records go to, where those are not all.

A blob is owed to the outputs that its tenant had when it was first fetched: what changes of that concerns
what is fetched from then on. What is to get every tenant's records, whatever the settings name, is excluded
for none.
"""

from __future__ import annotations

from collections.abc import Mapping

from m365watch.common.model import TenantId


class Routes:
    """The outputs of each tenant."""

    def __init__(self, outputs: frozenset[str]) -> None:
        """All of `outputs` for every tenant."""
        self._all = outputs
        self._of: dict[TenantId, frozenset[str]] = {}

    def exclude(self, excluded: Mapping[TenantId, frozenset[str]]) -> None:
        """Bring the records of these tenants to all outputs but these from now on, those of others to all."""
        self._of = {tenant_id: self._all - some for tenant_id, some in excluded.items()}

    def of(self, tenant_id: TenantId) -> frozenset[str]:
        """The outputs that the tenant's records go to."""
        return self._of.get(tenant_id, self._all)
