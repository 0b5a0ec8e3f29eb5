"""Once an hour, and at each start: whether the files are there that outputs have acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError
from m365watch.common.missing_files import (
    MissingFiles,
    body_of,
    fix_of,
    joined,
    memory_name,
    missing_line,
    missing_of,
)
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.registry.outputs import Output, TellsMissingFiles

_log = structlog.get_logger(__name__)

EVERY_S = 3600.0


class MissingFilesWatch:
    """Keeps the ledger's note of missing files true; reports read that note and no folder."""

    def __init__(
        self, outputs: Sequence[Output], *, ledger: SqliteLedger, calls: LedgerCalls, clock: Clock
    ) -> None:
        """Of `outputs`, those that can tell are asked."""
        self._outputs = [(one.name, one) for one in outputs if isinstance(one, TellsMissingFiles)]
        self._ledger = ledger
        self._calls = calls
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._clock.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Note what is missing now, and log what is new. A look that fails changes nothing."""
        for name, output in self._outputs:
            try:
                await self._look_at(name, await output.find_missing_files())
            except CollectorError as error:
                _log.warning(str(error), code=error.code)

    async def _look_at(self, name: str, found: MissingFiles | None) -> None:
        known = missing_of(await self._calls(self._ledger.remembered, memory_name(name)))
        if known is not None and known.is_removed:
            # The table does not name these files any more: a repair or a recovery ends it.
            found = joined(known, found) if found is not None and not known.files else known
        if found is None:
            if known is not None:
                await self._calls(self._ledger.forget_memory, memory_name(name))
                _log.info(f"output {name}: the missing files of the lake are back")
            return
        _log.error(f"{missing_line(name, found)}; {fix_of(name, found)}")
        if known is None or (known.names, known.files) != (found.names, found.files):
            await self._calls(self._ledger.remember, memory_name(name), body_of(found))
