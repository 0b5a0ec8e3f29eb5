"""The demo and whole runs on other days than today; `./dev days` has more of them, and runs any test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S

from tools.days import BEFORE, DAYS, ROOT

WHOLE_RUNS = ("tests/test_detecting.py", "tests/endtoend/test_notifications.py")
"""What collects from a tenant that has lived until now."""


@pytest.mark.slow
def test_the_demo_finds_every_attack_where_the_clock_is_set_back(tmp_path: Path) -> None:
    day = DAYS["auckland"]()
    sizes = ("--records-per-day", "300", "--directory", str(tmp_path / "demo"))
    ended = subprocess.run(
        [sys.executable, "-m", "m365watch.cli.main", "demo", *sizes, "--json"],
        env=os.environ | day.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    document = json.loads(ended.stdout)

    began_at, ended_at = (datetime.fromisoformat(document[key]) for key in ("started_at", "at"))
    assert day.starts_at <= began_at < day.starts_at + timedelta(seconds=PATIENCE_S)
    assert ended_at > day.starts_at + BEFORE
    assert (ended.returncode, document["shortcomings"]) == (0, [])
    assert len(document["attacks"]) >= 10
    assert all(one["alert"] for one in document["attacks"])


@pytest.mark.slow
def test_a_whole_run_is_the_same_over_the_end_of_a_year() -> None:
    """Detection and notifications, which see other attacks on each day."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *WHOLE_RUNS],
        cwd=ROOT,
        env=os.environ | DAYS["year-end"]().environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
