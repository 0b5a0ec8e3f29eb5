"""When what is sent to Devo is compressed, and how: gzip members between the plain lines."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator

from isal import isal_zlib

from m365watch.outputs.devo.line_format_framing import CHUNK_BYTES, join_chunks
from m365watch.outputs.devo.spec import CompressionSettings

_LOOKS = 1000
_WINDOW_BITS = 31  # 15 for the largest window, 16 more for a gzip header
_QUICK_LEVEL = 1
_QUICK_UP_TO = 6


class Gauge:
    """Decides by the fullness of the queue, as Devo's SDK does: the mean of the last 1,000 looks."""

    def __init__(self, settings: CompressionSettings) -> None:
        """No look was taken yet."""
        self._threshold = settings.threshold
        self._looks: deque[float] = deque(maxlen=_LOOKS)

    def look(self, fullness: float) -> bool:
        """Take note of a fullness in [0, 1]; whether to compress now.

        A threshold below 0 means always, above 1 never.
        """
        self._looks.append(fullness)
        return sum(self._looks) / len(self._looks) >= self._threshold


def make_compress(level: int) -> Callable[[bytes], bytes]:
    """The function that makes a whole gzip member; `level` is 1 to 9.

    1 to 6 (Devo's default is 6) are all the same: ISA-L at its level 1. From 7 on it is zlib at that
    level, where size matters more than time. Measured with real records of 1.3 kB in members of 51,200
    bytes, one core: ISA-L 0.9 microseconds a record and a ratio of 10.8; zlib at 6: 8.2 and 12.4,
    at 9: 11.5 and 12.7; zlib-ng at 6: 3.8 and 12.2.
    """
    if level <= _QUICK_UP_TO:
        return lambda lines: isal_zlib.compress(lines, _QUICK_LEVEL, _WINDOW_BITS)
    return lambda lines: zlib.compress(lines, level, _WINDOW_BITS)


def list_compressed(
    lines: Iterator[bytes], compress: Callable[[bytes], bytes], *, member_bytes: int
) -> Iterator[bytes]:
    """Chunks of whole gzip members, each of about `member_bytes` of whole lines."""
    gathered: list[bytes] = []
    size_bytes = 0
    for member in join_chunks(lines, chunk_bytes=member_bytes):
        gathered.append(compress(member))
        size_bytes += len(member)
        if size_bytes >= CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size_bytes = [], 0
    if gathered:
        yield b"".join(gathered)
