"""What the tests of detection share: rules and records written down in few words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.fields.record_view import View
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule_library import Library, load_library

TENANT = "6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f"
RULE_ID = "5f1c6c0e-7d0b-4a51-9a4e-000000000001"


def rule_text(detection: dict[str, Any], /, **keys: Any) -> str:
    """A Sigma rule as YAML; `keys` are added, or replace what every rule has."""
    service = keys.pop("service", "exchange")
    rule = {
        "title": "A rule",
        "id": RULE_ID,
        "status": "test",
        "logsource": {"product": "m365", "service": service},
        "detection": detection,
        "level": "medium",
        **keys,
    }
    return yaml.safe_dump(rule, sort_keys=False)


def load_text(directory: Path, *texts: str) -> Library:
    """The library that one file of these documents makes."""
    path = directory / "rules" / "mine.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("---\n".join(texts), encoding="utf-8")
    return load_library([path.parent])


def load_good(directory: Path, *texts: str) -> Library:
    """The library of documents that have no mistake."""
    library = load_text(directory, *texts)
    assert [str(one) for one in library.mistakes] == []
    return library


def record(second: int = 0, **fields: Any) -> bytes:
    """A record, `second` seconds into a day; with an Id of its own."""
    hour, minute = divmod(second // 60, 60)
    day, hour = divmod(hour, 24)
    created = f"2026-11-{2 + day:02}T{hour:02}:{minute:02}:{second % 60:02}"
    plain = {"Id": f"record-{second}", "CreationTime": created, "UserId": "ann@contoso.example", **fields}
    return json.dumps(plain).encode()


def alerts_of(
    library: Library, records: Sequence[bytes], *, knowledge: Knowledge = NOTHING_KNOWN
) -> list[Alert]:
    """The alerts that the records give."""
    return find_alerts(library.rules, records, knowledge=knowledge, tenant=TENANT)


def fires(directory: Path, detection: dict[str, Any], fields: dict[str, Any], **keys: Any) -> bool:
    """Whether a rule with this detection finds a record with these fields."""
    library = load_good(directory, rule_text(detection, **keys))
    return bool(alerts_of(library, [record(**fields)]))


def view(fields: dict[str, Any], *, knowledge: Knowledge = NOTHING_KNOWN) -> View:
    """A record as rules look at it."""
    return View(fields, knowledge=knowledge, tenant=TENANT)
