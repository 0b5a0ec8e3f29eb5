"""What docs/upgrading.md says of versions is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from m365watch.detection.store import detection_database as detections
from m365watch.ledger import schema as ledger

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "upgrading.md").read_text(encoding="utf-8")


def test_a_ledger_of_each_earlier_schema_is_kept_for_the_tests() -> None:
    """Whoever raises the version leaves the one before it behind, to be brought up."""
    kept = {path.stem for path in (ROOT / "tests/ledger/schemas").glob("*.sql")}

    assert kept == {f"version-{version}" for version in range(1, ledger.SCHEMA_VERSION)}


def test_detections_of_each_earlier_schema_are_kept_for_the_tests() -> None:
    """The same of the file of the detections."""
    kept = {path.stem for path in (ROOT / "tests/detection/schemas").glob("*.sql")}

    assert kept == {f"version-{version}" for version in range(1, detections.SCHEMA_VERSION)}


def test_the_page_names_what_is_kept() -> None:
    """Each file and folder that a version may change."""
    assert {"state/ledger.sqlite", "state/detections.sqlite", "lake/audit"} <= set(
        re.findall(r"`([\w/.]+)`", PAGE)
    )
