"""What is exported as Sigma is Sigma, names native fields only, and finds the same when it is read again."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from expand import Case, case_files, load_cases
from promises import guarantee
from sigma.collection import SigmaCollection
from verdicts import knowledge_of, library_of, packs

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.export.sigma.sigma_documents import SigmaExport, Written, write_rules
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rule_test_cases import find_alerts, with_sources
from m365watch.detection.rules.rule_library import Library, load_library
from rules import fires, load_good, load_text, record, rule_text

ADMINS = Knowledge(admins=frozenset({"root@contoso.example"}))


@cache
def exported() -> SigmaExport:
    """All packs, exported once."""
    return write_rules(packs().rules, every=packs().by_id(), knowledge=ADMINS)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The exported rules, read as somebody's own."""
    return read_again(exported(), tmp_path_factory.mktemp("again"))


def read_again(export: SigmaExport, directory: Path) -> Library:
    """The rules that the written files make."""
    for one in export.exported:
        (directory / f"{one.rule.id}.yml").write_text(one.text(), encoding="utf-8")
    return load_library([directory])


def test_every_rule_is_exported_or_named_with_a_reason() -> None:
    """No rule that makes alerts goes missing; one that only serves others comes along with these."""
    written = {one.rule.id for one in exported().exported}
    unsaid = {one.rule.id for one in exported().unsaid}

    assert {rule.id for rule in packs().rules if rule.alerts} <= written | unsaid
    assert not written & unsaid
    assert len(written) > 60


def test_each_document_is_sigma() -> None:
    """PySigma reads every document without complaint, correlations with their rules."""
    text = "---\n".join(one.text() for one in exported().exported)
    parsed = SigmaCollection.from_yaml(text)

    assert parsed.errors == []
    assert len(parsed.rules) == len(exported().exported)


@pytest.mark.parametrize("one", exported().exported, ids=lambda one: str(one.rule.name))
def test_only_native_fields_are_asked(one: Written) -> None:
    """What this product works out is in no condition: another one would look for a field of that name."""
    document = dict(one.document)
    document.pop("m365watch", None)

    assert "m365." not in yaml.safe_dump(document.get("detection", document.get("correlation")))


def test_the_rules_are_read_again_as_they_were(again: Library) -> None:
    """Title, severity, tags, words and the key of our own come back as they went."""
    assert [str(one) for one in again.mistakes] == []
    for rule in again.rules:
        before = packs().by_id()[rule.id]
        assert rule.title == before.title
        assert (rule.severity, rule.techniques, rule.service) == (
            before.severity,
            before.techniques,
            before.service,
        )
        assert (rule.alerts, rule.correlation) == (before.alerts, before.correlation)
        assert rule.extension.explanation == before.extension.explanation
        assert rule.extension.group_by == before.extension.group_by


@guarantee(36)
@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_a_rule_that_is_read_again_gives_the_same_alerts(path: Path, again: Library) -> None:
    """On each case of a detection: the same alerts, ids and all."""
    file = load_cases(path)
    if file.settings.get("lists") or set(file.settings) & {"admins"}:
        pytest.skip("lists of the case's own would have to be exported with it")
    library, knowledge = library_of(file), knowledge_of(file.settings)
    for rule in library.find(file.detection):
        if rule.id in again.by_id():
            for case in file.cases:
                before = alerts_of(rule.id, library, case, knowledge)
                after = alerts_of(rule.id, again, case, knowledge)
                assert [shown(one) for one in after] == [shown(one) for one in before], case.name


def alerts_of(rule_id: str, library: Library, case: Case, knowledge: Knowledge) -> list[Alert]:
    """The rule's alerts on the case's records."""
    needed = with_sources([library.by_id()[rule_id]], library)
    return [one for one in find_alerts(needed, case.records, knowledge=knowledge) if one.rule_id == rule_id]


def shown(alert: Alert) -> tuple[Any, ...]:
    """What of an alert has to be the same; its severity may rise with what only this product works out."""
    return (alert.id, alert.count, alert.entities, alert.explanation)


@pytest.mark.parametrize(
    ("value", "found", "passed"),
    [
        ("a\\*b", "a*b", "axb"),
        ("a*b", "axxb", "a*c"),
        ("a\\\\b", "a\\b", "a\\\\b"),
        ("yes", "yes", "true"),
        ("007", "007", "7"),
        ("null", "null", "none"),
        ("ünï 'q' \"d\": #x", "ünï 'q' \"d\": #x", "ünï"),
    ],
)
def test_a_value_comes_back_as_it_was(tmp_path: Path, value: str, found: str, passed: str) -> None:
    """Stars that are stars, words that YAML reads as something else, and quotation marks of both kinds."""
    library = load_good(tmp_path, rule_text({"s": {"ObjectId": value}, "condition": "s"}))
    directory = tmp_path / "again"
    directory.mkdir()
    after = read_again(write_rules(library.rules, every={}, knowledge=NOTHING_KNOWN), directory)
    hits = [
        bool(find_alerts(after.rules, [record(ObjectId=one)], knowledge=NOTHING_KNOWN))
        for one in (found, passed)
    ]

    assert hits == [True, False]


@pytest.mark.parametrize("modifier", ["", "|contains", "|startswith", "|endswith"])
def test_a_comparison_of_two_fields_comes_back_as_it_was(tmp_path: Path, modifier: str) -> None:
    """As a whole, at one end or anywhere."""
    selection = {f"ObjectId|fieldref{modifier}": "UserId"}
    library = load_good(tmp_path, rule_text({"s": selection, "condition": "s"}))
    [written] = write_rules(library.rules, every={}, knowledge=NOTHING_KNOWN).exported

    assert selection in written.document["detection"].values()


def test_what_sigma_has_no_word_for_is_named(tmp_path: Path) -> None:
    """A rule of a kind that Sigma lacks would alert on each match elsewhere."""
    first = {"first_seen": {"key": ["UserId"]}}
    library = load_text(tmp_path, rule_text({"s": {"Operation": "Send"}, "condition": "s"}, m365watch=first))
    export = write_rules(library.rules, every={}, knowledge=NOTHING_KNOWN)

    assert export.exported == ()
    assert "first_seen is no kind of rule in Sigma" in export.unsaid[0].reason


def test_words_and_brackets_keep_their_meaning(tmp_path: Path) -> None:
    """not, and, or: what is read again is true and false of the same records."""
    detection = {
        "a": {"ObjectId": "x"},
        "b": {"Workload": "Exchange", "ObjectId|contains": "y"},
        "c": [{"ObjectId|endswith": "z"}, {"UserType": 2}],
        "condition": "not a and (b or not c)",
    }
    library = load_good(tmp_path, rule_text(detection))
    directory = tmp_path / "again"
    directory.mkdir()
    after = read_again(write_rules(library.rules, every={}, knowledge=NOTHING_KNOWN), directory)
    records = [
        record(number, ObjectId=name, Workload=load, UserType=kind)
        for number, (name, load, kind) in enumerate(
            (name, load, kind)
            for name in ("x", "y", "yz", "z")
            for load in ("Exchange", "x")
            for kind in (0, 2)
        )
    ]
    for one in records:
        before = find_alerts(library.rules, [one], knowledge=NOTHING_KNOWN)
        now = find_alerts(after.rules, [one], knowledge=NOTHING_KNOWN)
        assert bool(now) == bool(before), one


def test_a_hit_is_a_hit_before_it_is_exported(tmp_path: Path) -> None:
    """The comparison means something: this rule finds what it is about."""
    assert fires(tmp_path, {"s": {"ObjectId": "a*b"}, "condition": "s"}, {"ObjectId": "axxb"})


def test_strangers_are_all_who_take_part_where_nothing_tells_them_apart() -> None:
    """And the export says so: it finds one's own help desk as well, and misses no other."""
    [found] = [one for one in exported().exported if one.rule.name == "t02_helpdesk_impersonation"]

    assert "Members.DisplayName|re|i" in found.text()
    assert "one's own people, too" in found.differences[-1]
