"""Batches that an output has not acknowledged: where each of them is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from m365watch.common.model import Batch, Receipt


@dataclass(slots=True)
class Waiting:
    """A batch that the output has not acknowledged."""

    number: int
    batch: Batch | None
    """None while it is on disk alone."""
    is_kept: bool = False
    """Whether it is on disk."""
    is_settled: bool = False
    """Whether it was acknowledged or left out: nothing more is to be done with it."""
    was_handed_over: bool = False
    """Whether the output may have some of it, and so has to get this very batch again, never another."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch that the output is taking."""

    one: Waiting
    batch: Batch
    size_bytes: int
    """Of its records; 0 where the output takes one batch at a time, so that nobody needs to know."""
    task: asyncio.Task[Receipt | None]
    """Ends with None where the batch has nothing for the output: its place is all that it keeps."""
