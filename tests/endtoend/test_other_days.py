"""The demo on other days than today; `./dev days` has more of them, and runs any test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S

from tools.days import DAYS


@pytest.mark.slow
@pytest.mark.parametrize("day", ["year-end", "auckland"])
def test_the_demo_finds_every_attack_on_another_day(day: str, tmp_path: Path) -> None:
    """Over midnight and the end of a year, and where a clock is set back while the demo runs."""
    sizes = ("--records-per-day", "300", "--directory", str(tmp_path / "demo"))
    ended = subprocess.run(
        [sys.executable, "-m", "m365watch.cli.main", "demo", *sizes, "--json"],
        env=os.environ | DAYS[day].environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    document = json.loads(ended.stdout)

    started_at = datetime.fromisoformat(document["started_at"])
    assert timedelta(0) <= started_at - DAYS[day].starts_at < timedelta(seconds=PATIENCE_S)
    assert (ended.returncode, document["shortcomings"]) == (0, [])
    assert len(document["attacks"]) >= 10
    assert all(one["alert"] for one in document["attacks"])
