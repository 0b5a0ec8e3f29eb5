"""What makes two records the same: tenant, Id, CreationTime, Operation and RecordType.

Never the raw text, because the order of keys differs between two deliveries of one record
(api-contract 5.2), and never the content id, because blobs are cut and sent again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from hashlib import blake2b

import xxhash

from m365watch.common.model import Header, TenantId

MARK_BYTES = 16
KEY_BYTES = 32
_WITH_ID, _BY_BYTES = b"i", b"b"


class MarkMaker:
    """Makes marks under one key; a lake has a key of its own, which outlives every ledger."""

    def __init__(self, key: bytes) -> None:
        """`key` has `KEY_BYTES` bytes and is nobody else's."""
        self.key = key

    def marks(self, tenant_id: TenantId, headers: Iterable[Header], records: Iterable[bytes]) -> list[bytes]:
        """The mark of each record; `headers` and `records` are parallel."""
        tenant = tenant_id.encode()
        return [
            self._mark(
                _WITH_ID,
                tenant,
                f"{one.Id}\x1f{one.CreationTime or ''}\x1f{one.Operation}\x1f{one.RecordType}".encode(),
            )
            if one.Id
            else self._mark(_BY_BYTES, tenant, record)
            for one, record in zip(headers, records, strict=True)
        ]

    def _mark(self, kind: bytes, tenant: bytes, what: bytes) -> bytes:
        return blake2b(
            b"\x1f".join((tenant, what)), digest_size=MARK_BYTES, key=self.key, person=kind
        ).digest()


IDENTITY_BYTES = 16
_FIRST_DAY = dt.date(2000, 1, 1).toordinal()
_DAY_MINUTES = 24 * 60
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
        self._minutes = _MinutePrefixes()

    def identities(self, tenant_id: TenantId, headers: Iterable[Header]) -> list[bytes | None]:
        """The identity of each record; None for a record without Id, which is never a duplicate."""
        seed = self._tenant_seed(tenant_id)
        minutes = self._minutes
        digest = xxhash.xxh3_128_digest
        return [
            minutes[created[:16]]
            + digest(f"{one.Id}\x1f{created}\x1f{one.Operation}\x1f{one.RecordType}".encode(), seed)[:12]
            if one.Id
            else None
            for one in headers
            for created in [one.CreationTime or ""]
        ]

    def _tenant_seed(self, tenant_id: TenantId) -> int:
        seed = self._tenant_seeds.get(tenant_id)
        if seed is None:
            seed = xxhash.xxh3_64_intdigest(tenant_id.encode(), self._seed)
            self._tenant_seeds[tenant_id] = seed
        return seed


class _MinutePrefixes(dict[str, bytes]):
    """The prefix of each minute that was asked for, up to a bound."""

    def __missing__(self, created: str) -> bytes:
        if len(self) >= _CACHE_MINUTES_MAX:
            self.clear()
        prefix = self[created] = minute_prefix(created)
        return prefix


def minute_prefix(created: str) -> bytes:
    """The first 4 bytes of an identity for a CreationTime such as 2026-11-17T09:03; zeros if it is none."""
    try:
        at = dt.datetime.fromisoformat(created)
    except ValueError:
        return _UNTIMED
    # A zone, which no such text has room for, would be passed over.
    minutes = (at.toordinal() - _FIRST_DAY) * _DAY_MINUTES + at.hour * 60 + at.minute
    return minutes.to_bytes(4, "big") if minutes > 0 else _UNTIMED
