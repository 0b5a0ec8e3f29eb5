"""Records of real tenants, where this machine has them; they are read in place and never kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hurry import HurriedClock, run_hurried
from m365watch.runtime.collector_run import Outcome
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Truth, Verdict
from place import BOTH, Place, assert_discreet

RECORDS = Path(__file__).resolve().parents[3] / "shared" / "data"
FLAWLESS = Verdict([], [], [])


@dataclass(frozen=True, slots=True)
class Replayed:
    """A run against a file of records."""

    outcome: Outcome
    truth: Truth
    said: str

    def count(self, name: str) -> int:
        return sum(getattr(feed, name) for feed in self.outcome.progress.feeds)


def present(*names: str) -> list[Path]:
    """The files of those names, or those in the folder of that name; skips where they are absent."""
    found = [path for name in names for path in (*RECORDS.glob(name), *RECORDS.glob(f"{name}/*.txt"))]
    files = [path for path in found if path.is_file()]
    if len(files) < len(names):
        pytest.skip(f"no {' and '.join(names)} beside the repository")
    return files


def replay(place: Place, file: Path) -> Replayed:
    """Collect the lines of `file`, spread over six days, into both outputs."""

    async def run() -> Replayed:
        clock = HurriedClock()
        settings = SimulationSettings(seed=5, days=6, records_file=file, page_size=50, live=False)
        async with simulator_running(settings, clock=clock) as running:
            collector = place.collector(running.configuration(outputs=BOTH), clock)
            with capture_logs() as said:
                outcome = await collector.run(once=True, stop=asyncio.Event())
            return Replayed(outcome, running.tenants[0].truth(), str(said))

    return run_hurried(run())


@pytest.mark.parametrize("name", ["records-lab-tenant.ndjson", "records-open.ndjson"])
def test_real_records_arrive_as_they_are(name: str, tmp_path: Path) -> None:
    """Every line once, byte for byte, in files and in the lake; repeated lines count as duplicates."""
    (file,) = present(name)
    place = Place(tmp_path)
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    replayed = replay(place, file)

    assert replayed.outcome.exit_code == 0
    assert replayed.outcome.problems == ()
    assert {name: replayed.truth.judge(held) for name, held in place.holdings().items()} == {
        "files": FLAWLESS,
        "lake": FLAWLESS,
    }
    assert replayed.count("records_delivered") + replayed.count("records_duplicate") == len(lines)
    assert set(place.holdings()["files"]) <= set(lines)
    assert_discreet(replayed.said, secrets=[], records=lines)


def test_what_is_no_record_is_in_quarantine_and_its_neighbours_are_delivered(tmp_path: Path) -> None:
    """Delivered, left out as duplicates, and quarantined account for every line."""
    good, *bad = present("records-lab-tenant.ndjson", "malformed")
    records = good.read_bytes().splitlines()[:300]
    poison = [line for path in bad for line in path.read_bytes().splitlines() if line.strip()]
    mixed = tmp_path / "mixed.ndjson"
    for number, line in enumerate(poison):
        records.insert(number * 50 + 7, line)
    mixed.write_bytes(b"\n".join(records))
    place = Place(tmp_path)
    replayed = replay(place, mixed)

    assert replayed.outcome.exit_code == 0
    assert {name: replayed.truth.judge(held) for name, held in place.holdings().items()} == {
        "files": FLAWLESS,
        "lake": FLAWLESS,
    }
    # Where an element that is no JSON ends in blanks or a comma, nobody can tell whose they are.
    assert sorted(place.quarantined()) == sorted(line.rstrip(b", \t") for line in poison)
    accounted = ("records_delivered", "records_duplicate", "records_quarantined")
    assert sum(map(replayed.count, accounted)) == len(records)
    assert_discreet(replayed.said, secrets=[], records=poison)
