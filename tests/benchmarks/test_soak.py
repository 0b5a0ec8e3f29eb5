from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S

from benchmarks.day import DAY, MORNING, DayClock
from benchmarks.service import digest
from benchmarks.soak import Kept, Report, Sample, judge, judge_output, quarters
from m365watch_simulator.feed.copies import identity

FLAT = 100.0


def sample(minute: int, *, process: int = 1, memory_mb: float = FLAT, wal_mb: float = 4.0) -> Sample:
    return Sample(
        hour=minute / 60,
        process=process,
        memory_mb=memory_mb,
        handles=40,
        threads=12,
        ledger_mb=1.0,
        wal_mb=wal_mb,
        queue_mb=0.0,
        lag_s=300.0,
        records=minute,
    )


def failed(memory_mb: Callable[[int], float], *, kept: Kept | None = None, wal_mb: float = 4.0) -> list[str]:
    """What does not pass after a day of looks, one a minute."""
    report = Report(minutes=5)
    report.samples = [sample(minute, memory_mb=memory_mb(minute), wal_mb=wal_mb) for minute in range(400)]
    report.kept = [kept or Kept("files", 10, 10, 0, 0)]
    return [judgement.figure for judgement in judge(report) if not judgement.passed]


def test_what_fills_up_in_the_first_quarter_and_then_stays_is_flat() -> None:
    """Caches fill; what matters comes afterwards."""
    assert failed(lambda minute: min(FLAT, 20.0 + minute)) == []


def test_what_goes_on_growing_is_not_flat() -> None:
    """A fifth from the second quarter to the last."""
    assert failed(lambda minute: FLAT + minute * 0.12) == ["memory, last quarter to second"]


def test_a_write_ahead_log_without_a_bound_fails() -> None:
    """It is written back into the ledger before it is that large."""
    assert failed(lambda _: FLAT, wal_mb=100.0) == ["the ledger's WAL, MB"]


@pytest.mark.parametrize(
    "kept", [Kept("lake", 9, 9, 1, 0), Kept("lake", 11, 10, 0, 0), Kept("lake", 10, 10, 0, 1)]
)
def test_a_record_that_is_missing_twice_there_or_altered_fails(kept: Kept) -> None:
    """However flat the rest is."""
    assert failed(lambda _: FLAT, kept=kept) == ["lake: missing, twice, altered"]


def test_the_quarters_are_those_of_the_longest_life() -> None:
    """Collectors that were ended early would hide what grows."""
    looks = [sample(minute, process=1) for minute in range(4)]
    looks += [sample(minute, process=2) for minute in range(4, 12)]

    assert [[one.records for one in part] for part in quarters(looks)] == [[4, 5], [6, 7], [8, 9], [10, 11]]


def test_an_output_is_compared_text_by_text(tmp_path: Path) -> None:
    """What is missing, there twice, or another text of a record that was served."""
    served = [b'{"Id":"%d","Operation":"Read"}' % number for number in range(3)]
    truth = tmp_path / "truth"
    truth.write_bytes(b"".join((identity(record) or b"") + digest(record) for record in served))
    (tmp_path / "out" / "exchange").mkdir(parents=True)
    other = served[1].replace(b'"Id":"1",', b'"Id": "1", ')
    held = tmp_path / "out" / "exchange" / "1.ndjson"
    held.write_bytes(b"\n".join([served[0], served[0], other]) + b"\n")

    assert judge_output("files", tmp_path, truth) == Kept("files", 3, 2, 1, 1)


def test_the_day_passes_in_minutes_and_then_stands_still() -> None:
    """Before it begins it is morning; its pauses are as much shorter as it is."""
    clock = DayClock(0.002)
    before = clock.now()
    clock.begin()
    began_s = time.monotonic()
    asyncio.run(clock.sleep(DAY.total_seconds()))
    took_s = time.monotonic() - began_s

    assert before == MORNING
    assert 0.1 < took_s < PATIENCE_S
    assert clock.now() == MORNING + DAY
    assert DayClock(0.002, begun_s=0.0, later=timedelta(hours=4)).now() == MORNING + DAY + timedelta(hours=4)
