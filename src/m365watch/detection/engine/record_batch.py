"""Records that came together, as they go past the rules: all of them, or those that one may match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from m365watch.common.model import Header
from m365watch.common.timestamps import ms_of
from m365watch.detection.engine.lazy_decoder import Written
from m365watch.detection.engine.rule_matcher import Kind, kinds_of
from m365watch.detection.rules.condition_compiler import read_ms

OLDEST = timedelta(days=14)
"""A record that claims to be older says nothing about how long its tenant has been watched."""


class Incoming(Protocol):
    """Records of one tenant that came together, as the engine takes them."""

    @property
    def tenant(self) -> str:
        """Whose they are."""
        ...

    @property
    def received_at(self) -> datetime:
        """When they came; stands in for a time that cannot be read."""
        ...

    @property
    def records(self) -> Sequence[Written]:
        """Those that may match; the others may be among them."""
        ...

    @property
    def kinds(self) -> Iterable[Kind]:
        """The kind of each of `records`."""
        ...

    @property
    def count(self) -> int:
        """How many came, those that no rule can match included."""
        ...

    @property
    def earliest_ms(self) -> int | None:
        """The earliest time of all that came, without those that claim to be very old."""
        ...


@dataclass(frozen=True, slots=True)
class Portion:
    """Records of one tenant that came together, all of them."""

    tenant: str
    received_at: datetime
    records: Sequence[bytes]
    headers: Sequence[Header]
    """Of each record."""

    @property
    def kinds(self) -> Iterable[Kind]:
        """The kind of each record."""
        return kinds_of(self.headers)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.records)

    @property
    def earliest_ms(self) -> int | None:
        """The earliest time of the records, without those that claim to be very old."""
        oldest_ms = ms_of(self.received_at - OLDEST)
        times = [header.CreationTime for header in self.headers if header.CreationTime]
        found = read_ms(min(times, default=""))
        if found is not None and found >= oldest_ms:
            return found
        known = [at_ms for written in set(times) if (at_ms := read_ms(written)) is not None]
        return min((at_ms for at_ms in known if at_ms >= oldest_ms), default=None)


class Part(msgspec.Struct, array_like=True):
    """The same without the records that no rule can match; fit to be sent to another process."""

    tenant: str
    received_at: datetime
    count: int
    earliest_ms: int | None
    different: Mapping[int, Kind]
    """The kinds of the records, each once, by numbers of the sender's."""
    numbers: Sequence[int]
    """The number of each record's kind."""
    records: Sequence[memoryview]
    """They are sent as they are; who receives them sees them where they were read to."""

    @property
    def kinds(self) -> Iterable[Kind]:
        """The kind of each record."""
        return map(self.different.__getitem__, self.numbers)
