"""A process that is a mutant: seed after seed until one breaks a promise.

The exit code is 1 where a promise was broken.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from m365watch_testing.simulating import parser_of_simulate, seeds_asked_for
from mutants.patching import StalePatch, install
from mutants.table import MUTANTS, SEEDS

if TYPE_CHECKING:
    from m365watch_testing.simulation.seeds import Verdict


def main() -> int:
    """Whether some seed found a broken promise."""
    parser = parser_of_simulate()
    asked = parser.parse_args()
    if asked.mutant not in MUTANTS:
        parser.error(f"--mutant is one of {', '.join(sorted(MUTANTS))}")
    if asked.jobs > 1:
        parser.error("a mutant runs its seeds one after the other")
    seeds = seeds_asked_for(asked, default=SEEDS)
    verdicts = judge_mutant(asked.mutant, seeds, is_control=asked.control, goes_on=asked.all)
    from m365watch_testing.simulation.__main__ import tell

    tell(verdicts, is_alone=len(seeds) == 1, as_json=asked.json)
    return int(any(verdict.broken for verdict in verdicts))


def judge_mutant(
    name: str, seeds: Sequence[int], *, is_control: bool = False, goes_on: bool = False
) -> list[Verdict]:
    """The verdicts as far as the first that is broken; from now on this process is that mutant.

    Raises: StalePatch: the shipped code is not what the mutant was made for.
    """
    mutant = MUTANTS[name]
    patches = mutant.lacks if is_control else (*mutant.lacks, *mutant.patches)
    finder = install(patches, mutant=name)
    # Only now: what is to be patched must not have been imported before.
    from m365watch_testing.simulation.scratch import judge_seed

    verdicts = []
    for seed in seeds:
        verdicts.append(judge_seed(seed))
        if verdicts[-1].broken and not goes_on:
            break
    if finder.missing:
        raise StalePatch(f"mutant {name}: nobody imports {', '.join(finder.missing)}")
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
