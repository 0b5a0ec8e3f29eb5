"""Known bugs of collectors, each put into this one: the simulation has to notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutants.patching import Patch, StalePatch, patched
from mutants.table import MUTANTS, SEEDS

HERE = Path(__file__).resolve().parent
MUTANTS_MIN = 15


def run_child(*arguments: str) -> tuple[int, dict[str, list[str]]]:
    """The exit code of a process that is a mutant, and what it broke by seed.

    A process of its own, because what is patched must not have been imported before.
    """
    finished = subprocess.run(
        [sys.executable, "-m", "mutants.child", *arguments],
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.stdout, finished.stderr
    return finished.returncode, json.loads(finished.stdout)["broken"]


@pytest.mark.parametrize("name", MUTANTS)
def test_every_known_bug_is_caught(name: str) -> None:
    """Within `SEEDS` seeds, in which the shipped collector breaks nothing (`test_seeds.py`).

    Where the mutant also lacks what would mend its harm, that lack alone breaks nothing in the seed.
    """
    mutant = MUTANTS[name]
    assert mutant.hint < SEEDS
    rest = [seed for seed in range(SEEDS) if seed != mutant.hint]
    code, broken = run_child("--mutant", name, *map(str, [mutant.hint, *rest]))

    assert code == 1, f"{name} survives {SEEDS} seeds: {mutant.does}"
    if mutant.lacks:
        assert run_child("--mutant", name, "--control", *broken) == (0, {})


def test_there_are_enough_of_them() -> None:
    """At least those that were seen in the field."""
    assert len(MUTANTS) >= MUTANTS_MIN


def test_a_patch_of_code_that_has_changed_is_refused() -> None:
    """Or a mutant would be the shipped collector, and nobody would know."""
    with pytest.raises(StalePatch, match=r"stands 0 times in some\.module"):
        patched("a = 1\n", Patch("some.module", "b = 2\n", "b = 3\n"), mutant="any")
