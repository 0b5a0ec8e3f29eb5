"""What is exported to Devo is LINQ, and finds there what the rule finds here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from expand import Case, Expectation, case_files, load_cases
from promises import guarantee
from verdicts import knowledge_of, library_of, packs

from linq_run import World, rows_of
from linq_syntax import Query, parse
from m365watch.detection.export.devo_alert_definitions import Each
from m365watch.detection.export.linq.alert_definitions import Export, Exported, export_rule, export_rules
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rule_test_cases import find_alerts, with_sources
from m365watch.detection.rules.extension import Kind
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import Library
from m365watch.records.routing import UNION_TABLE, table_of
from rules import load_good, record, rule_text

KNOWN = Knowledge(accepted_domains=frozenset({"contoso.example"}), admins=frozenset({"root@contoso.example"}))


CUT = "the same while people of an office mistype their passwords for an hour and a half"
"""A spray of 200 seconds whose first password of 21 is tried nine seconds before half past ten."""
UNFOUND = {
    "i02_distributed_spray": {CUT},
    "b05_many_mailboxes_forward_to_one": {
        "two accounts of the same name in two domains lead to one destination",
        "an administrator forwards the mailboxes of one name in two domains",
    },
}
"""Hits that a weaker form of the rule does not find, by the rule's name; it says so."""


@cache
def exported() -> Export:
    """All packs, exported once."""
    return export_rules(packs().rules, every=packs().by_id(), knowledge=KNOWN)


@cache
def parsed(text: str) -> Query:
    """A query, parsed once."""
    return parse(text)


@guarantee(36)
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


@guarantee(36)
@pytest.mark.slow
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
            if case.name in UNFOUND.get(str(rule.name), ()):
                assert here
                here = False
            there = rows_there(query, case, knowledge)
            assert (bool(there), rule.name, case.name) == (here, rule.name, case.name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("o04_credential_added", "it does not find: a change of KeyDescription that takes away more than it"),
        ("i15_mfa_trusted_ips", "it does not find: a network that takes the place of another"),
        ("i05_impossible_travel", "it does not find: two places of one country, however far apart"),
        ("b05_many_mailboxes_forward_to_one", "it does not find: of several addresses in one record only"),
        (
            "i02_distributed_spray",
            "it does not find: what lies on both sides of a boundary between periods of 5m",
        ),
    ],
)
def test_a_weaker_form_says_what_it_leaves_out(name: str, told: str) -> None:
    """In the alert's own description, and above the query: who relies on it has to know."""
    [one] = [one for one in exported().exported if one.rule.name == name]

    assert told in one.definition.description
    assert any(difference.startswith(told) for difference in one.differences)


def test_two_countries_within_an_hour_are_travel() -> None:
    """Of each account apart; what the rule compares by place and time is a country and an hour there."""
    file = load_cases(next(path for path in case_files() if path.stem == "i05"))
    library, knowledge = library_of(file), knowledge_of(file.settings)
    [rule] = [rule for rule in library.find("I05") if rule.kind is Kind.TRAVEL]
    query = parsed(export_rule(rule, every=library.by_id(), knowledge=knowledge).definition.query)
    far = next(case for case in file.cases if "Porto Velho" in case.name)
    soon = replace(far, records=amid_minutes(far.records, 20))
    others = replace(soon, records=(soon.records[0], soon.records[1].replace(b"ada@", b"bea@")))

    [row] = rows_there(query, soon, knowledge)
    assert row["every_country"] == ["BR", "DE"]
    assert rows_there(query, others, knowledge) == []
    for case in file.cases:
        if case.kind != "hit":
            assert not rows_there(query, case, knowledge), case.name


@pytest.mark.slow
def test_a_spray_is_found_unless_a_boundary_of_its_period_cuts_it() -> None:
    """The rule finds it whenever it begins; the query wherever all of it lies in one period."""
    file = load_cases(next(path for path in case_files() if path.stem == "i02"))
    library, knowledge = library_of(file), knowledge_of(file.settings)
    [rule] = [rule for rule in library.find("I02") if rule.name == "i02_distributed_spray"]
    query = query_of(rule, library, knowledge)
    whole = next(case for case in file.cases if case.name == CUT)
    spray = [record for record in whole.records if b"203.0.113." in record]
    office = [record for record in whole.records if record not in spray]
    found = []
    for seconds in range(0, 320, 20):
        later = [delayed(record, seconds) for record in spray]
        case = replace(whole, records=(*office, *later))
        periods = {at_of(record).replace(second=0).minute // 5 for record in later}
        assert alerts_here(rule, library, case, knowledge)
        assert bool(rows_there(query, case, knowledge)) == (len(periods) == 1)
        found.append(len(periods) == 1)

    assert (found[0], found[1], found.count(True)) == (False, True, 5)


def at_of(record: bytes) -> datetime:
    """When the record was made."""
    return datetime.fromisoformat(json.loads(record)["CreationTime"])


def delayed(record: bytes, seconds: int) -> bytes:
    """The record, so much later."""
    at = at_of(record) + timedelta(seconds=seconds)
    return json.dumps({**json.loads(record), "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}"}).encode()


def amid_minutes(records: Sequence[bytes], minutes: int) -> tuple[bytes, ...]:
    """The records, the last of them so many minutes after the first."""
    first, last = json.loads(records[0]), json.loads(records[-1])
    at = datetime.fromisoformat(first["CreationTime"]) + timedelta(minutes=minutes)
    return (*records[:-1], json.dumps({**last, "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}"}).encode())


@pytest.mark.parametrize("operation", ["New\u2013InboxRule", " New-InboxRule "])
def test_an_operation_is_found_however_it_is_written(operation: str) -> None:
    """The first clause, which Devo's index answers, lets a long dash and blanks pass as the rule does."""
    file = load_cases(next(path for path in case_files() if path.stem == "b01"))
    library, knowledge = library_of(file), knowledge_of(file.settings)
    [rule] = library.find("B01")
    case = next(one for one in file.cases if one.kind == "hit" and b"New-InboxRule" in b"".join(one.records))
    odd = replace(case, records=tuple(respelt(record, operation) for record in case.records))

    assert alerts_here(rule, library, odd, knowledge)
    assert rows_there(query_of(rule, library, knowledge), odd, knowledge)


def respelt(record: bytes, operation: str) -> bytes:
    """The record with another spelling of its operation."""
    return json.dumps({**json.loads(record), "Operation": operation}).encode()


def test_no_words_stand_in_two_pairs_of_brackets() -> None:
    """What no column can show is told once, as (see the record)."""
    texts = [one.definition.headline + one.definition.description for one in exported().exported]

    assert any("(see the record)" in text for text in texts)
    assert not any("((" in text for text in texts)


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


@pytest.mark.parametrize("modifier", ["", "|contains", "|startswith", "|endswith"])
def test_a_field_is_compared_with_another_where_the_rule_says(tmp_path: Path, modifier: str) -> None:
    """As a whole, at one end or anywhere; and the rule itself is one that tells these apart."""
    detection = {"s": {f"ObjectId|fieldref{modifier}": "UserId"}, "condition": "s"}
    library = load_good(tmp_path, rule_text(detection))
    [rule] = library.rules
    query = query_of(rule, library, NOTHING_KNOWN)
    found = []
    for text in ("ann", "Anna", "joann", "joanna", "bob"):
        case = Case(text, "hit", (record(ObjectId=text, UserId="ann", Workload="Exchange"),), Expectation())
        found.append(alerts_here(rule, library, case, NOTHING_KNOWN))
        assert bool(rows_there(query, case, NOTHING_KNOWN)) == found[-1]

    expected = {"": "10000", "|contains": "11110", "|startswith": "11000", "|endswith": "10100"}
    assert "".join(str(int(one)) for one in found) == expected[modifier]


def row_of(record: bytes, table: str) -> Iterator[dict[str, Any]]:
    """The record as a row, if it is in the table."""
    told = json.loads(record)
    if table not in (UNION_TABLE, table_of(told.get("Workload"))):
        return
    text = record.decode()
    at = datetime.fromisoformat(told["CreationTime"]).replace(tzinfo=UTC)
    columns = ("Operation", "Workload", "UserId", "ResultStatus")
    yield {"eventdate": at, "message": text, "rawMessage": text, **{one: told.get(one) for one in columns}}


@pytest.mark.slow
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
