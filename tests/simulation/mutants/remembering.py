"""Bugs in what is remembered of records that were delivered: merged, filtered, forgotten, learned anew."""

from __future__ import annotations

from mutants.patching import Mutant, Patch

_ADOPTION = "m365watch.runtime.ledger_reconciliation"
_FILTER = "m365watch.ledger.bloom_filter"
_FORGETTING = "m365watch.ledger.sqlite_ledger"
_HELD = "m365watch.ledger.reconciliation_store"
_IDENTITIES = "m365watch.ledger.identity_store"
_SQLITE = "m365watch.ledger.sqlite_ledger"
_UNHURRIED = Patch(
    _FILTER,
    "            self.made += 1\n        return True\n",
    "            self.made += 1\n        return False\n",
)
"""Fills a filter a piece with each round of upkeep; as shipped all of it takes milliseconds."""

MUTANTS = (
    Mutant(
        "merge_forgets_a_row",
        "each step of a merge leaves its last identity behind; seen where a slice ends one too early",
        (
            Patch(
                _IDENTITIES,
                "        self._table.add(some)\n",
                "        self._table.add(some[:-1])\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "merge_not_durable",
        "the batches' copies of the identities go with the first step of their merge, and a crash comes "
        "before the last; seen where a log is cut before what it holds is written",
        (
            Patch(
                _IDENTITIES,
                "        if self._merged + count >= len(self._merging):\n",
                "        if self._merged == 0:\n",
            ),
        ),
        hint=7,
    ),
    Mutant(
        "filter_hit_as_proof",
        "what the filter in front of the table may know counts as known, and nobody looks it up; "
        "seen in a collector with a filter of fixed size",
        (
            Patch(
                _IDENTITIES,
                "        self._note(asked=",
                "        if self._filter is not None and self._filter.answers:\n"
                "            found.update((key, found.get(key, BlobKey(0))) for key in keys)\n"
                "        self._note(asked=",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "filter_answers_too_early",
        "a filter answers before it has read the whole table, so that known records are new",
        (
            Patch(
                _FILTER,
                "            filling.read_to = read_to\n",
                "            filling.read_to = read_to\n            self._bloom = filling.bloom\n",
            ),
        ),
        hint=6,
        lacks=(_UNHURRIED,),
    ),
    Mutant(
        "filter_not_told",
        "what goes into the table later does not go into the filter, so that it is new for ever",
        (
            Patch(
                _FILTER,
                "            self._bloom.update(identities)\n",
                "            self._bloom.update(())\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "forgotten_by_arrival",
        "identities go once a newer blob has arrived, though theirs can still be sent again; "
        "seen where ids are evicted first in, first out",
        (
            Patch(
                _FORGETTING,
                "created_us >= ? OR finished_s IS NULL ORDER BY key LIMIT 1",
                "created_us >= ? OR finished_s IS NULL ORDER BY key DESC LIMIT 1",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "forgotten_within_the_window",
        "blobs are forgotten after 24 hours, and listed for seven days; seen in an adapter that remembers "
        "ids for a day",
        (
            Patch(
                _SQLITE,
                "self._bounds.horizon // _MICROSECOND",
                "timedelta(days=1) // _MICROSECOND",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "one_output_asked",
        "a ledger that knows nothing asks the first output only, and the others get everything twice",
        (Patch(_ADOPTION, "    for output in telling:\n", "    for output in telling[:1]:\n"),),
        hint=1,
    ),
    Mutant(
        "last_piece_learned",
        "of what an output tells, only the last piece is kept",
        (
            Patch(
                _ADOPTION,
                "        reading.keys += self._keys_of(piece)\n",
                "        reading.keys = self._keys_of(piece)\n",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "queue_not_read",
        "a ledger that knows nothing does not look into the queues, so that what waits there is sent twice",
        (Patch(_ADOPTION, "    for name in adopted.queued:\n", "    for name in ():\n"),),
        hint=6,
    ),
    Mutant(
        "adoption_cut_believed",
        "a ledger that knows nothing takes what it was told before a crash for all that there is",
        (
            Patch(
                _HELD,
                "            self._remember(Adoption(Stage.BEGUN))\n",
                "            self._remember(Adoption(Stage.DONE))\n",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "erased_comes_back",
        "a ledger that knows nothing asks what an output holds, and not what was erased there; seen here",
        (
            Patch(
                _ADOPTION,
                "            if isinstance(output, TellsErased) and await",
                "            if output is None and isinstance(output, TellsErased) and await",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "first_tenant_learned",
        "records of files, which do not say whose they are, are taken for the first tenant's",
        (
            Patch(
                _ADOPTION,
                "        tenants = list(dict.fromkeys(self._parts.tenants))\n",
                "        tenants = list(dict.fromkeys(self._parts.tenants))[:1]\n",
            ),
        ),
        hint=12,
    ),
    Mutant(
        "held_dropped_too_early",
        "what outputs were found to hold is forgotten with the next upkeep, and content comes late",
        (
            Patch(
                _HELD,
                "        if now.timestamp() < adoption.at_s + self.horizon.total_seconds():\n",
                "        if now.timestamp() < adoption.at_s:\n",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "copy_believed",
        "a ledger that was put back takes itself for the latest; seen wherever a state file can be restored",
        (
            Patch(
                _HELD,
                "Adoption(Stage.WANTED)).decode()",
                "Adoption(Stage.DONE)).decode()",
            ),
        ),
        hint=8,
    ),
    Mutant(
        "numbers_begin_again",
        "a new ledger numbers its batches from one, which the lake has seen",
        (
            Patch(
                _HELD,
                '            self._raise_sequence("batch", adopted.newest_batch)\n',
                '            self._raise_sequence("batch", 0)\n',
            ),
        ),
        hint=1,
    ),
)
