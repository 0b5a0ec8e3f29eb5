"""A day that passes in minutes: its clock, the tenant that lives through it, the collector beside it.

`python -m benchmarks.day serve ...` and `... collect ...` are the two processes of `benchmarks.soak`.
Every second of the day's clock is some hundredth of a real one, so that a run has as many polls, retries,
rotations and rounds of upkeep as a day has. What is work or waits for the network takes its real time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.service import DIGEST_BYTES, StampedRecords, digest
from m365watch.cli.event_loop import run_in_loop
from m365watch.cli.run.run_display import collect
from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.live_progress import Nothing
from m365watch.cli.terminal.log_output import configure_diagnostics
from m365watch.common.clock import system_random
from m365watch.common.model import ContentType
from m365watch.config.loader import load_settings
from m365watch.runtime.collector import Collector
from m365watch_simulator.feed.copies import identity
from m365watch_simulator.organization.records import SimulatedRecord
from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.scenario import Answer, Behaviour, Call, Rule, Scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running

DAY = timedelta(hours=24)
MORNING = datetime(2026, 11, 17, tzinfo=UTC)
"""When the day begins; a Tuesday like any other."""
HISTORY = timedelta(days=3)
_HISTORY_SHARE = 0.1
"""The part of all records that was there before the day began; what comes late is of them."""
AFTERWARDS = timedelta(hours=4)
"""How much later it is for the last run: longer than any blob waits to be tried again."""
PAIR_BYTES = 2 * DIGEST_BYTES
SCENARIO = Scenario(
    behaviour=Behaviour(appears_late_s=1_800.0),
    rules=(
        Rule(on=(Call.LIST, Call.PAGE, Call.FETCH), answer=Answer.AF429_AS_403, probability=0.01, times=2),
        Rule(on=(Call.TOKEN, Call.LIST, Call.FETCH), answer=Answer.HTML_503, probability=0.01, times=2),
        Rule(on=(Call.LIST, Call.PAGE, Call.FETCH), answer=Answer.RESET, probability=0.01, times=1),
        Rule(on=(Call.FETCH,), answer=Answer.TRUNCATED, share=0.01, times=1),
        Rule(on=(Call.FETCH,), answer=Answer.EMPTY_BODY, share=0.01, times=1),
        Rule(on=(Call.LIST, Call.FETCH), answer=Answer.UNAUTHORIZED, probability=0.003, times=1),
        Rule(on=(Call.PAGE,), answer=Answer.NEXT_PAGE_REFUSED, probability=0.02, times=1),
    ),
)
"""Much goes wrong all day long, all of it passes; records come late, twice, and in blobs that are cut."""


class DayClock:
    """Implements `Clock`: the day passes in `minutes` real ones, and then its end stands still."""

    def __init__(
        self, minutes: float, *, begun_s: float | None = None, later: timedelta = timedelta()
    ) -> None:
        """The day begins at `begun_s` of the machine's monotonic clock, or once `begin` is called."""
        self._factor = DAY.total_seconds() / (60 * minutes)
        self._begun_s = begun_s
        self._later = later

    def begin(self) -> float:
        """Let the day begin now; what other processes are to be given as `begun_s`."""
        self._begun_s = time.monotonic()
        return self._begun_s

    def now(self) -> datetime:
        return MORNING + min(timedelta(seconds=self._passed_s() * self._factor), DAY) + self._later

    def monotonic_s(self) -> float:
        """Goes on in real seconds when the day is over."""
        passed_s = self._passed_s()
        in_day_s = min(passed_s, DAY.total_seconds() / self._factor)
        return in_day_s * self._factor + passed_s - in_day_s

    async def sleep(self, seconds: float) -> None:
        is_over = self._passed_s() * self._factor >= DAY.total_seconds()
        await asyncio.sleep(seconds if is_over else seconds / self._factor)

    def _passed_s(self) -> float:
        return 0.0 if self._begun_s is None else time.monotonic() - self._begun_s


class _DayRecords:
    """A `RecordSource`: a few records of the days before, and all the others in the day itself."""

    def __init__(self, records: int, *, tenant_id: str) -> None:
        before = round(records * _HISTORY_SHARE)
        self._parts = (
            StampedRecords(before, started_at=MORNING, tenant_id=tenant_id, span=HISTORY),
            StampedRecords(records - before, started_at=MORNING + DAY, tenant_id=tenant_id, span=DAY),
        )

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        """The records of [start, end); to be asked once for each hour."""
        return [record for part in self._parts for record in part.records_between(start, end)]


async def serve(records: int, minutes: float, truth: Path) -> None:
    """Answer; a line on the standard input asks for the truth, and its end for an end."""
    clock = DayClock(minutes)

    def source(identity: TenantIdentity, _started_at: datetime) -> _DayRecords:
        return _DayRecords(records, tenant_id=identity.tenant_id)

    settings = SimulationSettings(
        days=HISTORY / timedelta(days=1), scenario=SCENARIO, precompress=True, source=source
    )
    async with simulator_running(settings, clock=clock) as running:
        for content_type in ContentType:
            running.tenants[0].subscriptions.start(str(content_type), running.started_at)
        _say({"input": running.configuration()["inputs"]["office365"], "begun_s": clock.begin()})
        while await asyncio.to_thread(sys.stdin.readline):
            _say(_tell_truth(running, truth, until=clock.now()))


def _tell_truth(running: RunningSimulator, truth: Path, *, until: datetime) -> dict[str, int]:
    """Write the digests of every text that was listed by then, each behind that of its record's identity."""
    publication = running.tenants[0].publication
    publication.make(until - timedelta(days=8), until)
    pairs: set[bytes] = set()
    identities: set[bytes] = set()
    served = blobs = 0
    for content_type in ContentType:
        for blob in publication.blobs(content_type):
            if blob.appears_at > until:
                continue
            blobs += 1
            for record in blob.records():
                name = identity(record) or digest(record)
                pairs.add(name + digest(record))
                identities.add(name)
                served += 1
    truth.write_bytes(b"".join(pairs))
    return {"blobs": blobs, "served": served, "distinct": len(identities)}


def _say(document: dict[str, object] | dict[str, int]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def collect_day(config: Path, minutes: float, begun_s: float, *, once: bool) -> int:
    """The exit code of `m365watch run` under the day's clock; with `once`, of a run after the day."""
    clock = DayClock(minutes, begun_s=begun_s, later=AFTERWARDS if once else timedelta())
    collector = Collector(load_settings(config, environment=os.environ), clock=clock, random=system_random())
    configure_diagnostics(
        line_format=LineFormat.TEXT, level=logging.WARNING, colour=False, board=collector.board
    )
    return run_in_loop(collect(collector, once=once, view=Nothing())).exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one of the two processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    serving, collecting = verbs.add_parser("serve"), verbs.add_parser("collect")
    for verb in (serving, collecting):
        verb.add_argument("--minutes", type=float, required=True)
    serving.add_argument("--records", type=int, required=True)
    serving.add_argument("--truth", type=Path, required=True)
    collecting.add_argument("--config", type=Path, required=True)
    collecting.add_argument("--begun-s", type=float, required=True)
    collecting.add_argument("--once", action="store_true")
    options = parser.parse_args(arguments)
    if options.verb == "collect":
        return collect_day(options.config, options.minutes, options.begun_s, once=options.once)
    asyncio.run(serve(options.records, options.minutes, options.truth))
    return 0


if __name__ == "__main__":
    sys.exit(main())
