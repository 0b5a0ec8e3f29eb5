"""What a ledger says, for commands that only look; works beside a running collector."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m365watch.common.clock import SystemClock
from m365watch.common.errors import LakeUnusable, LedgerUnusable
from m365watch.common.missing_files import MissingFiles
from m365watch.common.model import LOOK_BACK_MAX, BlobRef, BlobState, Feed
from m365watch.common.progress import FeedProgress, RunProgress
from m365watch.config.models.settings import Settings
from m365watch.health.completeness.audit_requests import PROGRESS_NAME
from m365watch.health.completeness.content_gaps import GapsFound, find_gaps
from m365watch.health.completeness.feed_audit import FeedAudit, last_audit
from m365watch.health.completeness.hour_status import FeedHours, find_hours
from m365watch.health.completeness.silence_monitor import silent_feeds
from m365watch.health.config_status import ConfigurationNote, configuration_note
from m365watch.health.expiry.expiry_store import KnownApplication, known_applications
from m365watch.health.tenant_status import LedgerSays, TenantStanding, judge_tenants
from m365watch.ledger.backup import LedgerCheck, OnPages, PutIn, back_up, check_ledger, put_in, require_copy
from m365watch.ledger.blob_states import Absent, read_states
from m365watch.ledger.lock import LOCK_FILE, cure_beside_collector, holder_of
from m365watch.ledger.quarantine import (
    BlobsAsked,
    BlobsFound,
    PiecesAsked,
    PiecesFound,
    PutBack,
    count_pieces,
    drop_pieces,
    hasten,
    kept_pieces,
    named_blobs,
    piece_body,
    put_back,
    read_dropped,
)
from m365watch.ledger.queries import (
    feed_progress,
    first_expiries,
    last_batch,
    ledger_for_reading,
    output_progress,
    remembered,
    require_ledger,
    tried_in_vain,
)
from m365watch.ledger.queries import waiting_blobs as read_waiting_blobs
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.outputs.lake.spec import LakeSection
from m365watch.pipeline import latency, schema_drift
from m365watch.pipeline.latency import LatencyBook
from m365watch.pipeline.schema_drift import Vocabulary
from m365watch.registry.ports import WaitingBlob
from m365watch.sources import throttling
from m365watch.sources.throttling import ThrottlingBook
from m365watch.storage.database import Database

if TYPE_CHECKING:
    from m365watch.lake.integrity_errors import Cause


def read_status(settings: Settings, *, now: datetime) -> RunProgress:
    """The figures of every feed, from the ledger alone; works beside a running collector.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        feeds = feed_progress(connection, now)
        return RunProgress(
            started_at=now,
            feeds=feeds,
            outputs=[
                replace(output, safe_until=_safe_until(connection, output.name, feeds, settings))
                if output.last_error
                else output
                for output in output_progress(connection)
            ],
            pieces_dropped=read_dropped(connection).pieces,
        )


def _safe_until(
    connection: Database, output: str, rows: list[FeedProgress], settings: Settings
) -> datetime | None:
    """When the service may first drop a record of a feed that goes to `output`, which does not have it.

    Known blobs say when they expire; what is not listed yet was created after the watermark.
    """
    others = settings.excluded_outputs
    feeds = {feed for feed in feeds_of(settings) if output not in others.get(feed.tenant_id, ())}
    ends = [row.watermark + LOOK_BACK_MAX for row in rows if row.feed in feeds and row.watermark]
    ends += [at for feed, at in first_expiries(connection, output).items() if feed in feeds]
    return min(ends, default=None)


def has_had_records(settings: Settings, lake: Path) -> bool:
    """Whether the ledger has delivered anything to the lake; to one that is no output any more it has."""
    names = [one.name for one in settings.outputs if isinstance(one, LakeSection) and one.folder == lake]
    with suppress(LedgerUnusable):
        if not names:
            return True
        with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
            return last_batch(connection, names[0]) > 0
    return False


def refuse_lost_lake(settings: Settings, lake: Path) -> None:
    """Nothing, where the lake is there, is new, or is closed to this user, which whoever opens it says.

    Raises: LakeUnusable: the ledger has delivered to it, and it is gone.
    """
    from m365watch.lake.delta.table_files import is_made, require_open
    from m365watch.lake.schema import AUDIT
    from m365watch.lake.store import table_store

    try:
        require_open(lake)
    except LakeUnusable:
        return
    is_made(table_store(lake, AUDIT), is_acknowledged=has_had_records(settings, lake))


def acknowledged_in(settings: Settings, lake: Path) -> dict[str, int]:
    """By the names under which the lake keeps it, the last batch that the ledger has delivered there.

    Nothing of a lake that is no output any more, or without a ledger.
    """
    from m365watch.outputs.lake.lake_output import app_id_of

    outputs = [one for one in settings.outputs if isinstance(one, LakeSection) and one.folder == lake]
    try:
        with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
            return {
                app_id_of(one.name, settings.collector_name): last_batch(connection, one.name)
                for one in outputs
            }
    except LedgerUnusable:
        return {}


def fault_of_lake(settings: Settings, lake: Path) -> Cause | None:
    """What is wrong with the logs of a lake: a batch is missing, or one cannot be read.

    None too where this user may not see that, which whoever opens it says.
    """
    try:
        from m365watch.lake.delta.table_files import missing_batch
        from m365watch.lake.integrity_errors import Cause
    except ImportError:
        return None  # A start and `check` say which package is missing.
    try:
        return missing_batch(lake, acknowledged_in(settings, lake))
    except LakeUnusable as error:
        return Cause(error.what, error.fix or "")
    except OSError:
        return None


def find_missing_files(settings: Settings) -> dict[str, MissingFiles | None]:
    """By output, what is missing now at each lake whose files this user can see; looks at every file."""
    try:
        from m365watch.lake.missing_files import find_missing
        from m365watch.lake.writer.table_writer import WRITE_FAILURES
    except ImportError:
        return {}
    now, found = SystemClock().now(), dict[str, MissingFiles | None]()
    for output in settings.outputs:
        if isinstance(output, LakeSection):
            with suppress(*WRITE_FAILURES):  # That it cannot be read is told by `fault_of_lake`.
                found[output.name] = find_missing(output.folder, now=now)
    return found


def read_tenants(settings: Settings, *, now: datetime) -> list[TenantStanding]:
    """How every tenant of the settings and of the ledger stands at `now`, the worst first.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    inputs = {
        Feed(tenant.tenant_id, content_type): tenant.input_name
        for tenant in settings.tenants
        for service in tenant.services
        if (content_type := service.service.content) is not None
    }
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        says = LedgerSays(feed_progress(connection, now), tried_in_vain(connection), silent_feeds(connection))
    return judge_tenants(inputs, says, now=now)


def read_configuration(settings: Settings) -> ConfigurationNote | None:
    """What became of the configuration in the last run, or becomes of it in this one.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return configuration_note(connection)


def who_collects(settings: Settings) -> str | None:
    """Who holds the ledger, by pid and host; None if no collector runs, or if that cannot be seen."""
    with suppress(OSError):
        return holder_of(settings.state_directory / LOCK_FILE)
    return None


def read_latency(settings: Settings) -> LatencyBook:
    """How long records took on their way, as the collector last remembered it.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return LatencyBook.of_body(remembered(connection, latency.MEMORY))


def read_throttling(settings: Settings) -> ThrottlingBook:
    """How often Microsoft asked for fewer requests, as the collector last remembered it.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return ThrottlingBook.of_body(remembered(connection, throttling.MEMORY))


def read_expiry(settings: Settings) -> list[KnownApplication]:
    """What is known of the ends of credentials, as the collector last remembered it.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return known_applications(connection)


def read_vocabularies(settings: Settings) -> list[Vocabulary]:
    """The vocabulary of each tenant of the settings, as the collector last remembered it.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    tenants = dict.fromkeys(tenant.tenant_id for tenant in settings.tenants)
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return [
            Vocabulary.of_body(tenant_id, remembered(connection, schema_drift.MEMORY + tenant_id))
            for tenant_id in tenants
        ]


def read_audits(settings: Settings) -> dict[Feed, FeedAudit]:
    """The last audit of each feed that the settings name and that was audited, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        found = {feed: last_audit(connection, feed) for feed in feeds_of(settings)}
    return {feed: audit for feed, audit in found.items() if audit is not None}


def read_gaps(
    settings: Settings, *, now: datetime, days: int, feeds: Sequence[Feed] | None = None
) -> GapsFound:
    """The hours without content of the last `days`, from the ledger alone; of all feeds, or of `feeds`.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return find_gaps(connection, feeds_of(settings) if feeds is None else feeds, now=now, days=days)


def read_hours(settings: Settings, feeds: Sequence[Feed], hours: range, *, now: datetime) -> list[FeedHours]:
    """What is known of each hour (since 1970) of these feeds, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return find_hours(connection, feeds, hours, now=now)


def read_audit_progress(settings: Settings) -> dict[str, Any]:
    """How far the running collector is with an audit: `number`, `windows`, `feeds`, `feeds_all`, if at all.

    Raises: LedgerUnusable.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        body = remembered(connection, PROGRESS_NAME)
    return {} if body is None else dict(json.loads(body))


def read_blob_states(settings: Settings, feed: Feed, refs: Sequence[BlobRef]) -> list[BlobState | Absent]:
    """Where blobs stand, in their order.

    Raises: LedgerUnusable.
    """
    return read_states(settings.state_directory / LEDGER_FILE, feed, refs)


def is_collector_running(settings: Settings) -> bool:
    """Whether another process holds the ledger.

    Raises: LedgerUnusable: there is no ledger yet, or its lock cannot be looked at.
    """
    path = settings.state_directory / LEDGER_FILE
    require_ledger(path)
    try:
        return holder_of(path.with_name(LOCK_FILE)) is not None
    except OSError as error:
        raise LedgerUnusable(
            f"it cannot be seen who holds the ledger ({error.strerror or error})",
            where=str(path),
            fix=cure_beside_collector(error),
        ) from error


def feeds_of(settings: Settings) -> list[Feed]:
    """The feeds that the settings name."""
    return [
        Feed(tenant.tenant_id, content_type)
        for tenant in settings.tenants
        for service in tenant.services
        if (content_type := service.service.content_type) is not None
    ]


def feeds_named(settings: Settings, *, feed_part: str) -> tuple[list[Feed], list[Feed]]:
    """The feeds whose name has `feed_part` in it, in any case, and all there are: in settings and ledger.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        known = [row.feed for row in feed_progress(connection, SystemClock().now())]
    every = list(dict.fromkeys([*feeds_of(settings), *known]))
    return [feed for feed in every if feed_part.lower() in str(feed).lower()], every


def waiting_blobs(settings: Settings) -> list[WaitingBlob]:
    """The blobs that wait for a retry, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return read_waiting_blobs(connection)


def find_blobs(settings: Settings, asked: BlobsAsked) -> BlobsFound:
    """The blobs that are `asked` for, by name, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return named_blobs(connection, asked)


def find_pieces(settings: Settings, *, feed_part: str, count_max: int) -> PiecesFound:
    """What is in quarantine, without its bytes, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return kept_pieces(connection, feed_part=feed_part, count_max=count_max)


def read_piece(settings: Settings, number: int) -> bytes | None:
    """The bytes of one piece in quarantine, as they came; None where there is no such piece.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return piece_body(connection, number)


def count_meant(settings: Settings, asked: PiecesAsked) -> tuple[int, int]:
    """How many pieces in quarantine are meant, and their bytes.

    Raises: LedgerUnusable: there is no ledger yet; LedgerUnavailable.
    """
    return count_pieces(settings.state_directory / LEDGER_FILE, asked)


def drop_quarantined(settings: Settings, asked: PiecesAsked) -> int:
    """Remove pieces from quarantine for good; works beside a running collector. How many.

    Raises: LedgerUnusable: there is no ledger yet; LedgerUnavailable.
    """
    return drop_pieces(settings.state_directory / LEDGER_FILE, asked, at=SystemClock().now())


def hasten_waiting(settings: Settings, *, feed_part: str) -> int:
    """Make blobs that wait due now; works beside a running collector. How many.

    Raises: LedgerUnusable: there is no ledger yet; LedgerUnavailable.
    """
    return hasten(settings.state_directory / LEDGER_FILE, feed_part=feed_part)


def retry_quarantined(settings: Settings, *, feed_part: str, numbers: Sequence[int] = ()) -> PutBack:
    """Let quarantined blobs wait again, so that the next run fetches them.

    Raises: LedgerHeld: a collector is running; LedgerUnusable: there is no ledger yet; LedgerUnavailable.
    """
    path, now = settings.state_directory / LEDGER_FILE, SystemClock().now()
    return put_back(path, feed_part=feed_part, now=now, numbers=numbers)


def back_up_ledger(settings: Settings, target: Path, *, on_pages: OnPages) -> LedgerCheck:
    """Copy the ledger to `target`, beside a running collector; what a look at the copy found.

    Raises: LedgerUnusable: there is no ledger yet, or it cannot be copied.
    """
    return back_up(settings.state_directory / LEDGER_FILE, target, on_pages=on_pages)


def restore_ledger(settings: Settings, source: Path, *, on_pages: OnPages) -> PutIn:
    """Put the copy `source` in the ledger's place.

    Raises: LedgerHeld: a collector is running; LedgerUnusable: the copy is not sound.
    """
    path = settings.state_directory / LEDGER_FILE
    return put_in(path, source, now=SystemClock().now(), on_pages=on_pages)


def check_ledger_of(settings: Settings, file: Path | None, *, on_step: Callable[[], None]) -> LedgerCheck:
    """Look at the whole ledger, or at the copy in `file`.

    Raises: LedgerUnusable: there is none, or it cannot be read.
    """
    if file is not None:
        require_copy(file)
    return check_ledger(file or settings.state_directory / LEDGER_FILE, on_step=on_step)
