"""A process that is a mutant: seed after seed until one breaks a promise.

The exit code is 1 where a promise was broken.
"""

from __future__ import annotations

import sys

from m365watch.testing.simulating import parser_of_simulate, seeds_asked_for
from mutants.patching import StalePatch, install
from mutants.table import MUTANTS, SEEDS


def main() -> int:
    """Whether some seed found a broken promise."""
    parser = parser_of_simulate()
    asked = parser.parse_args()
    if asked.mutant not in MUTANTS:
        parser.error(f"--mutant is one of {', '.join(sorted(MUTANTS))}")
    if asked.jobs > 1:
        parser.error("a mutant runs its seeds one after the other")
    mutant = MUTANTS[asked.mutant]
    patches = mutant.lacks if asked.control else (*mutant.lacks, *mutant.patches)
    finder = install(patches, mutant=asked.mutant)
    # Only now: what is to be patched must not have been imported before.
    from m365watch.testing.simulation.__main__ import tell
    from m365watch.testing.simulation.scratch import judge_seed

    seeds = seeds_asked_for(asked, default=SEEDS)
    verdicts = []
    for seed in seeds:
        verdicts.append(judge_seed(seed))
        if verdicts[-1].broken and not asked.all:
            break
    tell(verdicts, is_alone=len(seeds) == 1, as_json=asked.json)
    if finder.missing:
        raise StalePatch(f"mutant {asked.mutant}: nobody imports {', '.join(finder.missing)}")
    return int(any(verdict.broken for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
