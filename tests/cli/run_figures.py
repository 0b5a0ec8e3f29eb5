"""Runs as the command line sees them, made up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from m365watch.common.errors import CollectorError
from m365watch.common.model import BlobState, ContentType, Feed, TenantId
from m365watch.common.progress import FeedProgress, RunProgress
from m365watch.ledger.quarantine import KeptPiece, NamedBlob
from m365watch.registry.ports import WaitingBlob
from m365watch.runtime.collector_run import Outcome

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TENANT = TenantId("8b1f6a70-3a0e-4c1b-9f43-8f6f7c2d3e10")
EXCHANGE = Feed(TENANT, ContentType.EXCHANGE)
WAITING = WaitingBlob(EXCHANGE, "20261124$a$b", 3, NOW + timedelta(minutes=5), "got HTTP 503")

BLOB = NamedBlob(
    feed=EXCHANGE,
    content_id="20261124$a$b",
    created_at=NOW,
    expires_at=NOW + timedelta(days=7),
    state=BlobState.WAITING,
    attempts=0,
    next_try_at=None,
    reason=None,
    feed_fix=None,
    missing_outputs=(),
    records=None,
    duplicates=None,
    finished_at=None,
)
PIECE = KeptPiece(
    number=7,
    feed=EXCHANGE,
    content_id="20261124$a$b",
    created_at=NOW,
    blob_state=BlobState.DELIVERED,
    output="files",
    size_bytes=1,
    reason="a line break",
    quarantined_at=NOW,
)


def feed_progress(content_type: ContentType = ContentType.EXCHANGE, **figures: object) -> FeedProgress:
    usual: dict[str, object] = {
        "watermark": NOW - timedelta(minutes=5),
        "listed_at": NOW,
        "blobs_delivered": 1_200,
        "records_delivered": 34_567,
        "records_duplicate": 89,
    }
    return FeedProgress(Feed(TENANT, content_type), **(usual | figures))  # type: ignore[arg-type]


def run_progress(*feeds: FeedProgress, caught_up: bool = True) -> RunProgress:
    return RunProgress(started_at=NOW, feeds=list(feeds), caught_up=caught_up)


def outcome(exit_code: int = 0, **parts: object) -> Outcome:
    usual: dict[str, object] = {"waiting": (), "problems": (), "progress": run_progress(feed_progress())}
    return Outcome(exit_code, **(usual | parts))  # type: ignore[arg-type]


class FakeCollector:
    """Ends at once with what it was given, or waits to be stopped first."""

    def __init__(
        self,
        ending: Outcome | CollectorError,
        *,
        until_stopped: bool = False,
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self._ending = ending
        self._until_stopped = until_stopped
        self._on_start = on_start

    async def run(self, *, once: bool, stop: asyncio.Event) -> Outcome:
        if self._on_start is not None:
            self._on_start()
        if self._until_stopped:
            await stop.wait()
        if isinstance(self._ending, CollectorError):
            raise self._ending
        return self._ending

    def progress(self) -> RunProgress:
        return run_progress() if isinstance(self._ending, CollectorError) else self._ending.progress


class FakeClock:
    """Stands still at `NOW`; sleeping only lets others go first."""

    def now(self) -> datetime:
        return NOW

    def monotonic_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
