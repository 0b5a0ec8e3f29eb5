"""Where the simulated outputs' records are: what is durable, and what goes with a crash, or half of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from m365watch.common.model import TenantId
from m365watch.records.headers import headers_of
from m365watch.records.identity import KEY_BYTES, MarkMaker

MAKER = MarkMaker(b"k" * KEY_BYTES)
"""Makes the marks of what is erased."""


@dataclass(slots=True, eq=False)
class Sent:
    """A batch that was written to a connection; the receiver reads it from its first record on."""

    number: int
    records: list[bytes]
    read: int = 0
    """How many of them the receiver has read."""


@dataclass(slots=True)
class Store:
    """Where an output's records are; outlives it."""

    name: str
    durable: dict[int, list[bytes]] = field(default_factory=dict)
    """The lake's and the files' records, by the number of the batch that brought them."""
    begun: dict[int, list[bytes]] = field(default_factory=dict)
    """What was written of batches that are not durable: bytes behind the last synced one of the files, parts
    of the lake that no commit names."""
    received: Counter[bytes] = field(default_factory=Counter)
    """What the wire's receiver has read, and how often."""
    sent: list[Sent] = field(default_factory=list)
    """What is on the wire, in order, and not proven to have been read."""
    allowed: Counter[bytes] = field(default_factory=Counter)
    """How often more than once each record may have been received: breaks and
    crashes that met it unproven."""
    proven: dict[int, list[bytes]] = field(default_factory=dict)
    """What was sent of batches that the wire has proven, and of which the ledger may have no receipt yet."""
    taken_over: int = 0
    """The last batch that was here when a ledger learned what is here; files have no receipt for it."""
    written_at: dict[int, datetime] = field(default_factory=dict)
    """When a batch became durable, by the collector's clock."""
    is_full: bool = False
    """Whether its disk takes nothing more."""
    half: bool = False
    """Whether the last life left half a batch."""
    erased: Counter[bytes] = field(default_factory=Counter)
    """What was here and was erased, by somebody who wants none of it back."""
    marks: list[bytes] = field(default_factory=list)
    """The marks of that."""

    def records(self, last_batch: int | None = None) -> Counter[bytes]:
        """How often each record is here, or was until it was erased; none behind `last_batch`.

        So what was erased counts as delivered, and makes one too many of what comes back.
        """
        found = self.received + self.erased
        for number, records in self.durable.items():
            if last_batch is None or number <= last_batch:
                found.update(records)
        return found

    def read(self, sent: Sent, count: int) -> None:
        """The receiver reads on in `sent`, until it has `count` of its records."""
        self.received.update(sent.records[sent.read : count])
        sent.read = max(sent.read, count)

    def lose(self, sent: Sent) -> None:
        """The connection broke: what was read of it may come again."""
        self.sent.remove(sent)
        self.allowed.update(sent.records[: sent.read])

    def crash(self, last_batch: int) -> None:
        """The collector is gone: what the ledger has no receipt of may come again.

        The receiver still reads some of what was on its way; of what was being written, a part is there.
        """
        self.half = bool(self.begun) or any(one.read < len(one.records) for one in self.sent)
        for one in sorted(self.sent, key=lambda one: one.number):
            self.read(one, Random(one.number).randint(one.read, len(one.records)))
            is_whole = one.read == len(one.records)
            self.lose(one)
            if not is_whole:
                break
        for one in list(self.sent):
            self.lose(one)
        for number, records in self.proven.items():
            if number > last_batch:
                self.allowed.update(records)
        self.proven.clear()

    def erase(self, share: float, random: Random) -> int:
        """Take out about that share of the durable records, and keep their marks; how many there were."""
        count = self.erased.total()
        for number, records in self.durable.items():
            gone = [record for record in records if random.random() < share]
            self.durable[number] = list((Counter(records) - Counter(gone)).elements())
            self.erased.update(gone)
            for tenant_id, some in by_tenant(gone).items():
                self.marks += MAKER.marks(tenant_id, headers_of(some), some)
        return self.erased.total() - count

    def receipted(self, last_batch: int) -> Counter[bytes]:
        """What the wire's receiver has read of batches that a ledger with `last_batch` knows to be there."""
        found = Counter(self.received)
        for sent in self.sent:
            found.subtract(sent.records[: sent.read])
        for number, records in self.proven.items():
            if number > last_batch:
                found.subtract(records)
        return +found

    def allow_again(self, *, besides: Counter[bytes]) -> None:
        """A ledger that does not know the rest may have it sent once more."""
        self.allowed.update(dict.fromkeys(self.received - besides, 1))


def by_tenant(records: Sequence[bytes]) -> dict[TenantId, list[bytes]]:
    """The records of each tenant, which each of them names."""
    found: dict[TenantId, list[bytes]] = {}
    for record in records:
        tenant_id = TenantId(json.loads(record)["OrganizationId"])
        found.setdefault(tenant_id, []).append(record)
    return found


def torn(records: Sequence[bytes]) -> list[bytes]:
    """`records` as a writer leaves them that stops in the middle of the last one."""
    return [*records[:-1], records[-1][: len(records[-1]) // 2]] if records else []
