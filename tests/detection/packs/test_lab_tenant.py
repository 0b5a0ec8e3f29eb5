"""Real records of a lab tenant under attack: no crash, and just the hits that were reviewed."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from verdicts import packs

from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rule_test_cases import find_alerts

HITS = Path(__file__).parent / "lab_hits.yml"
RECORDS = Path(__file__).resolve().parents[4] / "shared" / "data" / "records-lab-tenant.ndjson"


@pytest.mark.skipif(not RECORDS.exists(), reason="the lab tenant's records are not on this machine")
def test_the_packs_find_in_the_lab_tenant_what_was_reviewed() -> None:
    """Counts by rule are those of the golden file; a hit more or less has to be looked at."""
    records = [line.strip() for line in RECORDS.read_bytes().splitlines() if line.strip()]
    own = json.loads(next(line for line in records if b'"OrganizationName"' in line))["OrganizationName"]
    knowledge = Knowledge(accepted_domains=frozenset({own}))
    names = {rule.id: rule.name for rule in packs().rules}
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"alerts": 0, "records": 0})
    for alert in find_alerts(packs().rules, records, knowledge=knowledge):
        found[names[alert.rule_id]]["alerts"] += 1
        found[names[alert.rule_id]]["records"] += alert.count

    assert dict(found) == yaml.safe_load(HITS.read_text(encoding="utf-8"))
