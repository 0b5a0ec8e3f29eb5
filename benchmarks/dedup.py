"""The store of identities when it is large: how fast it answers, what it takes of memory and disk.

It is filled to its size by batches in order of time, as a collector does it: each batch is checked,
committed as delivered and merged. What is counted then are more identities, first in order, then
with every tenth up to three days late. The making of identities is not counted.
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console

from benchmarks.figures import Judgement, show_judgements
from benchmarks.outcome import Line, Outcome, asked_of, missed_of
from m365watch.common.clock import SystemClock
from m365watch.common.model import BatchPart, BlobKey, ContentType, Feed, Receipt, TenantId, Window
from m365watch.ledger.bloom_filter import FilterSizes
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.records.identity import IDENTITY_BYTES

IDS = 50_000_000
_MORE = 1_000_000
_BATCH_PARTS, _PART_IDS = 60, 100
_MINUTES = 7 * 24 * 60
_LATE_MINUTES = 3 * 24 * 60
_LATE_SHARE = 0.1
_OUTPUT = "measured"
_TENANT = TenantId("3f2504e0-4f89-41d3-9a0c-0305e82c3301")
_FEED = Feed(_TENANT, ContentType.GENERAL)
_MB = 1e6


@dataclass(slots=True)
class DedupFigures:
    """What a store of `ids` identities takes, and how many it checks in a second of wall time."""

    ids: int
    load_before: float
    filling_per_s: float = 0.0
    in_order_per_s: float = 0.0
    late_per_s: float = 0.0
    memory_bytes: int = 0
    """What the process took at most beyond what it had before the store was opened."""
    disk_bytes: int = 0
    found_again: int = 0
    """Of `_PART_IDS` old identities brought by another blob, how many were duplicates."""


def measure_dedup(ids: int = IDS, *, more: int = _MORE) -> DedupFigures:
    """The figures of a new store, filled with `ids` identities; 3 minutes for 50 million."""
    figures = DedupFigures(ids, os.getloadavg()[0])
    before_bytes = _peak_bytes()
    now = SystemClock().now()
    with (
        tempfile.TemporaryDirectory(prefix="m365watch-bench-") as folder,
        closing(_open(Path(folder), now)) as ledger,
    ):
        store = _Store(ledger, now)
        figures.filling_per_s = store.check(ids, late_share=0.0, minutes=range(_MINUTES))
        last = range(_MINUTES, _MINUTES + 60)
        figures.in_order_per_s = store.check(more, late_share=0.0, minutes=last)
        figures.late_per_s = store.check(more, late_share=_LATE_SHARE, minutes=last)
        figures.found_again = store.check_again()
        figures.disk_bytes = sum(path.stat().st_size for path in Path(folder).glob(f"{LEDGER_FILE}*"))
    figures.memory_bytes = _peak_bytes() - before_bytes
    return figures


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _open(folder: Path, now: datetime) -> SqliteLedger:
    sizes = FilterSizes(None, None)
    ledger = SqliteLedger(folder, outputs=frozenset({_OUTPUT}), now=now, front_filter=sizes)
    ledger.commit_listing(_FEED, Window(now - timedelta(hours=1), now), [], complete=True, at=now)
    return ledger


class _Store:
    """A ledger that batches are put through, with nothing but their identities in them."""

    def __init__(self, ledger: SqliteLedger, now: datetime) -> None:
        self._ledger = ledger
        self._now = now
        self._dice = random.Random(1)
        self._blob = 0
        self._sample: list[bytes | None] = []

    def check(self, count: int, *, late_share: float, minutes: range) -> float:
        """Check, commit and merge `count` new identities; how many went through in a second."""
        spent_s = 0.0
        for parts in self._batches(count, late_share, minutes):
            started_s = time.perf_counter()
            opened = self._ledger.open_batch(parts, frozenset({_OUTPUT}))
            self._ledger.commit_delivered(opened.number, _OUTPUT, Receipt(), at=self._now)
            while self._ledger.merge_identities():
                pass
            spent_s += time.perf_counter() - started_s
        return count / spent_s

    def check_again(self) -> int:
        """How many of the first part's identities are known when another blob brings them."""
        opened = self._ledger.open_batch([self._part(self._sample)], frozenset({_OUTPUT}))
        return len(opened.duplicates.get(0, ()))

    def _batches(self, count: int, late_share: float, minutes: range) -> Iterator[list[BatchPart]]:
        batch_ids = _BATCH_PARTS * _PART_IDS
        for first in range(0, count, batch_ids):
            minute = minutes[first * len(minutes) // count]
            made = self._identities(min(batch_ids, count - first), late_share, minute)
            yield [self._part(made[start : start + _PART_IDS]) for start in range(0, len(made), _PART_IDS)]

    def _identities(self, count: int, late_share: float, minute: int) -> list[bytes | None]:
        width = IDENTITY_BYTES - 4
        tails = self._dice.randbytes(count * width)
        late = round(count * late_share)
        heads = [minute - self._dice.randrange(_LATE_MINUTES) for _ in range(late)] + [minute] * (
            count - late
        )
        return [
            max(0, head).to_bytes(4, "big") + tails[place * width : (place + 1) * width]
            for place, head in enumerate(heads)
        ]

    def _part(self, identities: list[bytes | None]) -> BatchPart:
        self._sample = self._sample or identities
        self._blob += 1
        records = [b""] * len(identities)
        outputs = frozenset({_OUTPUT})
        blob = BlobKey(self._blob)
        return BatchPart(blob, _FEED, self._now, records, [], [], outputs, identities=identities)


def show_dedup(*, ids: int, console: Console) -> Outcome:
    """The figures of a store of so many."""
    figures = measure_dedup(ids, more=min(ids, _MORE))
    console.print(f"{ids:,} identities, load before {figures.load_before:.1f}")
    judgements = [
        _at_least("checks/s while it grows", 150_000, figures.filling_per_s),
        _at_least("checks/s in order of time", 150_000, figures.in_order_per_s),
        _at_least("checks/s, 10 % up to 3 days late", 50_000, figures.late_per_s),
        _at_most("memory of the store, MB", 150, figures.memory_bytes / _MB),
        _at_most("bytes an identity on disk", 40, figures.disk_bytes / figures.ids),
    ]
    show_judgements(judgements, console)
    is_exact = figures.found_again == min(ids, _PART_IDS)
    console.print(f"of {_PART_IDS} old records sent again, found: {figures.found_again}")
    memory_mb = figures.memory_bytes / _MB
    lines = (
        Line(f"{ids:,} as they come", f"{figures.filling_per_s:,.0f} checks/s", peak_mb=memory_mb),
        Line("more, in order of time", f"{figures.in_order_per_s:,.0f} checks/s"),
        Line(
            "more, 10 % of them late",
            f"{figures.late_per_s:,.0f} checks/s",
            asked=asked_of(judgements),
            missed=missed_of(judgements),
        ),
    )
    passed = is_exact and all(judgement.passed for judgement in judgements)
    return Outcome(lines, passed, asdict(figures))


def _at_least(figure: str, bound: float, measured: float) -> Judgement:
    return Judgement(figure, f"at least {bound:,.0f}", measured, measured >= bound)


def _at_most(figure: str, bound: float, measured: float) -> Judgement:
    return Judgement(figure, f"at most {bound:,.0f}", measured, measured <= bound)
