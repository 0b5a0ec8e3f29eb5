"""Bad inputs made of good ones: by bytes, by what the parsers look for, and by making things very many."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (
    b"0", b"-1", b"00", b"1e999", b"-0.0", b"1.5", b"255", b"65536", b"2147483648", b"9223372036854775808",
    b"18446744073709551616", b"9" * 400, b"9" * 5_000, b"1e-400", b"0x41", b"NaN", b"-Infinity", b"1_000",
)  # fmt: skip
ODD = (
    b"\0", b"\r\n", b"\n", b"\r", b"\t", b"\x7f", b"\x85", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"\\udfff", b"\\ud83d\\ude00", "\u202e".encode(), "\u2028".encode(),
    "\U0010ffff".encode(), "ß".encode(), "İ".encode(), "²".encode(), "٣".encode(), b"'", b'"', b"`", b"\\", b"%00",
    b"%", b"%zz", b"%25", b"../", b"//", b"${X}", b"{{", b"}}", b"<", b"&", b";", b",", b":", b"=", b"#", b"?", b"*",
    b"[", b"]", b"{", b"}", b"(", b")", b"null", b"true", b"[]", b"{}", b'""', b"0001-01-01T00:00:00+14:00",
    b"9999-12-31T23:59:59-14:00", b"2026-02-30", b"::1%eth0", b"0.0.0.0/0", b"::ffff:1.2.3.4",
)  # fmt: skip
_NESTING = ((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"- ", b""), (b"<", b">"), (b"{", b"}"))
_NUMBER = re.compile(rb"\d+")
_VERY_MANY = (100, 1_000, 20_000)
_ONCE_IN = 24
"""How seldom something is made very many."""


class Mutator:
    """Makes inputs; with the same chance and the same inputs to start from, the same ones."""

    def __init__(self, random: Random, *, words: Sequence[bytes], bytes_max: int) -> None:
        self._random = random
        self._words = (*words, *ODD, *NUMBERS)
        self._bytes_max = bytes_max
        self._small: tuple[Callable[[bytearray], None], ...] = (
            self._flip, self._cut, self._repeat, self._insert, self._insert, self._replace, self._number,
            self._shorten, self._swap,
        )  # fmt: skip
        self._large = (self._multiply, self._nest, self._widen)

    def mutate(self, given: bytes, others: Sequence[bytes]) -> bytes:
        """Another input, which begins as `given` or is it no longer at all."""
        made = bytearray(given)
        for _ in range(self._random.choice((1, 1, 1, 2, 2, 3, 4, 8))):
            if others and not self._random.randrange(12):
                self._splice(made, self._random.choice(others))
            elif not self._random.randrange(_ONCE_IN):
                self._random.choice(self._large)(made)
            else:
                self._random.choice(self._small)(made)
        return bytes(made[: self._bytes_max])

    def _place(self, made: bytearray) -> int:
        return self._random.randrange(len(made) + 1)

    def _span(self, made: bytearray) -> tuple[int, int]:
        start = self._place(made)
        return start, min(len(made), start + self._random.choice((1, 2, 4, 8, 16, 64, 256)))

    def _flip(self, made: bytearray) -> None:
        if made:
            made[self._random.randrange(len(made))] ^= 1 << self._random.randrange(8)

    def _cut(self, made: bytearray) -> None:
        start, end = self._span(made)
        del made[start:end]

    def _repeat(self, made: bytearray) -> None:
        start, end = self._span(made)
        made[start:start] = made[start:end]

    def _insert(self, made: bytearray) -> None:
        place = self._place(made)
        made[place:place] = self._random.choice(self._words)

    def _replace(self, made: bytearray) -> None:
        start, end = self._span(made)
        made[start:end] = self._random.choice(self._words)

    def _number(self, made: bytearray) -> None:
        found = list(_NUMBER.finditer(made[: 16 << 10]))
        if found:
            start, end = self._random.choice(found).span()
            made[start:end] = self._random.choice(NUMBERS)

    def _shorten(self, made: bytearray) -> None:
        del made[self._place(made) :]

    def _swap(self, made: bytearray) -> None:
        start, end = self._span(made)
        moved = made[start:end]
        del made[start:end]
        place = self._place(made)
        made[place:place] = moved

    def _splice(self, made: bytearray, other: bytes) -> None:
        start = self._random.randrange(len(other) + 1)
        made[self._place(made) :] = other[start:]

    def _multiply(self, made: bytearray) -> None:
        start, end = self._span(made)
        part = bytes(made[start:end]) or self._random.choice(self._words)
        made[start:end] = part * self._times(len(part))

    def _nest(self, made: bytearray) -> None:
        opening, closing = self._random.choice(_NESTING)
        start, end = self._span(made)
        times = self._times(len(opening) + len(closing))
        made[start:end] = opening * times + bytes(made[start:end]) + closing * times

    def _widen(self, made: bytearray) -> None:
        """Many keys, or many lines, each another one."""
        form = self._random.choice((b'"k%d":%d,', b"k%d: %d\n", b"k%d=%d&", b"x-k%d: %d\r\n", b"[%d,%d],"))
        place = self._place(made)
        times = self._times(len(form) + 6)
        made[place:place] = b"".join(form % (number, number) for number in range(times))

    def _times(self, part_bytes: int) -> int:
        return max(1, min(self._random.choice(_VERY_MANY), self._bytes_max // max(part_bytes, 1)))
