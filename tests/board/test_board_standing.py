"""What watches over the board: it lives, it is ready, and its figures."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from channels_configured import slack
from prometheus_client.parser import text_string_to_metric_families
from promises import guarantee

from api_calls import Door
from asking import ask, board_of, document_of
from m365watch.board.access.roles import Scope
from m365watch.board.app.application import Board
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.common.errors import LakeUnusable
from m365watch.notifications.notification_database import FILE_NAME


class BrokenLake:
    """A lake that cannot be opened."""

    async def snapshot(self) -> object:
        raise LakeUnusable("it cannot be read", fix="see to its disk")


@guarantee(45)
def test_what_lives_and_can_be_read_says_so_to_anybody(sources: Sources, tmp_path: Path) -> None:
    """Without a token, and with no figure in it."""
    door = Door(sources, tmp_path)

    assert door.call("/healthz").text == "ok\n"
    ready = door.call("/readyz")
    assert ready.status == 200
    assert document_of(ready) == {
        "ready": True,
        "parts": [
            {"name": "lake", "ready": True, "code": ""},
            {"name": "ledger", "ready": True, "code": ""},
            {"name": "alerts", "ready": True, "code": ""},
        ],
    }


@guarantee(45)
def test_what_cannot_be_read_is_named(sources: Sources, tmp_path: Path) -> None:
    """The lake, the ledger, or both; the board lives all the same."""
    no_lake = board_of(replace(sources, facts=cast("FactsReader", BrokenLake())))
    nothing = board_of(
        replace(
            sources,
            facts=FactsReader(tmp_path / "lake"),
            settings=replace(sources.settings, state_directory=tmp_path),
        )
    )
    for board, codes in (
        (no_lake, {"lake": "lake_unusable", "ledger": "", "alerts": ""}),
        (nothing, {"lake": "lake_missing", "ledger": "ledger_unusable"}),
    ):
        ready = asyncio.run(ask(board, "/readyz"))

        assert ready.status == 503
        assert {one["name"]: one["code"] for one in document_of(ready)["parts"]} == codes
        assert asyncio.run(ask(board, "/healthz")).status == 200


@guarantee(42)
def test_figures_are_scraped_by_address_with_a_token_alone(sources: Sources, tmp_path: Path) -> None:
    """Prometheus finds pods by address; a page whose name was turned to the board has no token."""
    door = Door(sources, tmp_path)
    by_address = {"host": "10.0.0.4:8365"}
    good = by_address | {"authorization": f"Bearer {door.token(Scope.METRICS)}"}
    wrong = by_address | {"authorization": "Bearer m365_wrong"}

    def status(path: str, headers: dict[str, str]) -> int:
        return asyncio.run(ask(door.board, path, headers=headers)).status

    assert [status("/metrics", one) for one in (good, wrong, by_address)] == [200, 421, 421]
    assert [status(one, good) for one in ("/overview", "/api/v1/overview/figures")] == [421, 421]
    assert asyncio.run(ask(board_of(sources), "/metrics", headers=by_address)).status == 421


def test_the_figures_are_those_of_status(board: Board, sources: Sources) -> None:
    """On loopback they are scraped as they are; every family can be read."""
    answer = asyncio.run(ask(board, "/metrics"))

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (one.name, one.labels.get("lot"))
        for family in text_string_to_metric_families(answer.text)
        for one in family.samples
    }
    assert ("m365watch_feed_records_total", "delivered") in found
    assert ("m365watch_read_timestamp_seconds", None) in found


def test_the_figures_are_there_where_the_file_of_notifications_is_damaged(
    sources: Sources, tmp_path: Path
) -> None:
    """All but those of the targets, which fail."""
    state = tmp_path / "state"
    shutil.copytree(sources.settings.state_directory, state)
    (state / FILE_NAME).write_bytes(b"no database at all " * 300)
    targets = {"chat": slack("chat").section}
    detections = sources.settings.detections.model_copy(update={"enabled": True, "notifications": targets})
    settings = replace(sources.settings, state_directory=state, detections=detections)
    text = asyncio.run(ask(board_of(replace(sources, settings=settings)), "/metrics")).text

    assert "m365watch_feed_records_total" in text
    assert 'm365watch_notifications_failing{target="chat"} 1' in text


@guarantee(45)
def test_a_tokens_tenant_has_its_own_figures(sources: Sources, tmp_path: Path) -> None:
    """All feeds of the tenant, and nothing of what all tenants share."""
    door = Door(sources, tmp_path)
    tenant = sources.settings.tenants[0].tenant_id.lower()

    text = door.call("/metrics", door.token(Scope.METRICS, tenants=(tenant,))).text

    assert f'tenant="{sources.settings.tenants[0].tenant_id}"' in text
    assert "m365watch_output" not in text
    assert "m365watch_latency_seconds_count" in text


@guarantee(45)
@pytest.mark.parametrize("path", ["/healthz?x=1", "/readyz?x=1"])
def test_nothing_more_can_be_asked_of_them(board: Board, path: str) -> None:
    """What is not known is refused there, too."""
    assert asyncio.run(ask(board, path)).status == 400
