"""What is exported to Devo is LINQ, and finds there what the rule finds here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from linq_run import World, rows_of
from linq_syntax import Query, parse
from m365watch.detect.cases import find_alerts, with_sources
from m365watch.detect.extension import Kind
from m365watch.detect.knowledge import Knowledge
from m365watch.detect.library import Library
from m365watch.detect.rule import Rule
from m365watch.devo_alerts.definitions import Each
from m365watch.records.routing import UNION_TABLE, table_of
from m365watch.shipping.devo.export import Export, Exported, export_rule, export_rules
from m365watch.shipping.unsayable import Unsayable

sys.path.insert(0, str(Path(__file__).parents[1] / "detect" / "packs"))

from expand import Case, case_files, load_cases
from verdicts import knowledge_of, library_of, packs

KNOWN = Knowledge(accepted_domains=frozenset({"contoso.example"}), admins=frozenset({"root@contoso.example"}))


@cache
def exported() -> Export:
    """All packs, exported once."""
    return export_rules(packs().rules, every=packs().by_id(), knowledge=KNOWN)


@cache
def parsed(text: str) -> Query:
    """A query, parsed once."""
    return parse(text)


def test_every_rule_is_exported_or_named_with_a_reason() -> None:
    """No rule that makes alerts goes missing between the two lists."""
    export = exported()
    named = [one.rule.id for one in export.exported] + [one.rule.id for one in export.unsaid]

    assert sorted(named) == sorted(rule.id for rule in packs().rules if rule.alerts)
    assert all(len(one.reason) > 20 for one in export.unsaid)


@pytest.mark.parametrize("one", exported().exported, ids=lambda one: str(one.rule.name))
def test_a_query_is_linq(one: Exported) -> None:
    """Each query has known clauses, functions and columns, and no column is named twice."""
    assert parsed(one.definition.query).table.startswith(UNION_TABLE)


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_a_query_finds_what_its_rule_finds(path: Path) -> None:
    """On each case, hit or near miss, the exported query has rows where the rule has alerts."""
    file = load_cases(path)
    library = library_of(file)
    knowledge = knowledge_of(file.settings)
    for rule in library.find(file.detection):
        query = query_of(rule, library, knowledge)
        for case in file.cases if query is not None else ():
            here = alerts_here(rule, library, case, knowledge)
            there = rows_there(query, case, knowledge)
            assert (bool(there), rule.name, case.name) == (here, rule.name, case.name)


def test_nearly_every_detection_is_compared() -> None:
    """The comparison is one: most detections have a rule that is exported, and cases that it is tried on."""
    compared = set()
    for path in case_files():
        file = load_cases(path)
        library = library_of(file)
        rules = library.find(file.detection)
        if any(query_of(rule, library, knowledge_of(file.settings)) is not None for rule in rules):
            compared.add(path.stem)

    assert len(compared) > len(case_files()) * 2 / 3


def query_of(rule: Rule, library: Library, knowledge: Knowledge) -> Query | None:
    """The rule's query where an alert is made of each row at once; None where it cannot be had."""
    if not rule.alerts or (rule.correlation is None and rule.kind is not Kind.EACH):
        return None
    try:
        made = export_rule(rule, every=library.by_id(), knowledge=knowledge)
    except Unsayable:
        return None
    assert isinstance(made.definition.trigger, Each)
    return parsed(made.definition.query)


def alerts_here(rule: Rule, library: Library, case: Case, knowledge: Knowledge) -> bool:
    """Whether the rule makes an alert of the case's records."""
    needed = with_sources([rule], library)
    return any(one.rule_id == rule.id for one in find_alerts(needed, case.records, knowledge=knowledge))


def rows_there(query: Query | None, case: Case, knowledge: Knowledge) -> list[dict[str, Any]]:
    """What the query finds in the case's records, each in the table that Devo would have it in."""
    assert query is not None
    rows = [row for record in case.records for row in row_of(record, query.table)]
    last = max((row["eventdate"] for row in rows), default=datetime(2026, 1, 1, tzinfo=UTC))
    world = World((last + timedelta(days=1)).replace(hour=0, minute=0, second=0), knowledge.enrichment.locate)
    return rows_of(query, rows, world)


def row_of(record: bytes, table: str) -> Iterator[dict[str, Any]]:
    """The record as a row, if it is in the table."""
    told = json.loads(record)
    if table not in (UNION_TABLE, table_of(told.get("Workload"))):
        return
    text = record.decode()
    at = datetime.fromisoformat(told["CreationTime"]).replace(tzinfo=UTC)
    columns = ("Operation", "Workload", "UserId", "ResultStatus")
    yield {"eventdate": at, "message": text, "rawMessage": text, **{one: told.get(one) for one in columns}}


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_what_was_never_seen_is_found_on_the_day_after(path: Path) -> None:
    """Where a tenant is watched for as long as the rule learns, the query finds what the rule finds."""
    file = load_cases(path)
    library = library_of(file)
    knowledge = knowledge_of(file.settings)
    for rule in library.find(file.detection):
        first = rule.extension.first_seen
        if first is None or not rule.alerts or "m365.external_domain" in first.key:
            continue
        made = export_rule(rule, every=library.by_id(), knowledge=knowledge)
        for case in file.cases:
            if days_of(case) * 86_400 >= first.learn:
                there = rows_there(parsed(made.definition.query), case, knowledge)
                here = alerts_here(rule, library, case, knowledge)
                assert (bool(there), rule.name, case.name) == (here, rule.name, case.name)


def days_of(case: Case) -> int:
    """How many days lie between the first record and the last."""
    times = [datetime.fromisoformat(json.loads(record)["CreationTime"]) for record in case.records]
    return (max(times) - min(times)).days


def test_a_sign_in_amid_the_wrong_passwords_is_no_hit() -> None:
    """So many of one, and then another: the last of so many counts, and not the first."""
    file = load_cases(next(path for path in case_files() if path.stem == "i03"))
    library, knowledge = library_of(file), knowledge_of(file.settings)
    [rule] = [rule for rule in library.find("I03") if rule.alerts]
    whole = next(case for case in file.cases if case.kind == "hit")
    early = replace(whole, records=amid(whole.records))
    query = query_of(rule, library, knowledge)

    for case, wanted in ((whole, True), (early, False)):
        assert alerts_here(rule, library, case, knowledge) is wanted
        assert bool(rows_there(query, case, knowledge)) is wanted


def amid(records: Sequence[bytes]) -> tuple[bytes, ...]:
    """The records, the last of them one second after the third."""
    last, third = json.loads(records[-1]), json.loads(records[2])
    at = datetime.fromisoformat(third["CreationTime"]) + timedelta(seconds=1)
    return (*records[:-1], json.dumps({**last, "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}"}).encode())
