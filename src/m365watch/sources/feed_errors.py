"""What is wrong with each feed just now: kept in the ledger for `status`, logged once a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, NeedsOperator, Unreachable
from m365watch.common.model import Feed
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.registry.ports import Ledger

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One feed's present error, in a full sentence."""

    feed: Feed
    text: str
    code: str
    cause: str
    """What all feeds of a tenant have in common if they are in trouble for one reason."""


class Troubles:
    """Notes a feed's error when it comes and when it has passed."""

    def __init__(
        self,
        ledger: Ledger,
        calls: LedgerCalls,
        clock: Clock,
        on_change: Callable[[Trouble], None] | None = None,
    ) -> None:
        """`on_change` hears of every new trouble, besides the log."""
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._on_change = on_change
        self._present: dict[Feed, Trouble] = {}
        self._cleared: set[Feed] = set()

    def present(self) -> list[Trouble]:
        """The feeds in trouble now; one trouble of a whole tenant is named once."""
        distinct = {(one.feed.tenant_id, one.cause): one for one in reversed(self._present.values())}
        return list(distinct.values())

    async def note(self, feed: Feed, error: CollectorError) -> None:
        """The feed could not go on because of `error`."""
        trouble = Trouble(feed, str(error), error.code, _cause(feed, error))
        if self._present.get(feed) == trouble:
            return
        known = any(
            (other.feed.tenant_id, other.cause) == (feed.tenant_id, trouble.cause)
            for other in self._present.values()
        )
        self._present[feed] = trouble
        await self._calls(self._ledger.note_error, feed, error, at=self._clock.now())
        if known:
            return
        tell = _log.error if isinstance(error, NeedsOperator) else _log.warning
        tell(trouble.text, code=error.code)
        if self._on_change is not None:
            self._on_change(trouble)

    async def forget(self, feed: Feed) -> None:
        """The feed is not collected any more: its error is nobody's."""
        self._present.pop(feed, None)
        self._cleared.discard(feed)
        await self._calls(self._ledger.note_error, feed, None, at=self._clock.now())

    async def passed(self, feed: Feed) -> None:
        """The feed goes on."""
        trouble = self._present.pop(feed, None)
        # The ledger may still hold an error of an earlier run.
        if trouble is None and feed in self._cleared:
            return
        await self._calls(self._ledger.note_error, feed, None, at=self._clock.now())
        self._cleared.add(feed)
        if trouble is not None:
            _log.info(f"{feed}: goes on")


def _cause(feed: Feed, error: CollectorError) -> str:
    """Its cure; without one its words, which count for the whole tenant where nothing of it is reached.

    The window or blob that an error names is another one at every try, and makes no other trouble.
    """
    if isinstance(error, NeedsOperator):
        return error.fix
    if isinstance(error, Unreachable):
        return error.what
    place = str(feed) if error.where.startswith(str(feed)) else error.where
    return f"{place}: {error.what}"
