"""The file of detections gone while the board looks: it does not read as if nothing had been found."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from asking import ask, board_of, document_of, sources_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.query.data_sources import Sources
from m365watch.common.errors import OutputUnusable
from m365watch.detection.detection_output import FILE_NAME
from m365watch.outputs.lake.spec import LakeSection

GONE = "The file of detections is gone"
NEVER = "no run has had its detections on"


@pytest.fixture
def bereft(collected: Path, tmp_path: Path) -> Iterator[Sources]:
    """A collector's state that lacks the file of detections, beside the lake that has its alerts."""
    sources = sources_of(collected)
    before = sources.settings.state_directory
    shutil.copytree(before, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(f"{FILE_NAME}*"))
    sources.settings = replace(sources.settings, state_directory=tmp_path)
    yield sources
    assert sources.facts is not None
    sources.facts.close()


def asked(sources: Sources, url: str) -> str:
    return asyncio.run(ask(board_of(sources), url)).text


@pytest.mark.parametrize(
    "panel",
    [
        *("overview/figures", "overview/alerts", "health/needs", "health/detections"),
        *("alerts/queue", "alerts/figures", "alert/case", "investigate/alerts"),
    ],
)
def test_a_file_that_is_gone_is_said_wherever_alerts_stand(bereft: Sources, panel: str) -> None:
    """And what makes it anew; nowhere that there were none, or that nobody has looked."""
    text = asked(bereft, f"/panel/{panel}?range=30d&user=ann@contoso.example&alert=0123abcd")

    assert GONE.lower() in text.lower()
    assert NEVER not in text.lower()
    assert "No collector has run" not in text
    assert panel == "overview/figures" or "anew from the lake" in text


def test_what_alerts_only_mark_is_seen_without_them(bereft: Sources) -> None:
    """Records, changes and the course of things: whoever hunts an intruder is not blind by it."""
    changes = asked(bereft, "/panel/exchange/rules?range=30d")
    [who, *_] = re.findall(r"user=([^&\"]+)", changes)
    about = f"range=30d&user={who}"
    records = asked(bereft, f"/panel/investigate/records?{about}")
    [record, *_] = re.findall(r"record=(\d+%3A[^&\"]+)", records)
    shown = asked(bereft, f"/panel/record/record?{about}&record={record}")
    course = asked(bereft, f"/panel/investigate/timeline?{about}")

    assert GONE.lower() not in (changes + records + shown + course).lower()
    assert "New-InboxRule" in changes
    assert unquote(record).partition(":")[2] in shown
    assert "Operations" in course


def test_a_file_that_is_gone_is_no_readiness(bereft: Sources) -> None:
    """A program is told the same, by the API as well."""
    ready = asyncio.run(ask(board_of(bereft), "/readyz"))
    listed = asyncio.run(ask(board_of(bereft), "/api/v1/alerts"))

    assert ready.status == 503
    assert document_of(ready)["parts"][-1] == {
        "name": "alerts",
        "ready": False,
        "code": OutputUnusable.code,
    }
    assert listed.status == 503
    assert GONE.lower() in listed.text.lower()


def test_without_a_lake_nobody_is_promised_one(bereft: Sources) -> None:
    """The ledger knows that detections have run; what makes them anew is a copy."""
    no_lake = tuple(one for one in bereft.settings.outputs if not isinstance(one, LakeSection))
    lone = replace(bereft, facts=None, settings=replace(bereft.settings, outputs=no_lake))

    trouble = asyncio.run(lone.alerts_trouble())

    assert trouble is not None
    assert "copy" in (trouble.fix or "")
    assert "from the lake" not in (trouble.fix or "")


def test_before_the_first_run_nothing_is_gone(bereft: Sources, tmp_path: Path) -> None:
    """A board may look into a lake whose collector keeps its state elsewhere."""
    bereft.settings = replace(bereft.settings, state_directory=tmp_path / "elsewhere")
    view = view_of("range=30d", Access("ann", Role.ADMIN, tenants=None))

    assert asyncio.run(bereft.alerts_trouble()) is None
    assert asyncio.run(bereft.list_alerts(view)) is None
    assert not bereft.has_alerts


def test_a_collector_without_detections_lacks_no_file_of_them(bereft: Sources) -> None:
    """Whoever has switched them off has thrown nothing away."""
    detections = bereft.settings.detections.model_copy(update={"enabled": False})
    bereft.settings = replace(bereft.settings, detections=detections)

    assert asyncio.run(bereft.alerts_trouble()) is None
    assert NEVER not in asked(bereft, "/panel/health/detections?range=30d").lower()
