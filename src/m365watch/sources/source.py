"""Where the blobs of a run come from: Microsoft's listings, or another place that stands in for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from m365watch.common.model import Feed, KnownBlob
from m365watch.ledger.thread import LedgerCalls
from m365watch.registry.port import Ledger


class Source(Protocol):
    """Makes blobs known to the ledger until there are no more."""

    async def run(self, *, stop: asyncio.Event) -> None:
        """Return once every blob of the source is known; each is fetched meanwhile.

        Raises: CollectorError: the run cannot go on.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceMeans:
    """What a source works with."""

    ledger: Ledger
    calls: LedgerCalls
    wake: Callable[[Feed], None]
    """To be called once the ledger knows new blobs of a feed."""
    wait_idle: Callable[[], Awaitable[None]]
    """Returns once everything known is delivered, queued or put off."""
    wait_fetched: Callable[[], Awaitable[None]]
    """Returns once everything known is fetched or put off; deliveries may still be under way."""


@dataclass(frozen=True, slots=True)
class OtherSources:
    """What a run collects from in place of Microsoft's listings."""

    start: Callable[[SourceMeans], Sequence[Source]]
    concerns: Callable[[KnownBlob], bool]
    """Which due blobs belong to the run; the others are left to `m365watch run`."""
