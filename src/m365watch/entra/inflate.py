"""The body of an answer as its sender meant it, never larger than a bound."""

from __future__ import annotations

import asyncio

from isal import isal_zlib

from m365watch.errors import BadAnswer

_GZIP_OR_ZLIB = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_AWAY_FROM_LOOP_BYTES = 1 << 20
"""Compressed bodies from this size on would hold up the loop for more than a few milliseconds."""

_PARTS_MAX = 1_024
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
    room_bytes = bytes_max
    while body and len(parts) < _PARTS_MAX:
        inflater = isal_zlib.decompressobj(window_bits)
        try:
            part = inflater.decompress(body, room_bytes + 1)
        except isal_zlib.error:  # type: ignore[misc]  # Its stub calls the class an instance.
            raise BadAnswer("the compressed body is damaged", where=where) from None
        room_bytes -= len(part)
        if room_bytes < 0:
            raise BadAnswer(f"the body is larger than {bytes_max} bytes", where=where)
        if not inflater.eof:
            raise BadAnswer("the compressed body is cut short", where=where)
        parts.append(part)
        body = inflater.unused_data
    if body:
        raise BadAnswer(f"the compressed body has more than {_PARTS_MAX} members", where=where)
    return parts[0] if len(parts) == 1 else b"".join(parts)
