"""Known bugs of collectors, put into this one: the simulation has to catch every one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from mutants.patching import Patch, StalePatch, patched
from mutants.table import MUTANTS, SEEDS

HERE = Path(__file__).parent
SECONDS_MAX = 300
"""For one process, on a machine that has other things to do: a mutant may also go round for ever."""
MUTANTS_MIN = 15


def broken_by(seeds: Sequence[int], *words: str) -> int | None:
    """The first of `seeds` in which a process with the bug that `words` name breaks a promise."""
    module = "mutants.child" if words else "m365watch.testing.simulation"
    named = [word for seed in seeds for word in ("--seed", str(seed))]
    command = [sys.executable, "-m", module, *words, *named, "--json"]
    told = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert told.returncode in {0, 1}, told.stderr
    assert told.stdout, told.stderr
    found = json.loads(told.stdout)
    failed = found["failed"] if "failed" in found else [found] if found["broken"] else []
    return next((int(one["seed"]) for one in failed), None)


@cache
def is_good(seed: int, name: str | None = None) -> bool:
    """Whether the collector keeps every promise in `seed`, with only what the mutant lacks besides."""
    words = () if name is None else ("--mutant", name, "--control")
    return broken_by([seed], *words) is None


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_is_caught(name: str) -> None:
    """Within 50 seeds, in none of which the collector without the bug breaks a promise."""
    mutant = MUTANTS[name]
    left = [mutant.hint, *(seed for seed in range(SEEDS) if seed != mutant.hint)]
    caught = None
    while left and caught is None:
        seed = broken_by(left, "--mutant", name)
        assert seed is not None, f"{name} survives: {mutant.does}"
        left = left[left.index(seed) + 1 :]
        if not mutant.lacks or is_good(seed, name):
            caught = seed
    assert caught is not None, f"{name} is caught only where its kind of collector fails without the bug too"
    assert is_good(caught)


def test_the_collector_as_shipped_passes_the_same_seeds() -> None:
    """A simulation that accuses everybody would catch every mutant."""
    assert broken_by(range(SEEDS)) is None


def test_no_patch_is_stale() -> None:
    """The code goes on; a patch that does not fit any more is made anew, and never skipped."""
    assert len(MUTANTS) >= MUTANTS_MIN
    for mutant in MUTANTS.values():
        sources: dict[str, str] = {}
        for patch in (*mutant.lacks, *mutant.patches):
            source = sources.get(patch.module) or source_of(patch.module)
            sources[patch.module] = patched(source, patch, mutant=mutant.name)


def source_of(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text("utf-8")


@pytest.mark.parametrize("source", ["nothing of it", "one = 1\none = 1\n"])
def test_a_patch_whose_text_is_not_found_exactly_once_is_named(source: str) -> None:
    """Never put anywhere else."""
    with pytest.raises(StalePatch, match=r"mutant \w+: its old text stands [02] times in here"):
        patched(source, Patch("here", "one = 1\n", "one = 2\n"), mutant="some")
