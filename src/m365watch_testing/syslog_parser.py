"""What a receiver makes of the bytes of one connection: lines, in order, however they were framed."""

from __future__ import annotations

import zlib

_GZIP_WINDOW_BITS = 31
_GZIP_MAGIC = b"\x1f\x8b"
_COUNT_DIGITS_MAX = 10


class SyslogParser:
    """Takes bytes as they come; `lines` has each whole line without its end.

    Three framings may follow one another: a line up to its line feed, a gzip member of such
    lines, and an octet count with its message. A member counts once it is whole, because nobody can
    tell before that it is sound.
    """

    def __init__(self) -> None:
        """Nothing was read yet."""
        self.lines: list[bytes] = []
        self.members = 0
        """How many gzip members were read to their end."""
        self._rest = b""
        self._member: zlib._Decompress | None = None
        self._inflated: list[bytes] = []

    def feed(self, received: bytes) -> None:
        """Read on.

        Raises: ValueError, zlib.error: the bytes are of no framing.
        """
        self._rest += received
        while self._rest:
            before = len(self._rest)
            if self._member is not None:
                self._read_member(self._member)
            elif self._rest[:1] == _GZIP_MAGIC[:1]:
                self._member = zlib.decompressobj(_GZIP_WINDOW_BITS)
            elif self._rest[:1].isdigit():
                self._read_counted()
            else:
                self._read_lines()
            if len(self._rest) == before and self._member is None:
                return

    def _read_member(self, member: zlib._Decompress) -> None:
        self._inflated.append(member.decompress(self._rest))
        self._rest = member.unused_data
        if member.eof:
            *lines, rest = b"".join(self._inflated).split(b"\n")
            if rest:
                raise ValueError("a gzip member ends in the middle of a line")
            self.lines += lines
            self.members += 1
            self._member, self._inflated = None, []

    def _read_counted(self) -> None:
        digits, blank, rest = self._rest.partition(b" ")
        if not blank and len(digits) <= _COUNT_DIGITS_MAX:
            return
        count = int(digits)
        if len(rest) >= count:
            self.lines.append(rest[:count])
            self._rest = rest[count:]

    def _read_lines(self) -> None:
        """Whole lines up to what is framed in another way."""
        start = 0
        while (end := self._rest.find(b"\n", start)) >= 0:
            self.lines.append(self._rest[start:end])
            start = end + 1
            if self._rest[start : start + 1] == _GZIP_MAGIC[:1] or self._rest[start : start + 1].isdigit():
                break
        self._rest = self._rest[start:]
