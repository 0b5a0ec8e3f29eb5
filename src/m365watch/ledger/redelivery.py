"""Blobs that are pending again for one output, which has lost records that it had acknowledged.

What is still served is fetched again for that output alone. Of what is not, the blobs that brought a record
which the output lacks are lost to it: the same record, brought by another blob, is no duplicate there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from m365watch.common.timestamps import us_of
from m365watch.ledger.identity_pages import ROW_BYTES
from m365watch.ledger.identity_store import Routes, unpack
from m365watch.ledger.queries import feed_of
from m365watch.ledger.reconciliation_store import HeldStore
from m365watch.records.identity import IDENTITY_BYTES
from m365watch.storage.database import Database

_REASON = "{output} has lost its records, and they are not served any more"
_CANDIDATES = """
SELECT blob.key, feed.tenant_id, feed.content_type, content_id,
    created_us, expires_us, missing, finished_s IS NOT NULL, state
FROM blob JOIN feed ON feed.id = blob.feed
WHERE state != 2 AND created_us <= :to_us
AND (state = 1 OR missing IS NOT NULL) AND ifnull(finished_s, :from_s) >= :from_s
ORDER BY blob.key
"""
_FETCH = (
    "UPDATE blob SET state = 0, missing = ?, attempts = 0, next_try_s = 0, last_error = NULL,"
    " finished_s = NULL WHERE key = ?"
)
_LOSE = "UPDATE blob SET state = 3, missing = ?, last_error = ? WHERE key = ?"
_UNCOUNT = (
    "UPDATE feed SET blobs_delivered = blobs_delivered - 1, records_delivered = records_delivered -"
    " (SELECT ifnull(records, 0) FROM blob WHERE key = ?1), records_duplicate = records_duplicate -"
    " (SELECT ifnull(duplicates, 0) FROM blob WHERE key = ?1)"
    " WHERE id = (SELECT feed FROM blob WHERE key = ?1)"
)
_COUNT_LOST = (
    "UPDATE feed SET blobs_delivered = blobs_delivered - 1, blobs_lost = blobs_lost + 1"
    " WHERE id = (SELECT feed FROM blob WHERE key = ?)"
)
_DELIVERED = 1
_PAGES = 200


@dataclass(frozen=True, slots=True)
class Carrier:
    """A blob that may have brought records which the output has lost."""

    key: int
    created_us: int
    is_served: bool
    missing: frozenset[str]
    is_final: bool
    state: int


@dataclass(frozen=True, slots=True)
class PendingAgain:
    """What became of the carriers."""

    blobs_pending: int
    """They are fetched again."""
    records_pending: int
    """The records of them that the output lacks, without those that have no Id."""
    blobs_lost: int
    """They are not served any more, and brought records that the output lacks."""
    records_lost: int


def carriers_of(
    connection: Database,
    output: str,
    routes: Routes,
    *,
    received: tuple[datetime | None, datetime | None],
    is_kept: Callable[[str], bool],
    now: datetime,
) -> list[Carrier]:
    """The blobs whose records `output` may have received in that span, and that it is not lacking anyway.

    A blob ends after it was received, and is received after it was created; with None the span is open.
    `is_kept` says by its id that a blob was no blob of the service: nobody serves it any more.
    """
    start, end = received
    values = {
        "from_s": 0 if start is None else start.timestamp(),
        "to_us": us_of(now if end is None else end),
    }
    found = []
    for (
        key,
        tenant,
        content,
        content_id,
        created_us,
        expires_us,
        missing,
        is_final,
        state,
    ) in connection.execute(_CANDIDATES, values):
        lacking = frozenset(json.loads(missing or "[]"))
        if output not in lacking and output in routes.of(feed_of(tenant, content).tenant_id):
            served = expires_us > us_of(now) and not is_kept(content_id)
            found.append(Carrier(key, created_us, served, lacking, bool(is_final), state))
    return found


def make_pending(connection: Database, held: HeldStore, output: str, carriers: list[Carrier]) -> PendingAgain:
    """Let the carriers be pending for `output`, or lost to it, as `held` knows what it has.

    The caller commits.
    """
    by_key = {one.key: one for one in carriers}
    lacking = _count_lacking(connection, held, output, by_key.keys())
    pending = [one for one in carriers if one.is_served or not one.is_final]
    lost = [one for one in carriers if not one.is_served and one.is_final and lacking[one.key]]
    for one in pending:
        if one.state == _DELIVERED:
            connection.execute(_UNCOUNT, (one.key,))
        connection.execute(_FETCH, (_names(one, output), one.key))
    for one in lost:
        if one.state == _DELIVERED:
            connection.execute(_COUNT_LOST, (one.key,))
        connection.execute(_LOSE, (_names(one, output), _REASON.format(output=output), one.key))
    return PendingAgain(
        len(pending),
        sum(lacking[one.key] for one in pending),
        len(lost),
        sum(lacking[one.key] for one in lost),
    )


def _names(one: Carrier, output: str) -> str:
    return json.dumps(sorted(one.missing | {output}))


def _count_lacking(
    connection: Database, held: HeldStore, output: str, blobs: AbstractSet[int]
) -> Counter[int]:
    """By blob, how many of the identities that it owns `output` does not have."""
    counts: Counter[int] = Counter()
    for lot in _owned(connection):
        some = {identity: owner for identity, owner in lot if owner in blobs}
        known = held.known(output, some)
        counts.update(owner for identity, owner in some.items() if identity not in known)
    return counts


def _owned(connection: Database) -> Iterator[list[tuple[bytes, int]]]:
    """Every identity with the blob that owns it, in lots."""
    moved: dict[bytes, int] = dict(connection.execute("SELECT key, blob FROM moved ORDER BY batch"))
    for parts, packed in connection.execute("SELECT parts, identities FROM batch WHERE committed = 1"):
        yield [
            (one, moved.get(one, blob)) for blob, identities in unpack(parts, packed) for one in identities
        ]
    pages = connection.execute("SELECT rows FROM identity_page ORDER BY first")
    while some := pages.fetchmany(_PAGES):
        rows = [page[at : at + ROW_BYTES] for (page,) in some for at in range(0, len(page), ROW_BYTES)]
        yield [
            (
                identity := row[:IDENTITY_BYTES],
                moved.get(identity, int.from_bytes(row[IDENTITY_BYTES:], "big")),
            )
            for row in rows
        ]
