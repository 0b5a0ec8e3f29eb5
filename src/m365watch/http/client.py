"""The body of an answer as its sender meant it, never larger than a bound."""

from __future__ import annotations

import asyncio

from isal import isal_zlib

from m365watch.common.errors import AnswerTooLarge, BadAnswer

_GZIP_OR_ZLIB = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_AWAY_FROM_LOOP_BYTES = 1 << 17
"""Compressed bodies from this size on would hold up the loop: for 2 ms where they are like audit records,
for 0.1 s where they are made to."""

_STEP_BYTES = 1 << 17
"""Compressed bytes that are inflated in one go."""

_MEMBERS_MAX = 1_024
"""Members of one gzip body; a body of empty members could keep a core busy for long."""


async def inflate(body: bytes, encoding: str, *, bytes_max: int, where: str) -> bytes:
    """`body` without its content encoding: gzip or deflate, whole, at most `bytes_max`.

    Raises: BadAnswer for another encoding, a body cut short or damaged, or one that is too large.
    """
    window_bits = _GZIP_OR_ZLIB.get(encoding.strip().lower())
    if window_bits is None:
        raise BadAnswer("the body has a content encoding that was not asked for", where=where)
    if len(body) < _AWAY_FROM_LOOP_BYTES:
        return _inflate_whole(body, window_bits, bytes_max=bytes_max, where=where)
    return await asyncio.to_thread(_inflate_whole, body, window_bits, bytes_max=bytes_max, where=where)


def _inflate_whole(body: bytes, window_bits: int, *, bytes_max: int, where: str) -> bytes:
    parts: list[bytes] = []
    room_bytes, members, at = bytes_max, 0, 0
    inflater = isal_zlib.decompressobj(window_bits)
    while at < len(body):
        if inflater.eof:
            members += 1
            if members == _MEMBERS_MAX:
                raise BadAnswer(f"the compressed body has more than {_MEMBERS_MAX} members", where=where)
            inflater = isal_zlib.decompressobj(window_bits)
        # Bounded, because what a member leaves over of its step is copied.
        step = body[at : at + _STEP_BYTES]
        try:
            part = inflater.decompress(step, room_bytes + 1)
        except isal_zlib.error:  # type: ignore[misc]  # Its stub calls the class an instance.
            raise BadAnswer("the compressed body is damaged", where=where) from None
        room_bytes -= len(part)
        if room_bytes < 0:
            raise AnswerTooLarge(f"the body is larger than {bytes_max:,} bytes", where=where)
        parts.append(part)
        at += len(step) - len(inflater.unused_data)
    if not inflater.eof:
        raise BadAnswer("the compressed body is cut short", where=where)
    return parts[0] if len(parts) == 1 else b"".join(parts)
