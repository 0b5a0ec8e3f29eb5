"""What a run has from its beginning to its end, whatever of its configuration changes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from m365watch.auth.rotation import Applications
from m365watch.common.clock import Clock
from m365watch.common.collector_events import InputName, Speaker, collector_image
from m365watch.common.model import Feed
from m365watch.common.progress import FeedProgress
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.config.models.webhook import WebhookSection
from m365watch.health.event_log import NoticeBoard, list_secrets
from m365watch.http.client import Session
from m365watch.ledger.lock import LOCK_FILE, LedgerLock
from m365watch.sources.factory import Reach
from m365watch.sources.pull_cycles import PullCycles


class Requests:
    """What is asked of Microsoft and what tokens may do, for the pull cycles of whoever collects just now."""

    def __init__(self, cycles: PullCycles) -> None:
        """Begin with these."""
        self.cycles = cycles

    def count_request(self, feed: str) -> None:
        """One was made on its behalf."""
        self.cycles.count_request(feed)

    def count_throttled(self, feed: str) -> None:
        """One was too many."""
        self.cycles.count_throttled(feed)

    def note_token(self, tenant: TenantSettings, token: str) -> None:
        """A tenant got a new token."""
        self.cycles.granted.note(tenant, token)


@dataclass(slots=True)
class LastingReach:
    """How the feeds are reached: tokens, places and the account of requests stay."""

    reach: Reach
    applications: Applications
    requests: Requests
    webhook: WebhookSection | None


@dataclass(slots=True)
class Lasting:
    """What one collector leaves to the one that takes its place."""

    board: NoticeBoard
    started_at: datetime
    lock: LedgerLock
    """The ledger's, which may be kept between two collectors."""
    before: dict[Feed, FeedProgress] = field(default_factory=dict)
    """How each feed stood when the run began to collect it."""
    session: Session | None = None
    """The connections to Microsoft; None: each collector has its own."""
    reached: LastingReach | None = None
    """How its last collector reached the feeds."""
    was_started: bool = False
    """Whether a collector of the run has begun."""

    def change(self, settings: Settings) -> None:
        """Speak for a collector with these settings from now on."""
        self.board.change(
            speaker_of(settings), hide=list_secrets(settings), heartbeat_s=settings.stats_period_s
        )


def begin_lasting(settings: Settings, *, clock: Clock) -> Lasting:
    """What a run with these settings begins with."""
    board = NoticeBoard(
        speaker_of(settings),
        clock=clock,
        hide=list_secrets(settings),
        heartbeat_s=settings.stats_period_s,
    )
    return Lasting(board, clock.now(), LedgerLock(settings.state_directory / LOCK_FILE))


def speaker_of(settings: Settings) -> Speaker:
    """The speaker for a collector with these settings."""
    inputs = {}
    for tenant in settings.tenants:
        for service in tenant.services:
            if (content_type := service.service.content) is not None:
                feed = Feed(tenant.tenant_id, content_type)
                inputs[str(feed)] = InputName(tenant.input_name, service.service.value)
    return Speaker(
        collector_name=settings.collector_name,
        collector_image=collector_image(settings.collector_image),
        job_id=settings.job_id,
        inputs=inputs,
    )
