"""The records of an alert are found in the lake, wherever its rule has looked."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from m365watch.cli.alerts.evidence import find_evidence
from m365watch.common.timestamps import ms_of
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part
from test_alerts_commands import FORWARD

pytestmark = pytest.mark.slow

SILENT_SINCE = datetime(2026, 11, 1, tzinfo=UTC)


def test_what_a_silence_of_weeks_came_after_is_found(tmp_path: Path) -> None:
    """The alert begins with the silence, whole periods after the last that was seen."""
    times = {"r1": SILENT_SINCE - timedelta(days=20), "r2": SILENT_SINCE}
    part = make_part(
        [
            json.dumps({"Id": name, "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}", "Operation": "C"}).encode()
            for name, at in times.items()
        ],
        outputs=["lake"],
    )
    AuditWriter(tmp_path, app_id="x").append(make_batch(1, [part]))
    first_ms = ms_of(SILENT_SINCE)
    silence = replace(
        FORWARD, tenant=part.feed.tenant_id, first_at_ms=first_ms, last_at_ms=first_ms, evidence=("r1", "r2")
    )

    found = find_evidence(tmp_path, silence)

    assert [one.id for one in found.records] == ["r1", "r2"]
    assert found.why_not == ""


def test_what_is_not_in_the_lake_is_told(tmp_path: Path) -> None:
    """It is no fault of the lake."""
    part = make_part([b'{"Id":"r1","CreationTime":"2026-11-01T00:00:00"}'], outputs=["lake"])
    AuditWriter(tmp_path, app_id="x").append(make_batch(1, [part]))

    found = find_evidence(tmp_path, replace(FORWARD, tenant=part.feed.tenant_id, evidence=("r9",)))

    assert (found.records, found.why_not) == ((), "the lake does not hold them (any more)")
