"""Alerts as somebody meets them on the board."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from asking import view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages import alerts
from m365watch.board.query.data_sources import Sources
from m365watch.board.widgets.widget_types import Queue
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import set_states
from m365watch.detection.detection_output import FILE_NAME

VIEWER = Access("vera", Role.VIEWER, tenants=None)
EVERY = "range=30d"


@pytest.fixture
def kept(sources: Sources) -> Iterator[KeptAlert]:
    """The worst alert, which is open, whatever another test has made of it, and open again afterwards."""
    path = sources.settings.state_directory / FILE_NAME
    found = asyncio.run(sources.list_alerts(view_of(EVERY)))
    assert found
    [worst] = set_states(path, [found[0].alert.id], AlertState.OPEN, reason="", by="", at_ms=0)
    yield worst
    set_states(path, [worst.alert.id], AlertState.OPEN, reason="", by="", at_ms=0)


async def queue_of(sources: Sources, query: str = EVERY, access: Access | None = None) -> Queue:
    shape = await alerts.queue(view_of(query, *([access] if access else [])), sources)
    assert isinstance(shape, Queue)
    return shape


class AlwaysGate:
    """Everybody is the same person."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def access_of(self, connection: object) -> Access:
        return self._access
