"""What docs/upgrading.md says of versions is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "upgrading.md").read_text(encoding="utf-8")


def test_the_page_names_what_is_kept() -> None:
    """Each file and folder that a version may change."""
    assert {"state/ledger.sqlite", "state/detections.sqlite", "lake/audit"} <= set(
        re.findall(r"`([\w/.]+)`", PAGE)
    )
