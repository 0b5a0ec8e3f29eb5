"""What every output promises; the contract suite in `testing/` holds each of them to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from m365watch.common.errors import CollectorError
from m365watch.common.missing_files import MissingFiles
from m365watch.common.model import Batch, Receipt, TenantId

OPEN_BYTES_MAX = 48 * 1024 * 1024
"""Bytes of the batches that an output has taken and not acknowledged; one batch is always let through."""


class Output(Protocol):
    """Where batches go. Returning from `deliver` means: durable."""

    name: str
    """The output's name in the configuration; the ledger keeps its progress under it."""
    needs_wide_headers: bool
    """Whether `Batch` has to carry `WideHeader`s."""
    batches_at_once_max: int
    """How many calls of `deliver` may be open together; 1 where returning is quick.

    An output that learns late what is durable (a wire without acknowledgement) takes several.
    """
    waits_on_disk: bool
    """Whether every batch waits in the output's queue on disk until it is durable at the output.

    So for receivers that may be away for hours; others use the disk only when they fall behind.
    """

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """Make ready, and say which batch is the last durable one here (0 for none).

        `last_batch` and `position` are the last receipt that the ledger committed (0 and ""
        at the first start). An output that can undo cuts itself back to that point and
        answers `last_batch`; one that cannot (the lake) answers what it finds, which is at
        most one batch further. Nothing here can be of a batch beyond `newest_batch`, the highest
        number that the ledger has ever given (None where the caller does not know): an output that
        finds such a batch belongs to another ledger, and leaves what it finds as it is.

        Raises: OutputUnusable: a person has to act, and the text says how.
        """
        ...

    async def deliver(self, batch: Batch) -> Receipt:
        """Make every record of `batch` durable, or name it in `Receipt.refused`.

        The calls begin in the order of the batches' numbers, `batches_at_once_max` of them open at
        most. An output with several open takes each batch over, in that order, before its first wait,
        and tries again by itself for as long as it can; where one of its calls raises, the open ones
        after it raise as well, so that the order holds when they are delivered again.

        Raises: OutputUnavailable: nothing of the batch counts; it is delivered again. OutputUnusable: the
        same, where a person has to act.
        """
        ...

    async def flush(self) -> None:
        """Nothing more is coming just now: find out soon, within seconds, what is durable.

        The open calls of `deliver` return or raise in consequence. Nothing to do for most outputs.
        """
        ...

    async def close(self) -> None:
        """Leave in order; nothing that was acknowledged is lost by it."""
        ...


@runtime_checkable
class MayBeAway(Protocol):
    """An output whose receiver may be out of reach at `open`, which is no reason not to start."""

    @property
    def trouble(self) -> CollectorError | None:
        """Why the receiver could not be reached when it was last tried; None if it could."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """An output that can begin with a batch before it is to deliver it."""

    def prepare(self, batch: Batch) -> None:
        """`batch` is delivered next, perhaps: it is not to count for anything before that.

        Called while the batch before it is delivered or committed, once or more often.
        """
        ...


MANY_RECORDS = 2_000
"""A batch of so many is worth getting ready for."""


@runtime_checkable
class Expects(Protocol):
    """An output that takes its time to get ready for much."""

    def expect(self, records: int) -> None:
        """A batch is being filled and has so many records already, at least `MANY_RECORDS`; returns at once.

        It may come to less for this output, or to nothing.
        """
        ...


@runtime_checkable
class TakesViews(Protocol):
    """An output to which records may come as they lie in their blob (`records.views`), if it is alone."""

    takes_views: Literal[True]


@runtime_checkable
class Preloads(Protocol):
    """An output whose libraries take their time to be imported."""

    def preload(self) -> None:
        """Begin with it in a thread; nothing is touched, and what goes wrong is told by `open`."""
        ...


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """Some of the records that an output holds."""

    tenant_id: TenantId | None
    """The tenant that was asked for them; None where the output does not keep that."""
    records: list[bytes]
    """Each as it was delivered."""


@runtime_checkable
class TellsRecords(Protocol):
    """An output that can be asked what it holds, for when its ledger was lost or put back from a copy."""

    async def take_over(self) -> int:
        """Make whole records of what is there, whichever ledger wrote it, before `open`.

        Answers the highest number of a batch that has left its name here; 0 where nothing is held.

        Raises: OutputUnusable: a person has to act, and the text says how.
        """
        ...

    def list_held(self, *, since: datetime) -> AsyncIterator[HeldPiece]:
        """Every record that was delivered after `since`, perhaps older ones too, in pieces of some megabytes.

        What cannot be read is left out with a warning: it is delivered again. Raises: OutputUnusable.
        """
        ...


@dataclass(frozen=True, slots=True)
class MarkedPiece:
    """Some of the marks of what was erased at an output."""

    key: bytes
    """Under which `records.marks.MarkMaker` has made them; the same for all of one output."""
    marks: list[bytes]


@runtime_checkable
class TellsErased(Protocol):
    """An output from which records are erased, and that can tell them when they come again."""

    def list_erased(self) -> AsyncIterator[MarkedPiece]:
        """Marks of all that was erased and is remembered, in pieces. Raises: OutputUnusable."""
        ...


@runtime_checkable
class TellsMissingFiles(Protocol):
    """An output whose files can go missing after it has acknowledged what is in them."""

    async def find_missing_files(self) -> MissingFiles | None:
        """What is missing now; None for nothing. Raises: OutputUnavailable: nobody can say."""
        ...
