"""The truth about what was served, for tests: what a collector must end up with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from m365watch_simulator.feed.blobs import Blob
from m365watch_simulator.feed.copies import identity


@dataclass(frozen=True, slots=True)
class Verdict:
    """How delivered records compare with the truth; a correct collector has three empty lists."""

    missing: list[bytes]
    """Records that were served and not delivered."""
    repeated: list[bytes]
    """Records that were delivered once more than they should."""
    altered: list[bytes]
    """Delivered texts that were never served so."""

    @property
    def flawless(self) -> bool:
        """Whether nothing is missing, repeated or altered."""
        return not (self.missing or self.repeated or self.altered)


@dataclass(slots=True)
class Truth:
    """The distinct records of some blobs, and every text in which each was served."""

    blobs: int = 0
    blobs_out_of_reach: int = 0
    """Blobs that the scenario never hands out."""
    served: int = 0
    """Records in all blobs within reach, duplicates counted each time."""
    unreadable: int = 0
    """Elements that are no JSON; quarantined by a correct collector."""
    texts: dict[bytes, list[bytes]] = field(default_factory=dict)
    """By identity: the texts served, the original first."""
    without_id: Counter[bytes] = field(default_factory=Counter)
    """Records without an Id: each counts."""

    def add(self, blob: Blob, *, within_reach: bool) -> None:
        """Take in what `blob` holds."""
        self.blobs += 1
        if not within_reach:
            self.blobs_out_of_reach += 1
            return
        self.unreadable += blob.unreadable
        for record in blob.records():
            self.served += 1
            name = identity(record)
            if name is None:
                self.without_id[record] += 1
                continue
            known = self.texts.setdefault(name, [])
            if record not in known:
                known.append(record)

    def add_text(self, text: bytes) -> None:
        """Take in another text in which a record was served; one that is not known otherwise is left out."""
        known = self.texts.get(identity(text) or b"")
        if known is not None and text not in known:
            known.append(text)

    def records(self) -> list[bytes]:
        """One text of each distinct record; records without an Id as often as they were served."""
        return [texts[0] for texts in self.texts.values()] + list(self.without_id.elements())

    @property
    def record_count(self) -> int:
        """How many records a correct collector ends up with."""
        return len(self.texts) + self.without_id.total()

    def judge(self, delivered: Iterable[bytes]) -> Verdict:
        """Compare the records that an output holds with the truth, byte for byte."""
        counts: Counter[bytes] = Counter()
        loose: Counter[bytes] = Counter()
        repeated, altered = [], []
        for record in delivered:
            name = identity(record)
            known = self.texts.get(name) if name is not None else None
            if name is None and record in self.without_id:
                loose[record] += 1
                if loose[record] > self.without_id[record]:
                    repeated.append(record)
            elif name is None or known is None or record not in known:
                altered.append(record)
            else:
                counts[name] += 1
                if counts[name] > 1:
                    repeated.append(record)
        missing = [texts[0] for name, texts in self.texts.items() if name not in counts]
        missing += (self.without_id - loose).elements()
        return Verdict(missing, repeated, altered)
