"""What makes two records the same: tenant, Id, CreationTime, Operation and RecordType.

Never the raw text, because the order of keys differs between two deliveries of one record
(api-contract 5.2), and never the content id, because blobs are cut and sent again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import xxhash

from m365watch.model import Header, TenantId

IDENTITY_BYTES = 16
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_CACHE_MINUTES_MAX = 100_000
_UNTIMED = bytes(4)


class IdentityMaker:
    """Makes 16-byte identities: 4 bytes of CreationTime in minutes, then 12 bytes of a seeded hash.

    The time stands first so that records that arrive together are neighbours in the store.
    96 bits of hash within one minute of one tenant: for a false match to become as likely as
    one in a billion, a tenant would have to log 10^10 records in that minute. The seed is the
    ledger's own secret, so that nobody can prepare records that meet.
    """

    def __init__(self, seed: int) -> None:
        """`seed` is any 64-bit number; the same one for the whole life of a ledger."""
        self._seed = seed
        self._tenant_seeds: dict[TenantId, int] = {}
        self._minutes: dict[str, bytes] = {}

    def identities(self, tenant_id: TenantId, headers: Iterable[Header]) -> list[bytes | None]:
        """The identity of each record; None for a record without Id, which is never a duplicate."""
        seed = self._tenant_seed(tenant_id)
        minutes = self._minutes
        digest = xxhash.xxh3_128_digest
        found: list[bytes | None] = []
        for header in headers:
            if not header.Id:
                found.append(None)
                continue
            created = header.CreationTime or ""
            prefix = minutes.get(created[:16]) or self._minute(created[:16])
            text = f"{header.Id}\x1f{created}\x1f{header.Operation}\x1f{header.RecordType}"
            found.append(prefix + digest(text.encode(), seed)[:12])
        return found

    def _tenant_seed(self, tenant_id: TenantId) -> int:
        seed = self._tenant_seeds.get(tenant_id)
        if seed is None:
            seed = xxhash.xxh3_64_intdigest(tenant_id.encode(), self._seed)
            self._tenant_seeds[tenant_id] = seed
        return seed

    def _minute(self, created: str) -> bytes:
        if len(self._minutes) >= _CACHE_MINUTES_MAX:
            self._minutes.clear()
        prefix = self._minutes[created] = minute_prefix(created)
        return prefix


def minute_prefix(created: str) -> bytes:
    """The first 4 bytes of an identity for a CreationTime such as 2026-11-17T09:03; zeros if it is none."""
    try:
        at = dt.datetime.fromisoformat(created).replace(tzinfo=dt.UTC)
    except ValueError:
        return _UNTIMED
    minutes = (at - _EPOCH) // dt.timedelta(minutes=1)
    return minutes.to_bytes(4, "big") if minutes > 0 else _UNTIMED
