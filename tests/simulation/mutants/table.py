"""Every mutant by its name."""

from __future__ import annotations

from mutants import delivering, fetching, listing, records, remembering
from mutants.patching import Mutant

SEEDS = 50
"""Within so many every mutant has to be caught."""

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (
        *listing.MUTANTS,
        *fetching.MUTANTS,
        *records.MUTANTS,
        *delivering.MUTANTS,
        *remembering.MUTANTS,
    )
}
