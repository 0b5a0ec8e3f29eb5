"""A process that is a mutant, or the shipped collector: seed after seed until one breaks a promise.

Prints one JSON object; the exit code is 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from mutants.patching import StalePatch, install
from mutants.table import MUTANTS, SEEDS


def main() -> int:
    """Whether some seed found a broken promise."""
    parser = argparse.ArgumentParser(
        prog="./dev simulate", description="Run a known bug in the simulated world."
    )
    parser.add_argument(
        "--mutant", choices=sorted(MUTANTS), metavar="NAME", help=f"one of {', '.join(MUTANTS)}"
    )
    parser.add_argument(
        "--control", action="store_true", help="only what collectors with that bug lack as well"
    )
    parser.add_argument("--all", action="store_true", help="go on after the first seed that breaks a promise")
    parser.add_argument("--history", action="store_true", help="print what happened in such a seed")
    parser.add_argument("seeds", type=int, nargs="*", help=f"in this order; else the first {SEEDS}")
    asked = parser.parse_args()
    mutant = MUTANTS[asked.mutant] if asked.mutant else None
    patches = () if mutant is None else mutant.lacks if asked.control else (*mutant.lacks, *mutant.patches)
    finder = install(patches, mutant=asked.mutant)
    # Only now: what is to be patched must not have been imported before.
    from m365watch.testing.simulation import simulate_seed

    broken: dict[int, tuple[str, ...]] = {}
    tried = 0
    for seed in asked.seeds or range(SEEDS):
        tried += 1
        with tempfile.TemporaryDirectory() as folder:
            verdict = simulate_seed(seed, Path(folder))
        if verdict.broken:
            broken[seed] = verdict.broken
            if asked.history:
                sys.stderr.write("\n".join([*verdict.history, ""]))
            if not asked.all:
                break
    sys.stdout.write(json.dumps({"tried": tried, "broken": broken}) + "\n")
    if finder.missing:
        raise StalePatch(f"mutant {asked.mutant}: nobody imports {', '.join(finder.missing)}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
