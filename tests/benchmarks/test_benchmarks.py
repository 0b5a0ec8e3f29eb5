from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def run_quickly(*options: str) -> tuple[int, dict[str, Any]]:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options, "--quick", "--runs", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert finished.stdout, finished.stderr.decode()
    return finished.returncode, json.loads(finished.stdout)


@pytest.mark.slow
def test_a_quick_run_measures_and_counts_every_contender_asked_for() -> None:
    """Each contender has delivered all 2,000 records once, or there would be no figures."""
    code, report = run_quickly("collector", "--only", "plain", "--only", "files")

    assert code == 0
    assert [(row["name"], row["records"]) for row in report["rows"]] == [("plain", 2_000), ("files", 2_000)]
    for row in report["rows"]:
        [cost] = row["costs"]
        assert cost["wall_s"] > 0
        assert cost["cpu_s"] > 0
        assert 20e6 < cost["peak_bytes"] < 1e9
    assert report["judgements"] == []


@pytest.mark.slow
def test_records_of_several_tenants_are_counted_with_each_step() -> None:
    """A step's tenants have all the records between them, and its line says what it costs to have more."""
    _, report = run_quickly("tenants")

    assert [line["case"] for line in report["lines"]] == [
        "files, 1 tenant",
        "files, 10 tenants",
        "lake, 1 tenant",
        "lake, 10 tenants",
    ]
    assert [service["records"] for service in report["services"]] == [2_000, 2_000]
    assert all(line["cpu_us"] > 0 for line in report["lines"])
