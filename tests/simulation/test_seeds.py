"""The collector against the simulated world, seed after seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from m365watch.testing.simulation import simulate_seed

SEEDS = 300
CHUNK = 25


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_breaks_a_promise(tmp_path: Path, first: int) -> None:
    """Whatever is wrong in the world, and whenever the collector crashes, every promise holds."""
    for seed in range(first, first + CHUNK):
        verdict = simulate_seed(seed, tmp_path / str(seed))
        assert verdict.broken == (), f"./dev simulate --seed {seed}"
