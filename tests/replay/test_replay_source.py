"""A slice of the lake as a blob: what a replay delivers of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from promises import guarantee

from m365watch.common.errors import ContentLost
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.sources.lake_replay import LakeApi, content_id_of, span_of

TENANT = TenantId("11111111-1111-4111-8111-111111111111")
START = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
SPAN = Window(START, START + timedelta(hours=1))
FEED = Feed(TENANT, ContentType.EXCHANGE)
OTHER = Feed(TENANT, ContentType.SHAREPOINT)
RECORDS = [b'{"Id":"1", "caf\\udce9":NaN}', b'{"Id":"2"}']


class OneSlice:
    """A lake that has records of one feed in one span."""

    def spans(self, start: datetime) -> Iterator[Window]:
        yield SPAN

    def read(self, span: Window, *, bounded: bool) -> dict[Feed, list[bytes]]:
        return {FEED: RECORDS} if span == SPAN else {}


def blob_of(feed: Feed) -> BlobRef:
    return BlobRef(feed, content_id_of(SPAN), START, START + timedelta(days=1))


def test_a_slice_is_known_by_its_bounds() -> None:
    """To the microsecond, or records on an edge would come twice or never."""
    assert span_of(blob_of(FEED)) == SPAN


@guarantee(8)
def test_a_slice_is_delivered_byte_for_byte() -> None:
    """After a restart too, where nobody has put its records in."""
    api = LakeApi(TENANT, OneSlice())

    assert asyncio.run(api.fetch_blob(blob_of(FEED))) == b"[" + b",".join(RECORDS) + b"]"


def test_a_slice_that_has_gone_is_lost() -> None:
    """An empty answer would count it as delivered."""
    with pytest.raises(ContentLost):
        asyncio.run(LakeApi(TENANT, OneSlice()).fetch_blob(blob_of(OTHER)))
