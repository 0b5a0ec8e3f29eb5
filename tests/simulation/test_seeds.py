"""The collector against the simulated world, seed after seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from m365watch.testing.simulation import simulate_plan
from m365watch.testing.simulation.faults import Fault, make_plan
from m365watch.testing.simulation.scratch import judge_seed

SEEDS = 300
CHUNK = 25


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_breaks_a_promise(first: int) -> None:
    """Whatever is wrong in the world, and whenever the collector crashes, every promise holds."""
    for seed in range(first, first + CHUNK):
        verdict = judge_seed(seed)
        assert verdict.broken == (), f"./dev simulate --seed {seed}"


def test_a_body_of_forty_megabytes_passes_alone(tmp_path: Path) -> None:
    """It is larger than all that may be in flight, and is delivered all the same."""
    seed = 0
    plan = make_plan(seed, Random(seed))
    verdict = simulate_plan(
        replace(
            plan,
            faults=frozenset({Fault.BIG}),
            outputs=("lake", "devo"),
            bytes_in_flight_max=32 << 20,
            queue_bytes_max=1 << 30,
            big_bytes=40 << 20,
        ),
        tmp_path,
    )

    assert verdict.broken == ()
    assert any(int(line.split()[-2]) > 40 << 20 for line in verdict.history if line.endswith(" bytes"))
