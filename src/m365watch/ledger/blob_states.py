"""What the ledger knows of the blobs that a listing names, and how many blobs each hour had; read only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from m365watch.common.model import BlobRef, BlobState, Feed
from m365watch.common.timestamps import us_of
from m365watch.ledger.queries import instant, ledger_for_reading
from m365watch.storage.database import Database

HOUR_S = 3_600
_STATES = tuple(BlobState)
"""In the order of the ledger's numbers for them."""
_FEED = "(SELECT id FROM feed WHERE tenant_id = ? AND content_type = ?)"
_KNOWN = (
    f"SELECT content_id, created_us, state FROM blob WHERE feed = {_FEED}"  # noqa: S608 - our own words
    " AND content_id IN (SELECT value FROM json_each(?))"
)
_WHOLE = (
    f"SELECT state FROM blob WHERE feed = {_FEED} AND created_us > ? AND created_us < ?"  # noqa: S608 - our own words
    " AND substr(content_id, instr(content_id, '$')) = ? ORDER BY created_us DESC LIMIT 1"
)
_LISTED_UNTIL = f"SELECT max(end_s) FROM coverage WHERE feed = {_FEED}"  # noqa: S608 - our own words
CUT_SPAN = timedelta(hours=1)
"""A blob spans less; one of 10 minutes has been the longest."""
_PER_HOUR = (
    f"SELECT created_us / 3600000000, count(*) FROM blob WHERE feed = {_FEED}"  # noqa: S608 - our own words
    " AND created_us >= ? AND created_us < ? GROUP BY 1"
)
_STATES_PER_HOUR = (
    f"SELECT created_us / 3600000000, state, count(*) FROM blob WHERE feed = {_FEED}"  # noqa: S608 - our own words
    " AND created_us >= ? AND created_us < ? GROUP BY 1, 2"
)


class Absent(StrEnum):
    """How it comes that the ledger does not know a blob which the service lists."""

    MISSING = "missing"
    """A listing should have shown it, or the feed was never listed."""
    NEWER = "newer"
    """It was created after the end of the newest listing, so that no listing could have shown it."""


def states_in(connection: Database, feed: Feed, refs: Sequence[BlobRef]) -> list[BlobState | None]:
    """Where each of the feed's `refs` stands, in their order; None for one that the ledger does not know."""
    names = json.dumps([ref.content_id for ref in refs])
    rows = connection.execute(_KNOWN, (feed.tenant_id, feed.content_type, names))
    known = {(content_id, created_us): _STATES[state] for content_id, created_us, state in rows}
    return [known.get((ref.content_id, us_of(ref.created_at))) for ref in refs]


def state_of_whole(connection: Database, feed: Feed, ref: BlobRef) -> BlobState | None:
    """Where the blob stands of which `ref` is the rest; None unless the ledger knows such a one.

    A listing that starts inside a blob names its rest, as a blob that nobody has seen before: created
    later, and with the first of the id's parts changed. The records of it are those of the whole one.

    Source: api-contract, fact 8 and 2.4.
    """
    mark, tail = "$", ref.content_id.partition("$")[2]
    if not tail:
        return None
    span = (us_of(ref.created_at - CUT_SPAN), us_of(ref.created_at))
    row = connection.execute(_WHOLE, (feed.tenant_id, feed.content_type, *span, mark + tail)).fetchone()
    return None if row is None else _STATES[row[0]]


def read_states(path: Path, feed: Feed, refs: Sequence[BlobRef]) -> list[BlobState | Absent]:
    """Where `refs` stand, rests of known blobs as those, from the ledger at `path` beside whoever writes it.

    Raises: LedgerUnusable.
    """
    if not refs:
        # As on most pages of a feed at night, and opening the ledger takes longer than all else.
        return []
    with ledger_for_reading(path) as connection:
        states = states_in(connection, feed, refs)
        end_s = connection.execute(_LISTED_UNTIL, (feed.tenant_id, feed.content_type)).fetchone()[0]
        until = instant(end_s)
        return [
            state or state_of_whole(connection, feed, ref) or _absence(ref, until)
            for ref, state in zip(refs, states, strict=True)
        ]


def _absence(ref: BlobRef, listed_until: datetime | None) -> Absent:
    is_newer = listed_until is not None and ref.created_at >= listed_until
    return Absent.NEWER if is_newer else Absent.MISSING


def blobs_per_hour(connection: Database, feed: Feed, *, first_hour: int, end_hour: int) -> dict[int, int]:
    """How many blobs the feed's hours in [first_hour, end_hour) have; hours since 1970, by contentCreated.

    An hour without any is not in it.
    """
    span = (first_hour * HOUR_S * 1_000_000, end_hour * HOUR_S * 1_000_000)
    rows = connection.execute(_PER_HOUR, (feed.tenant_id, feed.content_type, *span))
    return {int(hour): int(blobs) for hour, blobs in rows}


def states_per_hour(
    connection: Database, feed: Feed, *, first_hour: int, end_hour: int
) -> dict[int, dict[BlobState, int]]:
    """How many blobs of each state those hours have; as `blobs_per_hour`, but told apart."""
    span = (first_hour * HOUR_S * 1_000_000, end_hour * HOUR_S * 1_000_000)
    found: dict[int, dict[BlobState, int]] = {}
    for hour, state, blobs in connection.execute(
        _STATES_PER_HOUR, (feed.tenant_id, feed.content_type, *span)
    ):
        found.setdefault(int(hour), {})[_STATES[state]] = int(blobs)
    return found
