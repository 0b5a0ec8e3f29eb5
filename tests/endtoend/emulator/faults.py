"""Which answer goes wrong, and how: fixed by the order of requests and by names, not by chance."""

from __future__ import annotations

import zlib
from collections import Counter
from enum import Enum, auto
from threading import Lock


class Fault(Enum):
    """What comes in place of the right answer."""

    PAGE_500 = auto()
    THROTTLED_403 = auto()
    THROTTLED_429 = auto()
    DENIED = auto()
    CUT = auto()
    CLOSED = auto()
    PAGE_TOKEN = auto()


_OF_BLOBS: tuple[tuple[Fault, ...], ...] = (
    (),
    (Fault.PAGE_500,),
    (),
    (Fault.THROTTLED_403,),
    (Fault.CUT, Fault.CUT),
    (),
    (Fault.DENIED,),
    (Fault.CLOSED, Fault.PAGE_500),
    (Fault.THROTTLED_429,),
)
"""What each blob meets before it is served, by its name."""

_OF_LISTINGS = {
    2: Fault.PAGE_500,
    6: Fault.THROTTLED_403,
    10: Fault.CUT,
    14: Fault.DENIED,
    18: Fault.CLOSED,
    22: Fault.THROTTLED_429,
}
"""By how many pages of a content type were asked for; far enough apart that a listing gets through."""


class Faults:
    """Counts requests and says which of them goes wrong."""

    def __init__(self) -> None:
        self.met: Counter[Fault] = Counter()
        self._lock = Lock()
        self._listings: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._expired: set[str] = set()

    def of_blob(self, content_id: str) -> Fault | None:
        with self._lock:
            sequence = _OF_BLOBS[zlib.crc32(content_id.encode()) % len(_OF_BLOBS)]
            place = self._asked[content_id]
            self._asked[content_id] += 1
            return self._count(sequence[place] if place < len(sequence) else None)

    def of_listing(self, content_type: str, *, is_first_page: bool) -> Fault | None:
        """The second page of each type's first listing is refused, as if its token were too old."""
        with self._lock:
            if not is_first_page and content_type not in self._expired:
                self._expired.add(content_type)
                return self._count(Fault.PAGE_TOKEN)
            self._listings[content_type] += 1
            return self._count(_OF_LISTINGS.get(self._listings[content_type]))

    def _count(self, fault: Fault | None) -> Fault | None:
        if fault is not None:
            self.met[fault] += 1
        return fault
