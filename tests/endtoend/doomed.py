"""A collector in a process of its own that ends itself with SIGKILL at an exact moment.

Called as `doomed.py FOLDER SHIFT_S MOMENT`: the configuration lies in the folder, the clock
is shifted by so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from m365watch.common.clock import system_random
from m365watch.common.model import Batch, Receipt
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.pipeline.batcher import BatchBounds
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import Output, Prepares
from m365watch.runtime import collector as app
from m365watch.runtime import collector_run as collection
from m365watch_testing.clock import ShiftedClock
from place import Place

BATCH_BYTES = 4 * 1024 * 1024
"""A quarter of the usual, so that several batches are soon filled; files of a megabyte end within one."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When the process ends: around a delivery of one output."""

    output: str
    delivery: int
    """Counted from 1 in each process."""
    durable: bool
    """Whether the output has written the batch by then; the ledger never knows it yet."""
    others_committed: bool = False
    """Whether every other output's share of the batch is in the ledger by then."""

    def text(self) -> str:
        """The moment as an argument of this program."""
        return json.dumps(asdict(self))


class DoomedOutput:
    """An output that ends its process at `moment`, if that is of its name; it gets records as lakes do."""

    takes_views: Literal[True] = True

    def __init__(self, output: Output, moment: Moment, *, ledger: Path, others: frozenset[str]) -> None:
        self.name = output.name
        self.needs_wide_headers = output.needs_wide_headers
        self.batches_at_once_max = output.batches_at_once_max
        self.waits_on_disk = output.waits_on_disk
        self._output = output
        self._moment = moment
        self._ledger = ledger
        self._others = others if moment.others_committed else frozenset()
        self._deliveries = 0

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        return await self._output.open(last_batch=last_batch, position=position, newest_batch=newest_batch)

    def prepare(self, batch: Batch) -> None:
        if isinstance(self._output, Prepares):
            self._output.prepare(batch)

    async def deliver(self, batch: Batch) -> Receipt:
        self._deliveries += 1
        last = self.name == self._moment.output and self._deliveries == self._moment.delivery
        if last and not self._moment.durable:
            await self._die(batch.number)
        receipt = await self._output.deliver(batch)
        if last:
            await self._die(batch.number)
        return receipt

    async def flush(self) -> None:
        await self._output.flush()

    async def close(self) -> None:
        await self._output.close()

    async def _die(self, number: int) -> None:
        while not self._others_have(number):
            await asyncio.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)

    def _others_have(self, number: int) -> bool:
        ledger = sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True)
        try:
            committed = dict(ledger.execute("SELECT name, last_batch FROM output").fetchall())
        finally:
            ledger.close()
        return all(committed.get(other, 0) >= number for other in self._others)


async def collect(folder: Path, shift_s: float, moment: Moment) -> int:
    """The exit code of a run that comes to its end."""
    collection.LARGE_BATCHES = BatchBounds(size_bytes=BATCH_BYTES)
    settings = Place(folder).settings(json.loads((folder / "m365watch.json").read_text()))
    names = frozenset(output.name for output in settings.outputs)

    clock, random, name = ShiftedClock(shift_s), system_random(1), settings.collector_name

    def build(wanted: OutputSettings) -> Output:
        output = app.make_output(wanted, clock=clock, random=random, collector_name=name)
        ledger = settings.state_directory / LEDGER_FILE
        return DoomedOutput(output, moment, ledger=ledger, others=names - {output.name})

    collector = app.Collector(settings, clock=clock, random=random, build_output=build)
    outcome = await collector.run(once=True, stop=asyncio.Event())
    return outcome.exit_code


def main() -> None:
    folder, shift_s, text = sys.argv[1:]
    moment = Moment(**json.loads(text))
    sys.stdout.write("up\n")
    sys.stdout.flush()
    sys.exit(asyncio.run(collect(Path(folder), float(shift_s), moment)))


if __name__ == "__main__":
    main()
