"""Bugs between an output and the ledger."""

from __future__ import annotations

from mutants.patching import Mutant, Patch

_DELIVERY = "m365watch.pipeline.output_lane"
_TOLD = (
    "        opened = self._batches._batches.get(number)\n"
    "        if opened is None or output not in opened.waiting_for:\n            return\n"
)
"""The bug has told the ledger before: once is enough."""

MUTANTS = (
    Mutant(
        "buffer_emptied_on_failure",
        "what could not be sent is taken out of the buffer all the same; seen in a sender's library",
        (
            Patch(
                _DELIVERY,
                "        self._waiting.extendleft(open_.one for open_ in reversed(self._open))\n",
                "        for open_ in self._open:\n"
                "            await self._commit(open_.one, None)\n"
                "            if not open_.one.is_kept:\n"
                "                self._means.on_held(open_.one.number, self.output.name)\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "saved_before_delivered",
        "progress is saved before the output has the records, and a crash comes between; "
        "seen in collectors whose state is written by the fetching side",
        (
            Patch(
                _DELIVERY,
                "                task = asyncio.create_task(self._hand_over(batch))\n",
                "                early = Receipt(f'{{\"batch\": {one.number}}}')\n"
                "                await self._means.calls(self._means.ledger.commit_delivered, one.number, "
                "self.output.name, early, at=self._means.clock.now())\n"
                "                task = asyncio.create_task(self._hand_over(batch))\n",
            ),
            Patch(
                "m365watch.ledger.sqlite_ledger",
                "        step = self._batches.step(Happening.ACKNOWLEDGED, number, output)\n",
                f"{_TOLD}        step = self._batches.step(Happening.ACKNOWLEDGED, number, output)\n",
            ),
            Patch(
                "m365watch.ledger.sqlite_ledger",
                "        step = self._batches.step(happening, number, output)\n",
                f"{_TOLD}        step = self._batches.step(happening, number, output)\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "duplicates_overtake",
        "nothing but duplicates counts as delivered at once, while the first copies are on their way; "
        "seen here",
        (
            Patch(
                _DELIVERY,
                "        if not batch.parts or not (batch.record_count or self._waiting or self._open):\n",
                "        if not batch.record_count:\n",
            ),
        ),
        hint=33,
    ),
    Mutant(
        "no_settling_at_start",
        "what an output made durable just before a crash is not asked for, and comes again; "
        "seen wherever sink and state are two stores",
        (
            Patch(
                "m365watch.ledger.sqlite_ledger",
                "                if self.output_position(output).last_batch < number <= "
                "durable.get(output, 0):\n",
                "                if number < 0:\n",
            ),
        ),
        hint=16,
    ),
    Mutant(
        "refused_record_dropped",
        "a record that an output will never take is left out and not kept; seen where a sink's "
        "limits are its own",
        (
            Patch(
                "m365watch.ledger.sqlite_ledger",
                "                    for one in receipt.refused\n",
                "                    for one in ()\n",
            ),
        ),
        hint=6,
    ),
)
