"""Known bugs of collectors, put into this one: the simulation has to catch every one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from promises import guarantee

from judged_seeds import Verdicts
from mutants.forks import SECONDS_MAX, first_broken
from mutants.patching import Patch, StalePatch, patched
from mutants.table import MUTANTS, SEEDS

HERE = Path(__file__).parent
MUTANTS_MIN = 15


@pytest.fixture
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    return Verdicts(tmp_path_factory)


@guarantee(1)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_is_caught(name: str, verdicts: Verdicts) -> None:
    """At its hint or within 50 seeds, in none of which the collector without the bug breaks a promise."""
    mutant = MUTANTS[name]
    left = [mutant.hint, *(seed for seed in range(SEEDS) if seed != mutant.hint)]
    caught = None
    while left and caught is None:
        seed = first_broken(name, left)
        assert seed is not None, f"{name} survives: {mutant.does}"
        left = left[left.index(seed) + 1 :]
        if not mutant.lacks or first_broken(name, [seed], is_control=True) is None:
            caught = seed
    assert caught is not None, f"{name} is caught only where its kind of collector fails without the bug too"
    assert verdicts.broken([caught]) == []


@pytest.mark.slow
def test_the_collector_as_shipped_passes_the_same_seeds(verdicts: Verdicts) -> None:
    """A simulation that accuses everybody would catch every mutant."""
    assert verdicts.broken(range(SEEDS)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cursor_past_a_failed_blob", None])
def test_a_mutant_can_be_looked_at(name: str | None) -> None:
    """By a command that ends with 1 where a promise is broken, as the collector's own does with 0."""
    seed = str(MUTANTS["cursor_past_a_failed_blob"].hint)
    words = ("mutants.child", "--mutant", name) if name else ("m365watch_testing.simulation",)
    command = [sys.executable, "-m", *words, "--seed", seed, "--json"]
    told = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)

    assert told.returncode == int(name is not None), told.stderr
    assert bool(json.loads(told.stdout)["broken"]) == (name is not None)


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
