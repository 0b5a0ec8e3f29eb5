"""The exported queries over real records: each finds the records that its rule finds, in all their shapes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from verdicts import packs

from linq_run import World, rows_of
from linq_syntax import Group
from m365watch.detection.export.linq.alert_definitions import export_rule
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition_compiler import compile_condition
from m365watch.detection.rules.extension import Kind
from m365watch.detection.rules.rule import Rule
from m365watch.records.routing import UNION_TABLE, table_of
from test_devo_queries import parsed

RECORDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "records-lab-tenant.ndjson"
EVERY = 5
"""One record in so many is looked at, which takes 5 s of CPU; with 1 all of them are."""
KNOWN = Knowledge(accepted_domains=frozenset({"contoso.example"}))
WORLD = World(datetime(2026, 1, 1, tzinfo=UTC), lambda _: Whereabouts())


@pytest.mark.skipif(not RECORDS.exists(), reason="the lab tenant's records are not on this machine")
def test_a_query_finds_the_records_that_its_rule_finds() -> None:
    """Record by record, before anything is grouped."""
    records = [line for line in RECORDS.read_text(encoding="utf-8").splitlines()[::EVERY] if line.strip()]
    rules = [rule for rule in packs().rules if rule.condition is not None and rule.kind is Kind.EACH]
    found = 0
    for rule in rules:
        try:
            there = found_there(rule, records)
        except Unsayable:
            continue
        here = found_here(rule, records)
        assert (rule.name, there) == (rule.name, here)
        found += len(here)

    assert found > 100


def found_here(rule: Rule, records: list[str]) -> list[int]:
    """The places of the records that fulfil the rule's condition."""
    assert rule.condition is not None
    holds = compile_condition(rule.condition)
    return [place for place, text in enumerate(records) if holds(View(json.loads(text), knowledge=KNOWN))]


def found_there(rule: Rule, records: list[str]) -> list[int]:
    """The places of the records that the exported query lets pass, before it groups them."""
    made = export_rule(replace(rule, alerts=True), every=packs().by_id(), knowledge=KNOWN)
    query = parsed(made.definition.query)
    end = next(place for place, clause in enumerate(query.clauses) if isinstance(clause, Group))
    rows = [row_of(place, text) for place, text in enumerate(records)]
    inside = [row for row in rows if query.table in (UNION_TABLE, table_of(row["Workload"]))]
    return [row["place"] for row in rows_of(replace(query, clauses=query.clauses[:end]), inside, WORLD)]


def row_of(place: int, text: str) -> dict[str, Any]:
    """The record as a row of Devo's."""
    told = json.loads(text)
    columns = {name: told.get(name) for name in ("Operation", "Workload", "UserId", "ResultStatus")}
    return {"place": place, "eventdate": WORLD.today, "message": text, "rawMessage": text, **columns}
