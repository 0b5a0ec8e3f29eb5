from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_sender_is_measured_and_its_records_are_counted() -> None:
    """Each has delivered every record once, or there would be no figures; so few are not judged."""
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "senders", "--records", "2000", "--runs", "1", "--json"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert finished.returncode == 0, finished.stderr.decode()
    report = json.loads(finished.stdout)
    assert [(row["name"], row["records"]) for row in report["rows"]] == [
        ("ours", 2_000),
        ("ours, gzip", 2_000),
        ("devo-sdk", 2_000),
        ("devo-sdk, zip", 2_000),
    ]
    assert all(row["costs"][0]["cpu_s"] > 0 for row in report["rows"])
