"""What the upkeep of a lake wants to know of a ledger; read only, beside a collector."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from m365watch.common.errors import LedgerUnusable
from m365watch.common.file_access import is_there, why_closed, why_denied
from m365watch.common.missing_files import PREFIX, MissingFiles, missing_of
from m365watch.common.model import LOOK_BACK_MAX, Feed, TenantId, Window, content_named
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.common.timestamps import EPOCH, instant_of_us
from m365watch.ledger.ledger_database import other_version
from m365watch.ledger.schema import LEDGER
from m365watch.registry.ports import WaitingBlob
from m365watch.storage.database import Database, DatabaseError, OtherVersion, connect_to_read, is_damage

_FEEDS = """
SELECT id, tenant_id, content_type, listed_at, blobs_delivered, blobs_quarantined, blobs_lost,
    records_delivered, records_duplicate, records_quarantined, last_error, last_error_at, fix,
    needs_operator, error_code,
    (SELECT count(*) FROM blob WHERE blob.feed = feed.id AND finished_s IS NULL),
    (SELECT total(end_s - start_s) FROM gap WHERE gap.feed = feed.id)
FROM feed ORDER BY tenant_id, content_type
"""
LET_IN = "run this as the user that the collector runs as"
_PIECES_KEPT = (
    "SELECT blob.feed, count(*) FROM quarantine JOIN blob ON blob.key = quarantine.blob GROUP BY blob.feed"
)


@contextmanager
def ledger_for_reading(path: Path) -> Iterator[Database]:
    """A connection that can only read, beside a collector that may be writing.

    Raises: LedgerUnusable: there is no ledger yet, or it is of another version.
    """
    require_ledger(path)
    try:
        with closing(connect_to_read(path)) as connection:
            connection.require(LEDGER)
            connection.execute("BEGIN")
            yield connection
    except OtherVersion as error:
        raise other_version(error, path) from error
    except DatabaseError as error:
        raise unreadable(error, path) from error
    except ValueError as error:
        # A cell that SQLite finds sound and that nobody has written, as after a flipped bit.
        fix = "look at the disk, then put a copy in its place: m365watch ledger restore"
        raise LedgerUnusable(f"the ledger is damaged ({error})", where=str(path), fix=fix) from error


def unreadable(error: DatabaseError, path: Path) -> LedgerUnusable:
    """What to say of a ledger that cannot be read."""
    if closed := why_denied(path):
        return LedgerUnusable(f"the ledger {closed}", where=str(path), fix=LET_IN)
    fix = "check the file and its permissions"
    if is_damage(error):
        fix = "start `m365watch run` again: it sets a damaged ledger aside and loses nothing"
    return LedgerUnusable(f"the ledger cannot be read ({error})", where=str(path), fix=fix)


def require_ledger(path: Path) -> None:
    """Nothing, where a collector has made its ledger.

    Raises: LedgerUnusable: there is none yet, or this user may not see whether there is.
    """
    if is_there(path):
        return
    if closed := why_closed(path):
        raise LedgerUnusable(f"the ledger cannot be read: {closed}", where=str(path), fix=LET_IN)
    raise LedgerUnusable(
        "there is no ledger yet", where=str(path), fix="start the collector with `m365watch run` first"
    )


def remembered(connection: Database, name: str) -> str | None:
    """What a part of the collector has learned, as JSON; None if nothing is kept by that name."""
    row = connection.execute("SELECT body FROM memory WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def feed_progress(connection: Database, now: datetime) -> list[FeedProgress]:
    """Every feed's figures, in the order of tenant and content type."""
    kept: dict[int, int] = dict(connection.execute(_PIECES_KEPT).fetchall())
    rows = connection.execute(_FEEDS).fetchall()
    return [_progress(connection, row, now, pieces_kept=kept.get(row[0], 0)) for row in rows]


def _progress(
    connection: Database, row: tuple[object, ...], now: datetime, *, pieces_kept: int
) -> FeedProgress:
    number, tenant_id, content_type, listed_at, delivered, quarantined, lost, *rest = row
    records, duplicates, records_quarantined, error, error_at, fix, needs_operator, code, *sums = rest
    waiting, unlisted_s = sums
    return FeedProgress(
        feed=feed_of(str(tenant_id), str(content_type)),
        watermark=watermark(coverage(connection, int(str(number))), now),
        listed_at=instant(listed_at),
        blobs_waiting=int(str(waiting)),
        blobs_delivered=int(str(delivered)),
        blobs_quarantined=int(str(quarantined)),
        blobs_lost=int(str(lost)),
        records_delivered=int(str(records)),
        records_duplicate=int(str(duplicates)),
        records_quarantined=int(str(records_quarantined)),
        pieces_dropped=int(str(records_quarantined)) - pieces_kept,
        unlisted_s=float(str(unlisted_s)),
        last_error=None if error is None else str(error),
        last_error_at=instant(error_at),
        fix=None if fix is None else str(fix),
        needs_operator=bool(needs_operator),
        error_code=None if code is None else str(code),
    )


def watermark(spans: list[Window], now: datetime) -> datetime | None:
    """Every blob that is still served and was created before this instant is known.

    The end of the oldest span that reaches into the last 7 days: while the backfill goes on,
    the newer spans lie beyond a hole. None before the first listing.
    """
    reachable = [span for span in spans if span.end > now - LOOK_BACK_MAX]
    return reachable[0].end if reachable else None


def coverage(connection: Database, feed_number: int) -> list[Window]:
    """The listed spans of contentCreated, disjoint, oldest first."""
    rows = connection.execute(
        "SELECT start_s, end_s FROM coverage WHERE feed = ? ORDER BY start_s", (feed_number,)
    )
    return [Window(instant_s(start), instant_s(end)) for start, end in rows.fetchall()]


def waiting_blobs(connection: Database) -> list[WaitingBlob]:
    """The blobs that wait after at least one failed round of tries, the soonest first."""
    rows = connection.execute(
        "SELECT tenant_id, content_type, content_id, attempts, next_try_s, blob.last_error"
        " FROM blob JOIN feed ON feed.id = blob.feed"
        " WHERE state = 0 AND attempts > 0 ORDER BY next_try_s, key"
    )
    return [
        WaitingBlob(feed_of(tenant, kind), content_id, attempts, instant_s(next_try), error or "")
        for tenant, kind, content_id, attempts, next_try, error in rows.fetchall()
    ]


def output_progress(connection: Database) -> list[OutputProgress]:
    """The outputs that have an error, lack blobs which were fetched, or miss files, by name."""
    lacking = {
        str(name): (missing, int(queued))
        for name, missing, queued in connection.execute(
            "SELECT output.value, count(*), total(output.value IN (SELECT value FROM json_each(queued)))"
            " FROM blob, json_each(missing) AS output WHERE finished_s IS NULL AND missing IS NOT NULL"
            " GROUP BY output.value"
        ).fetchall()
    }
    errors = {
        str(name): (error, instant(at), fix, bool(needs_operator))
        for name, error, at, fix, needs_operator in connection.execute(
            "SELECT name, last_error, last_error_at, fix, needs_operator FROM output_error"
        ).fetchall()
    }
    files = read_missing(connection)
    found = []
    for name in sorted(lacking.keys() | errors.keys() | files.keys()):
        missing, queued = lacking.get(name, (0, 0))
        error = errors.get(name, (None, None, None, False))
        found.append(OutputProgress(name, missing, queued, *error, files.get(name)))
    return found


_FIRST_EXPIRY = """
SELECT tenant_id, content_type, min(expires_us) FROM blob JOIN feed ON feed.id = blob.feed
WHERE finished_s IS NULL
    AND (missing IS NULL OR :output IN (SELECT value FROM json_each(missing)))
    AND (queued IS NULL OR :output NOT IN (SELECT value FROM json_each(queued)))
GROUP BY blob.feed
"""


def first_expiries(connection: Database, output: str) -> dict[Feed, datetime]:
    """By feed, when the first known blob expires that `output` lacks, and does not keep on disk either.

    A blob that another output is still taking counts, even if `output` has just put it into its queue.
    """
    rows = connection.execute(_FIRST_EXPIRY, {"output": output}).fetchall()
    return {feed_of(tenant, kind): instant_of_us(expires) for tenant, kind, expires in rows}


def read_missing(connection: Database) -> dict[str, MissingFiles]:
    """By output, what is missing at the lakes that miss something."""
    rows = connection.execute(
        "SELECT substr(name, ?), body FROM memory WHERE name > ? AND name < ?",
        (len(PREFIX) + 1, PREFIX, f"{PREFIX[:-1]}0"),
    ).fetchall()
    found = {str(name): missing_of(str(body)) for name, body in rows}
    return {name: one for name, one in found.items() if one is not None}


def last_batch(connection: Database, output: str) -> int:
    """The number of the last batch that the output has; 0 before the first."""
    row = connection.execute("SELECT last_batch FROM output WHERE name = ?", (output,)).fetchone()
    return int(row[0]) if row else 0


def newest_batch(connection: Database) -> int:
    """The highest number that a batch was ever given; 0 before the first."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batch'").fetchone()
    return int(row[0]) if row else 0


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same seconds in disjoint spans, oldest first."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def feed_of(tenant_id: str, content_type: str) -> Feed:
    """The feed of a row."""
    return Feed(TenantId(tenant_id), content_named(content_type))


def instant(seconds: object) -> datetime | None:
    """The instant of a column in seconds since 1970; None where it is empty."""
    return instant_s(seconds) if isinstance(seconds, int | float) else None


def instant_s(seconds: float) -> datetime:
    """The instant of a column in seconds since 1970 that is never empty."""
    return EPOCH + timedelta(seconds=seconds)


_SUMS = (
    "SELECT total(state IN (1, 4, 5) OR (finished_s IS NULL AND missing IS NOT NULL)),"
    " total(state = 0 AND missing IS NULL), max(CASE WHEN state = 1 THEN finished_s END)"
    " FROM blob JOIN feed ON feed.id = blob.feed WHERE tenant_id = ? AND content_type = ?"
)
_LAST_ERROR = (
    "SELECT blob.last_error FROM blob JOIN feed ON feed.id = blob.feed"
    " WHERE tenant_id = ? AND content_type = ? AND state = 0 AND attempts > 0 ORDER BY next_try_s LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Overview:
    """The blobs of some feeds that the ledger has not forgotten."""

    fetched: int
    waiting: int
    """To be fetched."""
    last_error: str | None
    """Why one of those could not be fetched; None where none has failed."""
    delivered_at: datetime | None
    """When a blob last became delivered."""


def overview_of(connection: Database, feeds: Collection[Feed]) -> Overview:
    """The sums over `feeds`."""
    fetched = waiting = 0
    delivered: list[datetime] = []
    error: str | None = None
    for feed in feeds:
        named = (feed.tenant_id, str(feed.content_type))
        done, known, finished = connection.execute(_SUMS, named).fetchone()
        fetched, waiting = fetched + int(done), waiting + int(known)
        delivered += [at] if (at := instant(finished)) else []
        row = connection.execute(_LAST_ERROR, named).fetchone()
        error = error or (str(row[0]) if row and row[0] else None)
    return Overview(fetched, waiting, error, max(delivered, default=None))


def last_batches(connection: Database) -> dict[str, int]:
    """The last batch that each output has acknowledged, by its name."""
    rows = connection.execute("SELECT name, last_batch FROM output").fetchall()
    return {str(name): int(number) for name, number in rows}


_OF_PREFIX = (
    " FROM blob JOIN feed ON feed.id = blob.feed"
    " WHERE tenant_id = :tenant AND content_id >= :prefix AND content_id < :beyond"
)
# State 2 is quarantined: it may be put back as long as its body is kept.
_WANTED = f"SELECT content_type, content_id{_OF_PREFIX} AND (finished_s IS NULL OR state = 2)"
_RECOVERED_SUMS = (
    "SELECT content_type, total(records), total(duplicates), total(finished_s IS NULL), total(state = 2),"  # noqa: S608 - our own text
    f" total((SELECT count(*) FROM quarantine WHERE quarantine.blob = blob.key)){_OF_PREFIX}"
    " AND substr(content_id, :skip, instr(substr(content_id, :skip), ':') - 1)"
    " IN (SELECT value FROM json_each(:queries)) GROUP BY content_type"
)


@dataclass(frozen=True, slots=True)
class RecoveredSums:
    """What came of the recovered blobs of one content type."""

    records: int
    """Records that were new, and are durable at every output."""
    duplicates: int
    """Records that had been delivered before."""
    blobs_unfinished: int
    """Blobs that still wait, or whose records are in an output's queue."""
    blobs_quarantined: int
    pieces: int
    """Pieces of them in quarantine."""


def wanted_bodies(connection: Database, tenant_id: str, *, prefix: str) -> set[tuple[str, str]]:
    """Content type and content id of each recovered blob whose body may still be asked for."""
    return {(row[0], row[1]) for row in connection.execute(_WANTED, _names(tenant_id, prefix))}


def recovered_sums(
    connection: Database, tenant_id: str, *, prefix: str, queries: Sequence[str]
) -> dict[str, RecoveredSums]:
    """What came of the blobs of `queries`, by content type."""
    values = _names(tenant_id, prefix) | {"skip": len(prefix) + 1, "queries": json.dumps(list(queries))}
    return {row[0]: RecoveredSums(*map(int, row[1:])) for row in connection.execute(_RECOVERED_SUMS, values)}


def _names(tenant_id: str, prefix: str) -> dict[str, object]:
    return {"tenant": tenant_id, "prefix": prefix, "beyond": prefix[:-1] + chr(ord(prefix[-1]) + 1)}


# The bare column beside max() is that of the row with the maximum: so it is written of SQLite.
_TRIED = (
    "SELECT tenant_id, content_type, count(*), blob.last_error, max(next_try_s)"
    " FROM feed JOIN blob ON blob.feed = feed.id AND state = 0 AND finished_s IS NULL AND attempts > 0"
    " GROUP BY feed.id"
)


@dataclass(frozen=True, slots=True)
class TriedInVain:
    """A feed's blobs that wait after at least one failed round of tries."""

    blobs: int
    last_error: str
    """Why the one that waits longest could not be fetched."""


def tried_in_vain(connection: Database) -> dict[Feed, TriedInVain]:
    """Those feeds that have any."""
    return {
        feed_of(tenant_id, content_type): TriedInVain(blobs, str(error or "it was not said why"))
        for tenant_id, content_type, blobs, error, _ in connection.execute(_TRIED).fetchall()
    }


def output_account(connection: Database, output: str) -> tuple[int, int]:
    """The last batch that the output is known to have, and the last number ever given; 0 for none."""
    row = connection.execute("SELECT last_batch FROM output WHERE name = ?", (output,)).fetchone()
    newest = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batch'").fetchone()
    return (int(row[0]) if row else 0, int(newest[0]) if newest else 0)


def quarantined_bodies(connection: Database) -> Iterator[bytes]:
    """The bytes of every piece in quarantine, one at a time."""
    for (body,) in connection.execute("SELECT body FROM quarantine ORDER BY id"):
        yield bytes(body)
