"""What every output promises; the contract suite in `testing/` holds each of them to it."""

from __future__ import annotations

from typing import Protocol

from m365watch.model import Batch, Receipt


class Output(Protocol):
    """Where batches go. Returning from `deliver` means: durable."""

    name: str
    """The output's name in the configuration; the ledger keeps its progress under it."""
    needs_wide_headers: bool
    """Whether `Batch` has to carry `WideHeader`s."""

    async def open(self, *, last_batch: int, position: str) -> int:
        """Make ready, and say which batch is the last durable one here (0 for none).

        `last_batch` and `position` are the last receipt that the ledger committed (0 and ""
        at the first start). An output that can undo cuts itself back to that point and
        answers `last_batch`; one that cannot (the lake) answers what it finds, which is at
        most one batch further.

        Raises: OutputUnusable: a person has to act, and the text says how.
        """
        ...

    async def deliver(self, batch: Batch) -> Receipt:
        """Make every record of `batch` durable, or name it in `Receipt.refused`.

        Called with one batch at a time, in the order of their numbers.

        Raises: OutputUnavailable: nothing of the batch counts; it is delivered again.
        """
        ...

    async def close(self) -> None:
        """Leave in order; nothing that was acknowledged is lost by it."""
        ...
