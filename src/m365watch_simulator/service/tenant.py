"""One simulated tenant: who it is, what it has published, and what it knows of its caller."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from m365watch.common.clock import Clock
from m365watch.common.model import ContentType
from m365watch_simulator.entra.registration import Registration
from m365watch_simulator.entra.tokens import TokenEndpoint
from m365watch_simulator.feed.blobs import SPAN_MAX, Blob
from m365watch_simulator.feed.listing import Pages, Span
from m365watch_simulator.feed.publication import Publication
from m365watch_simulator.feed.subscriptions import Subscriptions
from m365watch_simulator.feed.throttle import Throttle
from m365watch_simulator.graph.announcements import Announcements
from m365watch_simulator.graph.directory import SimulatedDirectory
from m365watch_simulator.graph.searches import Searches
from m365watch_simulator.service.faults import FaultPlan
from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.scenario import Behaviour, Call
from m365watch_simulator.service.truth import Truth

HISTORY = timedelta(days=8)
"""More than can ever be listed."""


_WEEK = timedelta(days=7)


@runtime_checkable
class _Storyteller(Protocol):
    """A source of records that knows which attacks they hold."""

    def attacks(self, start: datetime, end: datetime) -> Sequence[object]: ...


class SimulatedTenant:
    """A tenant's state behind the service's calls."""

    def __init__(
        self,
        identity: TenantIdentity,
        behaviour: Behaviour,
        *,
        clock: Clock,
        publication: Publication,
        faults: FaultPlan,
        tokens: TokenEndpoint,
        pages: Pages,
        registration: Registration,
    ) -> None:
        """Everything is handed in; the tenant starts without any subscription."""
        self.identity = identity
        self.behaviour = behaviour
        self._clock = clock
        self.publication = publication
        self.faults = faults
        self.tokens = tokens
        self.pages = pages
        self.registration = registration
        self.subscriptions = Subscriptions(behaviour)
        self.throttle = Throttle(behaviour.requests_per_minute)
        self.found = Searches(publication, behaviour, seed=identity.tenant_id)
        self.announcements = Announcements(identity.tenant_id, clock.now())
        self.directory = SimulatedDirectory()

    def adopt(self, identity: TenantIdentity) -> None:
        """Let the application have the credentials of `identity`, as somebody gives them in the portal.

        The tenant and its application stay the ones they are.
        """
        self.identity = identity
        self.tokens.adopt(identity)
        self.registration.adopt(identity)

    async def blobs_between(self, content_type: ContentType, span: Span, *, now: datetime) -> list[Blob]:
        """The blobs that a listing of `span` names at `now`, oldest first; makes what is missing."""
        for hour in self.publication.missing_hours(span.start, min(span.end, now)):
            await asyncio.to_thread(self.publication.make_hour, hour)
        listed = []
        for blob in self.publication.blobs_from(content_type, span.start - SPAN_MAX):
            seen = blob if blob.created_at >= span.start else self._rest(blob, span.start)
            if seen is not None and seen.created_at < span.end and self._is_out(seen, now):
                listed.append(seen)
        return sorted(listed, key=lambda blob: blob.position)

    def _rest(self, blob: Blob, start: datetime) -> Blob | None:
        """What a window that starts inside `blob` names of it, kept so that it can be fetched."""
        rest = blob.cut(start) if self.behaviour.cut_blobs else None
        if rest is not None:
            self.publication.add_cut(rest)
        return rest

    def _is_out(self, blob: Blob, now: datetime) -> bool:
        return blob.appears_at <= now and not self.subscriptions.lost(blob.content_type, blob.created_at)

    def expires_at(self, blob: Blob) -> datetime:
        """From when on the blob cannot be fetched any more."""
        return blob.created_at + timedelta(days=self.behaviour.expiration_days)

    def served(self, content_type: ContentType) -> list[bytes]:
        """The distinct records of that type that a correct collector has by now."""
        return self.truth(content_type).records()

    def attacks(self) -> list[object]:
        """The ground truth about the attacks of the last week; none where the source tells no stories."""
        source, now = self.publication.source, self._clock.now()
        return list(source.attacks(now - _WEEK, now)) if isinstance(source, _Storyteller) else []

    def truth(self, *content_types: ContentType) -> Truth:
        """The truth about everything published up to now; all content types where none is named."""
        now = self._clock.now()
        self.publication.make(min(now - HISTORY, self.publication.started_at), now)
        truth = Truth()
        for content_type in content_types or tuple(ContentType):
            for blob in self.publication.blobs(content_type):
                if self._is_out(blob, now):
                    settled = self.faults.settled(Call.FETCH, blob.content_id, content_type)
                    truth.add(blob, within_reach=not (settled and settled[0].hides_content))
        for text in self.found.texts:
            truth.add_text(text)
        return truth
