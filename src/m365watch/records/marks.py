"""What is kept of a record that was erased: 16 bytes that tell whether another one is the same.

A keyed hash of what makes records the same (see `identity`), or of a record's bytes where it has no Id.
Whoever has the key and the record itself can tell that it was erased; nobody can tell from a mark what it
was. That makes marks pseudonymous, and no more than that.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

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
