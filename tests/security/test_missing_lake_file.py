"""A data file of the lake goes missing: everybody is told, and a repair brings back each record once."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from forked import run_forked
from patience import PATIENCE_S
from promises import guarantee
from shifted import now

from raw_http import hooked, served
from simulated_tenant import simulated

pytestmark = pytest.mark.slow

ENVIRONMENT = os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}


@dataclass(frozen=True)
class Site:
    """A simulated tenant, and a configuration that collects it into a lake and into files."""

    folder: Path

    def call(self, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        words = (*arguments, "--config", "config.json")
        ended = run_forked("m365watch.cli.main", *words, folder=self.folder, environment=ENVIRONMENT)
        assert "Traceback" not in ended.stderr
        assert ended.returncode == exit_code, ended.stdout + ended.stderr
        return ended

    def files(self) -> list[Path]:
        """The data files of table `audit`, the largest first."""
        found = (self.folder / "lake/audit").glob("day=*/*.parquet")
        return sorted(found, key=lambda path: path.stat().st_size, reverse=True)

    def in_lake(self) -> Counter[str]:
        answer = self.call("query", "SELECT raw FROM audit", "--json", "--limit", "1000000").stdout
        return Counter(_key(row["raw"]) for row in _rows(answer))

    def in_copy(self) -> Counter[str]:
        lines = [
            line
            for path in (self.folder / "copy").glob("*/*.ndjson")
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        return Counter(map(_key, lines))


def _rows(answer: str) -> Sequence[dict[str, Any]]:
    document = json.loads(answer)
    rows: Sequence[dict[str, Any]] = document["rows"] if isinstance(document, dict) else document
    return rows


def _key(record: str) -> str:
    said = json.loads(record)
    return json.dumps([said.get(name) for name in ("Id", "CreationTime", "Operation", "RecordType")])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that has collected what the feed serves of the twelve days before now."""
    with simulated(tmp_path, "--days", "12", "--records-per-day", "30") as document:
        document["outputs"] = {
            "lake": {"type": "lake", "config": {"directory": "lake"}},
            "copy": {"type": "files", "config": {"directory": "copy"}},
        }
        (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
        made = Site(tmp_path)
        made.call("run", "--once")
        yield made


@guarantee(15)
def test_everybody_is_told_of_a_missing_file(site: Site) -> None:
    whole = site.call("audit").stdout
    assert "the ledger and the files of the lake" in whole
    lost = site.files()[0]
    name = lost.relative_to(site.folder / "lake").as_posix()
    kept = lost.rename(site.folder / "aside.parquet")

    said = site.call("run", "--once").stderr
    assert f"{name}" in said
    assert "lake repair" in said

    page, query = site.call("status").stdout, site.call("query", "SELECT raw FROM audit", exit_code=1).stderr
    assert name in page
    assert name in query
    assert all("lake repair" in one for one in (page, query))
    document = json.loads(site.call("status", "--json").stdout)
    (lake,) = [one for one in document["outputs"] if one["name"] == "lake"]
    assert lake["lake_files_missing"]["files"] == 1
    assert lake["lake_files_missing"]["records"] > 0

    metrics = site.call("status", "--metrics").stdout.splitlines()
    assert 'm365watch_lake_files_missing{output="lake"} 1' in metrics
    records = lake["lake_files_missing"]["records"]
    assert f'm365watch_lake_records_missing{{output="lake"}} {records}' in metrics

    audit = site.call("audit", exit_code=1)
    assert name in audit.stdout
    assert "the files of the lake" not in audit.stdout.rpartition("this proves")[2]
    assert not json.loads(site.call("audit", "--json", exit_code=1).stdout)["proven"]

    kept.rename(lost)
    site.call("run", "--once")
    assert name not in site.call("status").stdout
    assert "lake_files_missing" not in site.call("status", "--metrics").stdout


@guarantee(15)
def test_a_run_looks_for_missing_files_once_an_hour(tmp_path: Path) -> None:
    """It reports what has gone since its start. An hour takes 6 s here, and a day longer than patience."""
    environment = hooked("short_hours.py", tmp_path / "hook")
    with served("webhook", tmp_path, output="lake", environment=environment):
        log, lost = tmp_path / "run.out", set[str]()
        until_s = time.monotonic() + PATIENCE_S
        while "lake repair" not in log.read_text(encoding="utf-8"):
            assert time.monotonic() < until_s, lost
            for path in (tmp_path / "lake/audit").glob("day=*/*.parquet"):
                path.unlink()
                lost.add(path.relative_to(tmp_path / "lake").as_posix())
            time.sleep(0.5)
        said = log.read_text(encoding="utf-8")

    assert lost
    assert any(name in said for name in lost)


@guarantee(15)
def test_a_repair_brings_each_record_back_once_and_to_the_lake_alone(site: Site) -> None:
    copied = site.in_copy()
    assert site.in_lake() == copied
    assert set(copied.values()) == {1}
    sums = json.loads(site.call("status", "--json").stdout)["totals"]["records"]
    site.files()[0].unlink()

    repaired = site.call("lake", "repair").stdout
    assert "to be fetched again" in repaired
    left = site.in_lake()
    assert set(left) < set(copied)

    site.call("run", "--once")
    copied_now, held = site.in_copy(), site.in_lake()
    assert set(copied) <= set(copied_now)
    assert set(copied_now.values()) == {1}
    assert held == copied_now
    now = json.loads(site.call("status", "--json").stdout)
    assert now["totals"]["blobs"]["lost"] == 0
    assert now["totals"]["blobs"]["waiting"] == 0
    assert now["totals"]["records"]["delivered"] == held.total() >= sums["delivered"]
    assert "lake" not in [one["name"] for one in now["outputs"]]
    assert "nothing is wrong" in site.call("lake", "check").stdout
    assert "nothing is missing" in site.call("lake", "repair").stdout
    site.call("audit")


@guarantee(15)
def test_what_the_feed_serves_no_more_is_reported_until_a_recovery_has_brought_it(site: Site) -> None:
    today = now().date()
    period = ["--from", f"{today - timedelta(days=11)}", "--to", f"{today - timedelta(days=9)}"]
    site.call("recover", *period)
    copied = site.in_copy()
    assert site.in_lake() == copied
    day = today - timedelta(days=10)
    lost = list((site.folder / "lake/audit" / f"day={day}").glob("*.parquet"))
    assert lost
    for path in lost:
        path.unlink()

    repaired = site.call("lake", "repair", exit_code=1).stdout
    command = f"recover --from {day} --to {day + timedelta(days=1)} --output lake"
    assert command in repaired
    site.call("run", "--once")
    assert command in site.call("status").stdout
    assert "m365watch_lake_records_missing" in site.call("status", "--metrics").stdout
    assert set(site.in_lake()) < set(copied)

    site.call(*command.split())
    copied_now = site.in_copy()
    assert set(copied_now.values()) == {1}
    assert site.in_lake() == copied_now
    assert "recover --from" not in site.call("status").stdout
    assert "m365watch_lake_" not in site.call("status", "--metrics").stdout
