"""The collector against the simulated world, seed after seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from promises import guarantee

from judged_seeds import Verdicts
from m365watch_testing.simulation.faults import Fault, make_plan
from m365watch_testing.simulation.seeds import Verdict, simulate_plan
from m365watch_testing.simulation.ways import Way

SEEDS = 300
CHUNK = 24
QUICK_SEEDS = range(12)
"""At the desk; the others take minutes."""
SLOW_SEEDS = [range(first, first + CHUNK) for first in range(QUICK_SEEDS.stop, SEEDS, CHUNK)]
STRIKES_MIN = {
    Fault.LATE: 25,
    Fault.INCIDENT: 10,
    Fault.SAME_SECOND: 60,
    Fault.CUT_BODIES: 30,
    Fault.PARTIAL_BLOBS: 28,
    Fault.SAME_CONTENT_ID: 15,
    Fault.DUPLICATES: 70,
    Fault.CHANGED_RECORDS: 35,
    Fault.ODD_RECORDS: 40,
    Fault.GARBAGE: 30,
    Fault.POISON: 30,
    Fault.BIG: 35,
    Fault.EDGE: 15,
    Fault.PAGES_EXPIRE: 60,
    Fault.PAGES_REPEAT: 60,
    Fault.FOREIGN_PAGES: 14,
    Fault.NOT_AUTHORISED: 12,
    Fault.DISABLED: 10,
    Fault.THROTTLED: 40,
    Fault.ERRORS: 15,
    Fault.RESETS: 17,
    Fault.SKEW: 20,
    Fault.LEAPS: 20,
    Fault.ASLEEP: 11,
    Fault.AWAY: 18,
    Fault.DAYS: 39,
    Fault.LEDGER_FULL: 7,
    Fault.LEDGER_LOCKED: 8,
    Fault.LEDGER_LOST: 28,
    Fault.LEDGER_PUT_BACK: 15,
    Fault.OUTPUT_FAILS: 8,
    Fault.OUTPUT_DOWN: 20,
    Fault.OUTPUT_HANGS: 12,
    Fault.OUTPUT_FULL: 7,
    Fault.QUEUES_FULL: 8,
    Fault.OUTPUT_REFUSES: 14,
    Fault.WIRE_BREAKS: 6,
    Fault.CRASHES: 75,
    Fault.SMALL_BUDGET: 20,
    Fault.ERASED: 38,
    Fault.NARROW: 42,
}
"""In how many of the seeds each fault takes effect at least: half of what was counted, or what is needed."""
WAYS_MIN = {
    Way.MERGED_TWICE: 110,
    Way.MERGE_IN_STEPS: 95,
    Way.MERGE_CUT: 15,
    Way.FOUND_IN_TABLE: 65,
    Way.FILTER_SPARED: 110,
    Way.FILTER_ERRED: 50,
    Way.FILTER_ANEW: 40,
    Way.BLOBS_FORGOTTEN: 18,
    Way.IDENTITIES_FORGOTTEN: 9,
    Way.MOVED: 8,
    Way.GROWN: 5,
    Way.ADOPTED: 35,
    Way.ADOPTED_QUEUE: 11,
    Way.ADOPTION_CUT: 15,
    Way.LEFT_OUT_AS_HELD: 28,
    Way.HELD_FORGOTTEN: 2,
    Way.COPIED: 22,
}
"""In how many of the seeds the ledger comes by each of its ways at least."""
HALVES_MIN = {"lake": 8, "files": 5, "devo": 15}
"""In how many of the seeds the end of a life leaves half a batch at an output of each kind."""


@pytest.fixture
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    return Verdicts(tmp_path_factory)


@guarantee(1, 32)
@pytest.mark.parametrize(
    "seeds", [QUICK_SEEDS, *(pytest.param(seeds, marks=pytest.mark.slow) for seeds in SLOW_SEEDS)]
)
def test_no_seed_breaks_a_promise(seeds: range, verdicts: Verdicts) -> None:
    """Whatever is wrong in the world, and whenever the collector crashes, every promise holds."""
    assert verdicts.broken(seeds) == []


def test_every_seed_is_judged_once() -> None:
    """Quick or slow."""
    assert [seed for seeds in (QUICK_SEEDS, *SLOW_SEEDS) for seed in seeds] == list(range(SEEDS))


@pytest.mark.slow
def test_every_fault_takes_effect_often_enough(verdicts: Verdicts) -> None:
    """A fault that strikes nobody proves nothing, and nobody would see it."""
    found = verdicts.on(range(SEEDS))
    struck = Counter(fault for one in found for fault in one.struck)
    halves = Counter(name for one in found for name in one.halves)

    assert {fault: struck[fault.value] for fault in Fault if struck[fault.value] < STRIKES_MIN[fault]} == {}
    assert {name: halves[name] for name, least in HALVES_MIN.items() if halves[name] < least} == {}


@pytest.mark.slow
def test_every_way_through_the_ledger_is_taken_often_enough(verdicts: Verdicts) -> None:
    """Identities that never leave memory, and a ledger that never has to learn, would prove nothing."""
    taken = Counter(way for one in verdicts.on(range(SEEDS)) for way in one.ways)

    assert {way: taken[way.value] for way in Way if taken[way.value] < WAYS_MIN[way]} == {}


@pytest.mark.slow
def test_a_body_of_forty_megabytes_passes_alone(tmp_path: Path) -> None:
    """It is larger than all that may be in flight, and is delivered all the same, whatever else is wrong.

    Which histories have it in their time hangs on every call of the ledger's: three of them will do.
    """
    passed = []
    for seed in range(1, 8):
        found = judge_large_body(seed, tmp_path / str(seed))
        assert found.broken == (), seed
        passed += [seed] if has_large_body(found) else []
        if len(passed) == 3:
            break

    assert len(passed) == 3
    assert passed[0] == 1


def judge_large_body(seed: int, folder: Path) -> Verdict:
    """A history with a body of 40 MB, with the other faults of its time but for seed 1."""
    folder.mkdir()
    plan = make_plan(seed, Random(seed))
    others = {Fault.CUT_BODIES, Fault.RESETS, Fault.OUTPUT_FAILS, Fault.WIRE_BREAKS, Fault.CRASHES}
    faults = frozenset({Fault.BIG, *(others if seed > 1 else ())})
    life = replace(
        plan.lives[0], lasts_s=600.0, crash_s=4.0 if seed > 1 else None, off_s=1.0, skew_s=0.0, sleep_s=0.0
    )
    return simulate_plan(
        replace(
            plan,
            faults=faults,
            is_quiet=False,
            lives=(life, replace(life, crash_s=None)),
            span_s=1_200.0,
            spans=dict.fromkeys(faults, ((0.0, 60.0),)),
            outputs=("lake", "devo"),
            routes=(),
            bytes_in_flight_max=32 << 20,
            queue_bytes_max=1 << 30,
            big_bytes=40 << 20,
        ),
        folder,
    )


def has_large_body(verdict: Verdict) -> bool:
    return any(int(line.split()[-2]) > 40 << 20 for line in verdict.history if line.endswith(" bytes"))
