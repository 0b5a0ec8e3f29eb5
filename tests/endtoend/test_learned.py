"""What a real run learned is told by `status` and `drift`, also after it has ended."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from commands import Ended, command, scene_in


@pytest.mark.slow
def test_what_a_run_learned_outlives_it(tmp_path: Path) -> None:
    """Latency of every step in the document and the metrics, and the names that came, with their blobs."""

    async def main() -> list[Ended]:
        async with scene_in(tmp_path, records_per_day=40) as scene:
            await scene.run_once()
            config = ("--config", str(scene.file))
            return [
                await command("status", *config, "--json"),
                await command("status", *config, "--metrics"),
                await command("drift", *config, "--json", "--all", "--limit", "5000"),
                await command("status", *config),
            ]

    status, metrics, drift, page = asyncio.run(main())
    series = json.loads(status.out)["latency"]["series"]
    families = {family.name for family in text_string_to_metric_families(metrics.out)}
    names = json.loads(drift.out)["names"]

    assert {one["step"] for one in series} == {"published", "listed", "fetched", "delivered", "all"}
    assert {one["output"] for one in series} == {None, "files", "lake", "detections"}
    assert all(sum(one["ever"]["buckets"]) == one["ever"]["count"] > 0 for one in series)
    assert {"m365watch_latency_seconds", "m365watch_feed_lag_seconds"} <= families
    assert {one["kind"] for one in names} == {"record_type", "operation", "field"}
    assert all(one["content_id"] and one["count"] for one in names)
    assert not any(one["new"] for one in names)
    assert "happened to delivered by lake" in page.out
