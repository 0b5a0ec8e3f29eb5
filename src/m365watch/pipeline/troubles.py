"""What is wrong with an output just now: kept in the ledger for `status`, told once a change."""

from __future__ import annotations

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, NeedsOperator
from m365watch.ledger.thread import LedgerCalls
from m365watch.registry.outputs import MayBeAway, Output
from m365watch.registry.port import Ledger

_log = structlog.get_logger(__name__)


class OutputTrouble:
    """One output's present error."""

    def __init__(self, output: Output, *, ledger: Ledger, calls: LedgerCalls, clock: Clock) -> None:
        """None yet, as far as anybody knows; the ledger may still hold one of an earlier run."""
        self.text: str | None = None
        """The error, in a full sentence; None if there is none."""
        self._output = output
        # Asked once: a look at a protocol takes 15 us, and a lane asks several times a batch.
        self._away = output if isinstance(output, MayBeAway) else None
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._is_cleared = False

    @property
    def away(self) -> CollectorError | None:
        """Why the receiver cannot be reached just now, where the output knows."""
        return None if self._away is None else self._away.trouble

    async def look(self) -> None:
        """Note what the output knows by itself, long before a delivery fails for it."""
        if self.away is not None:
            await self.note(self.away)

    async def note(self, error: CollectorError) -> None:
        """The output cannot write because of `error`; one whose receiver may be away tells so itself."""
        if self.text == str(error):
            return
        self.text = str(error)
        if self._away is None:
            tell = _log.error if isinstance(error, NeedsOperator) else _log.warning
            tell(self.text, code=error.code)
        await self._keep(error)

    async def passed(self) -> None:
        """The output has written."""
        if self.text is not None and self._away is None:
            _log.info(f"output {self._output.name}: goes on")
        if self.text is not None or not self._is_cleared:
            self.text = None
            await self._keep(None)
            self._is_cleared = True

    async def _keep(self, error: CollectorError | None) -> None:
        fix = error.fix if isinstance(error, NeedsOperator) else None
        text = None if error is None else f"{error.where}: {error.what}" if error.where else error.what
        await self._calls(
            self._ledger.note_output_error, self._output.name, text, fix=fix, at=self._clock.now()
        )
