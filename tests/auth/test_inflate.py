from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.errors import BadAnswer
from m365watch.http.client import inflate

BODY = b'[{"Id":"1"}]' * 1_000


def inflated(body: bytes, encoding: str = "gzip", *, bytes_max: int = 1 << 20) -> bytes:
    return asyncio.run(inflate(body, encoding, bytes_max=bytes_max, where="here"))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(BODY, mtime=0), "gzip"),
        (gzip.compress(BODY, mtime=0), " X-GZIP "),
        (zlib.compress(BODY), "deflate"),
        (gzip.compress(BODY[:500], mtime=0) + gzip.compress(BODY[500:], mtime=0), "gzip"),
    ],
)
def test_a_body_comes_back_as_it_was_meant(body: bytes, encoding: str) -> None:
    """Both encodings of old, and a body of several members."""
    assert inflated(body, encoding) == BODY


def test_a_large_body_comes_back_as_it_was_meant() -> None:
    """It is inflated away from the loop."""
    body = bytes(range(256)) * 8_192

    assert inflated(gzip.compress(body, 0), bytes_max=len(body)) == body


def test_members_may_end_anywhere_in_a_large_body() -> None:
    """A body is taken in steps; a member that ends inside of one costs no more than that step."""
    pieces = [random.Random(number).randbytes(90_000 + 7 * number) for number in range(9)]
    members = [gzip.compress(b"", mtime=0)] * 700 + [gzip.compress(piece, mtime=0) for piece in pieces]

    assert inflated(b"".join(members)) == b"".join(pieces)


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (gzip.compress(BODY, mtime=0)[:-1], "gzip", "cut short"),
        (gzip.compress(BODY, mtime=0)[:40], "gzip", "cut short"),
        (b"<html>" * 20, "gzip", "damaged"),
        (gzip.compress(BODY, mtime=0) + b"junk and more of it", "gzip", "damaged"),
        (BODY, "br", "not asked for"),
        (gzip.compress(b"", mtime=0) * 2_000, "gzip", "members"),
    ],
)
def test_a_body_that_is_not_whole_is_refused(body: bytes, encoding: str, said: str) -> None:
    """Half a blob would be half its records."""
    with pytest.raises(BadAnswer, match=said):
        inflated(body, encoding)


@guarantee(26)
def test_a_bomb_is_refused_at_the_bound() -> None:
    """A small body that would fill the memory is not inflated further than the bound."""
    bomb = gzip.compress(bytes(50 << 20))

    with pytest.raises(BadAnswer, match="larger than 1,048,576 bytes"):
        inflated(bomb)


def test_a_body_of_exactly_the_bound_is_taken() -> None:
    """The bound itself is still allowed."""
    assert inflated(gzip.compress(BODY, mtime=0), bytes_max=len(BODY)) == BODY


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "zstd"]))
def test_any_body_gives_bytes_or_a_bad_answer(body: bytes, encoding: str) -> None:
    """No body brings any other error."""
    with suppress(BadAnswer):
        assert len(inflated(body, encoding, bytes_max=100)) <= 100
