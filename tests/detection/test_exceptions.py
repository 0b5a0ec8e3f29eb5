"""Exceptions are data: whose alerts of which rule, until when, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from promises import guarantee

from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.exceptions_file import read_exceptions
from m365watch.detection.alerts.reconciler import BY, close_excepted
from m365watch.detection.alerts.stored_alert import AlertState, News
from m365watch.detection.correlation.risk_score import make_risk_rule
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record, rule_text

NOW = datetime(2026, 11, 3, tzinfo=UTC)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """One rule, B08."""
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    return load_good(tmp_path, rule_text(detection, name="delegation", m365watch={"detection": "B08"}))


def read(directory: Path, text: str) -> Exceptions:
    """The exceptions of a file without mistakes."""
    path = directory / "exceptions.yml"
    path.write_text(text)
    exceptions, mistakes = read_exceptions(path)
    assert mistakes == []
    return exceptions


@pytest.mark.parametrize(
    ("exception", "told"),
    [
        ("rule: B08", False),
        ("rule: b08", False),
        ("rule: Delegation", False),
        ("rule: '*'", False),
        ("rule: B09", True),
        ("rule: B08, entity: {user: ANN@contoso.example}", False),
        ("rule: B08, entity: {user: '*@contoso.example'}", False),
        ("rule: B08, entity: {user: bob@contoso.example}", True),
        ("rule: B08, entity: {user: ann@contoso.example, mailbox: x}", True),
        ("rule: B08, until: 2026-11-03", False),
        ("rule: B08, until: 2026-11-02", True),
        ("rule: B08, tenant: somebody-else", True),
    ],
)
def test_an_exception_holds_for_its_rule_entity_and_time(
    tmp_path: Path, library: Library, exception: str, told: bool
) -> None:
    """Everything that it says has to be so; the alert begins on 2 November."""
    exceptions = read(tmp_path, f"exceptions: [{{{exception}, reason: known}}]")
    found = find_alerts(
        library.rules,
        [record(0, Operation="One")],
        knowledge=NOTHING_KNOWN,
        tenant=TENANT,
        exceptions=exceptions,
    )

    assert bool(found) is told


@pytest.fixture
def grouped(tmp_path: Path) -> Library:
    """B08 again, all applications of a user in one alert."""
    extension = {"detection": "B08", "group_by": "UserId", "entity": {"user": "UserId", "app": "ObjectId"}}
    return load_good(tmp_path, rule_text({"s": {"Operation": "One"}, "condition": "s"}, m365watch=extension))


def notes_of(library: Library, exceptions: Exceptions, *records: bytes) -> list[tuple[str, ...]]:
    """The notes of each alert that is told."""
    found = find_alerts(library.rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT, exceptions=exceptions)
    return [alert.notes for alert in found]


@guarantee(35)
def test_an_exception_of_one_value_hides_no_other_in_the_same_alert(tmp_path: Path, grouped: Library) -> None:
    """An intruder's application beside the one whose secret a program renews; whichever comes first."""
    expected = [record(second, Operation="One", ObjectId="known") for second in (0, 3)]
    strange = record(2, Operation="One", ObjectId="strange")
    exceptions = read(tmp_path, "[{rule: B08, entity: {app: known}, reason: renewals}]")
    both = read(
        tmp_path,
        "[{rule: B08, entity: {app: known}, reason: x}, {rule: B08, entity: {app: str*}, reason: new}]",
    )

    assert notes_of(grouped, exceptions, *expected) == []
    assert notes_of(grouped, exceptions, *expected, strange) == [
        ("Some of its records are excepted: renewals",)
    ]
    assert notes_of(grouped, both, *expected, strange) == []
    assert notes_of(grouped, exceptions, record(2, Operation="One"), *expected) != []


@guarantee(35)
def test_an_exception_ends_in_the_middle_of_an_alert(tmp_path: Path, grouped: Library) -> None:
    """An alert that goes on for weeks would outlive it else."""
    exceptions = read(tmp_path, "[{rule: B08, until: 2026-11-03, reason: a migration}]")
    before, after = (record(second, Operation="One") for second in (80_000, 90_000))

    assert notes_of(grouped, exceptions, before) == []
    assert notes_of(grouped, exceptions, before, after) == [
        ("Some of its records are excepted: a migration",)
    ]


def test_what_a_correlation_joins_need_not_name_every_kind(tmp_path: Path) -> None:
    """The sign-in knows no application, and the credential no address; both are the exception's account's."""
    texts = [
        rule_text(
            {"s": {"Operation": name}, "condition": "s"},
            name=name,
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            m365watch={"building_block": True},
        )
        for number, name in enumerate(("one", "two"))
    ]
    joint = {
        "title": "Both",
        "id": "5f1c6c0e-7d0b-4a51-9a4e-000000000009",
        "correlation": {
            "type": "temporal",
            "rules": ["one", "two"],
            "group-by": ["UserId"],
            "timespan": "1h",
        },
        "m365watch": {"entity": {"user": "UserId", "app": "ObjectId"}},
    }
    library = load_good(tmp_path, *texts, yaml.safe_dump(joint))
    records = [record(0, Operation="one"), record(1, Operation="two", ObjectId="known")]
    known, other = (
        read(tmp_path, f"[{{rule: Both, entity: {{app: {app}}}, reason: x}}]") for app in ("known", "other")
    )

    assert notes_of(library, known, *records) == []
    assert notes_of(library, other, *records) == [()]


def test_what_is_joined_is_excepted_where_a_part_that_it_needs_is(tmp_path: Path) -> None:
    """Everyday work of others after the drill's own first step is no attack that was joined."""
    texts = [
        rule_text(
            {"s": {"Operation": name}, "condition": "s"},
            name=name,
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
        )
        for number, name in enumerate(("begins", "follows"))
    ]
    joint = {
        "title": "Both",
        "id": "5f1c6c0e-7d0b-4a51-9a4e-0000000000ff",
        "level": "high",
        "correlation": {"type": "temporal_ordered", "rules": ["begins", "follows"], "timespan": "1h"},
        "m365watch": {"entity": {"user": "UserId"}, "explanation": "{user}"},
    }
    library = load_good(tmp_path, *texts, yaml.safe_dump(joint))
    drill = read(tmp_path, "[{rule: Both, entity: {user: red@contoso.example}, reason: a drill}]")
    begun, goes_on = (record(at, Operation="begins", UserId="red@contoso.example") for at in (0, 1))
    by_the_drill = record(2, Operation="follows", UserId="red@contoso.example")
    by_another = record(3, Operation="follows", UserId="ann@contoso.example")
    begun_by_another = record(1, Operation="begins", UserId="bob@contoso.example")

    def joined(*records: bytes) -> list[tuple[str, ...]]:
        found = find_alerts(library.rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT, exceptions=drill)
        return [alert.notes for alert in found if alert.title == "Both"]

    assert joined(begun, goes_on, by_the_drill, by_another) == []
    assert joined(begun, begun_by_another, by_another) == [("Some of its records are excepted: a drill",)]


@guarantee(35)
def test_an_open_alert_of_several_is_closed_only_as_a_whole(tmp_path: Path, grouped: Library) -> None:
    """The same holds for what is open when an exception is taken up."""
    state = DetectionState(tmp_path / "d.sqlite")
    records = [record(number, Operation="One", ObjectId=f"app{number}") for number in range(2)]
    Engine(grouped.rules, state).take([Portion(TENANT, NOW, records, headers_of(records))], number=1, now=NOW)
    some, every = (
        read(tmp_path, f"[{{rule: B08, entity: {{app: {app}}}, reason: x}}]") for app in ("app0", "app*")
    )

    assert close_excepted(state, grouped.by_id(), some, at_ms=2) == 0
    assert close_excepted(state, grouped.by_id(), every, at_ms=3) == 1


@guarantee(35)
def test_an_excepted_alert_is_kept_with_the_reason_and_not_told(tmp_path: Path, library: Library) -> None:
    """And told as new once the exception is gone and there is more of it."""
    exceptions = read(tmp_path, "exceptions: [{rule: B08, reason: the backup}]")
    state = DetectionState(tmp_path / "d.sqlite")
    batches = [[record(0, Operation="One")], [record(60, Operation="One")]]
    portions = [Portion(TENANT, NOW, records, headers_of(records)) for records in batches]
    engine = Engine(library.rules, state, exceptions=exceptions)

    assert engine.take(portions[:1], number=1, now=NOW) == []
    assert state.alerts.list() == []
    [change] = Engine(library.rules, state).take(portions[1:], number=2, now=NOW)
    assert (change.what, change.alert.count, change.alert.notes) == (News.NEW, 2, ())


@guarantee(35)
def test_an_alert_that_an_exception_takes_in_is_withdrawn_once(tmp_path: Path, library: Library) -> None:
    """With the next record of it, to whoever was told of it and to the lake."""
    exceptions = read(tmp_path, "exceptions: [{rule: B08, reason: the backup}]")
    state = DetectionState(tmp_path / "d.sqlite")
    told = []
    for number, excepted in enumerate((Exceptions(), exceptions, exceptions), start=1):
        records = [record(60 * number, Operation="One")]
        portion = Portion(TENANT, NOW, records, headers_of(records))
        engine = Engine(library.rules, state, exceptions=excepted)
        due = state.lake_due.newest()
        changes = engine.take([portion], number=number, now=NOW)
        told.append(([change.what for change in changes], state.lake_due.newest() > due))

    assert told == [([News.NEW], True), ([News.WITHDRAWN], True), ([], False)]
    assert state.alerts.list() == []


@guarantee(35)
def test_an_exception_closes_what_is_open_already(tmp_path: Path, library: Library) -> None:
    """With its reason, once; what an analyst has closed keeps the analyst's."""
    state = DetectionState(tmp_path / "d.sqlite")
    users = ("ann", "bob", "eve")
    records = [record(number, Operation="One", UserId=user) for number, user in enumerate(users)]
    Engine(library.rules, state).take([Portion(TENANT, NOW, records, headers_of(records))], number=1, now=NOW)
    ids = {kept.alert.entity("user"): kept.alert.id for kept in state.alerts.list()}
    with state.transaction():
        state.alerts.set_state(ids["bob"], AlertState.CLOSED, reason="a test", by="ann", at_ms=1)
    rules = library.by_id()
    some = read(tmp_path, "exceptions: [{rule: B08, entity: {user: '*b*'}, reason: the backup}]")
    more = read(tmp_path, "exceptions: [{rule: B08, entity: {user: '[ab]*'}, reason: the backup}]")

    assert close_excepted(state, rules, Exceptions(), at_ms=2) == 0
    assert close_excepted(state, rules, some, at_ms=3) == 0
    assert [close_excepted(state, rules, more, at_ms=at_ms) for at_ms in (4, 5)] == [1, 0]
    found = {
        kept.alert.entity("user"): (kept.state, kept.reason, kept.changed_by, kept.changed_at_ms)
        for kept in state.alerts.list()
    }
    assert found == {
        "ann": (AlertState.CLOSED, "exception: the backup", BY, 4),
        "bob": (AlertState.CLOSED, "a test", "ann", 1),
        "eve": (AlertState.OPEN, "", "", 0),
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("exceptions: [", "is no YAML: line 1"),
        ("exceptions: 5", "exceptions: is no list"),
        ("exception: [{rule: B08, reason: x}]", "exception: is no key that is known here"),
        ("exceptions: [{rule: B08}]", "exceptions.yml:1: exceptions.0.reason: is missing"),
        (
            "exceptions: [{rule: B08, reason: x, untill: 2026-01-01}]",
            "exceptions.0.untill: is no key that is known here",
        ),
        ("exceptions: [{rule: B08, reason: x, until: soon}]", "exceptions.0.until: is no day such as"),
        ("exceptions: [x]", "exceptions.0: is no map of keys and values"),
        (r'exceptions: ["\U99999999"]', "names a sign"),
        (
            'exceptions: [{rule: B08, reason: x, entity: {"a\\e[2Jb": 5}}]',
            "exceptions.0.entity.a [2Jb: is no text",
        ),
        ("exceptions: [{rule: B08, reason: ''}]", "exceptions.0.reason: is empty"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    """An exception that is mistyped would otherwise hide nothing, or too much."""
    path = tmp_path / "exceptions.yml"
    path.write_text(text)
    exceptions, mistakes = read_exceptions(path)

    assert exceptions.every == ()
    assert line in mistakes[0]
    assert mistakes[0].startswith(str(path))


def test_an_empty_file_has_no_exceptions(tmp_path: Path) -> None:
    """Nor has one of remarks alone; one that is not there is a mistake."""
    assert read(tmp_path, "# none yet\n") == Exceptions()
    assert read_exceptions(tmp_path / "nowhere.yml")[1] == [
        f"{tmp_path / 'nowhere.yml'}: there is no such file"
    ]


@pytest.mark.parametrize(
    ("wanted", "address", "told"),
    [
        ("10.0.0.0/8", "10.7.8.9", False),
        ("10.1.2.3/8", "10.7.8.9:443", False),
        ("10.0.0.0/8", "11.7.8.9", True),
        ("2001:DB8::/32", "2001:db8:7::1", False),
        ("2001:db8::/32", "10.7.8.9", True),
        ("10.*", "10.7.8.9", False),
        ("10.7.8.9", "10.7.8.9", False),
    ],
)
def test_an_exception_may_name_a_network(tmp_path: Path, wanted: str, address: str, told: bool) -> None:
    """As the lists of `enrich` do; it was compared as a text, and excepted nothing."""
    rule = rule_text(
        {"s": {"Operation": "One"}, "condition": "s"}, m365watch={"entity": {"address": "ClientIP"}}
    )
    found = find_alerts(
        load_good(tmp_path, rule).rules,
        [record(0, Operation="One", ClientIP=address)],
        knowledge=NOTHING_KNOWN,
        tenant=TENANT,
        exceptions=read(tmp_path, f"[{{rule: '*', entity: {{address: '{wanted}'}}, reason: known}}]"),
    )

    assert bool(found) is told


@guarantee(26)
def test_aliases_that_unfold_to_gigabytes_are_refused(tmp_path: Path) -> None:
    """A kilobyte that stands for a billion exceptions."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "exceptions.yml"
    path.write_text("\n".join([*lines, "exceptions: *a8", ""]))
    exceptions, (mistake,) = read_exceptions(path)

    assert exceptions.every == ()
    assert "aliases (*name) unfold to more than 100,000 values here" in mistake


def test_what_is_no_yaml_at_all_is_one_line(tmp_path: Path) -> None:
    """Also where the parser has more to say."""
    path = tmp_path / "exceptions.yml"
    path.write_bytes(b"a\0b")

    (mistake,) = read_exceptions(path)[1]
    assert mistake.isprintable()


def two_that_join(tmp_path: Path) -> Library:
    """Two rules that make alerts, and one that joins both within an hour."""
    texts = [
        rule_text(
            {"s": {"Operation": name}, "condition": "s"},
            name=name,
            title=name.title(),
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            m365watch={"entity": {"user": "UserId", "address": "ClientIP"}, "group_by": ["UserId"]},
        )
        for number, name in enumerate(("begins", "follows"))
    ]
    joint = {
        "title": "Both",
        "id": "5f1c6c0e-7d0b-4a51-9a4e-0000000000ff",
        "level": "high",
        "correlation": {
            "type": "temporal_ordered",
            "rules": ["begins", "follows"],
            "timespan": "1h",
            "generate": True,
        },
        "m365watch": {"entity": {"user": "UserId", "address": "ClientIP"}},
    }
    return load_good(tmp_path, *texts, yaml.safe_dump(joint))


def test_what_joins_only_what_is_excepted_is_excepted(tmp_path: Path) -> None:
    """Each part is what somebody expects, under its own rule's name: so is what is made of them."""
    library = two_that_join(tmp_path)
    records = [record(0, Operation="begins", UserId="red"), record(1, Operation="follows", UserId="red")]
    one = "{rule: Begins, entity: {user: red}, reason: a drill}"
    both = read(tmp_path, f"[{one}, {{rule: Follows, entity: {{user: red}}, reason: a drill}}]")
    first = read(tmp_path, f"[{one}]")

    def titles(exceptions: Exceptions) -> list[str]:
        found = find_alerts(
            library.rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT, exceptions=exceptions
        )
        return sorted(alert.title for alert in found)

    assert titles(Exceptions()) == ["Begins", "Both", "Follows"]
    assert titles(first) == ["Both", "Follows"]
    assert titles(both) == []


def test_an_exception_by_address_hides_nobody_who_acts_from_nowhere(tmp_path: Path) -> None:
    """A record without an address follows the others of its account, and is never excepted by itself."""
    library = two_that_join(tmp_path)
    by_address = read(tmp_path, "[{rule: Both, entity: {address: 192.0.2.1}, reason: the red team}]")
    begun = record(0, Operation="begins", UserId="red", ClientIP="192.0.2.1")
    by_red, by_eve = (record(1, Operation="follows", UserId=name, ClientIP="") for name in ("red", "eve"))

    def told(*records: bytes) -> bool:
        found = find_alerts(
            library.rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT, exceptions=by_address
        )
        return any(alert.title == "Both" for alert in found)

    assert not told(begun, by_red)
    assert told(begun, by_eve, record(0, Operation="begins", UserId="eve", ClientIP=""))


def test_a_count_is_made_again_without_what_is_excepted(tmp_path: Path) -> None:
    """Two mailboxes of which one is expected are not many."""
    block = rule_text(
        {"s": {"Operation": "moves"}, "condition": "s"},
        name="moves",
        id="5f1c6c0e-7d0b-4a51-9a4e-000000000001",
        m365watch={"building_block": True},
    )
    many = {
        "title": "Many",
        "id": "5f1c6c0e-7d0b-4a51-9a4e-0000000000fe",
        "correlation": {
            "type": "value_count",
            "rules": ["moves"],
            "group-by": ["UserId"],
            "timespan": "1h",
            "condition": {"field": "ObjectId", "gte": 2},
        },
        "m365watch": {"entity": {"mailbox": "ObjectId"}},
    }
    library = load_good(tmp_path, block, yaml.safe_dump(many))
    exceptions = read(tmp_path, "[{rule: Many, entity: {mailbox: known}, reason: a move}]")
    moves = [record(at, Operation="moves", ObjectId=name) for at, name in enumerate(("known", "a", "b"))]

    assert notes_of(library, exceptions, *moves[:2]) == []
    assert notes_of(library, exceptions, *moves) == [("Some of its records are excepted: a move",)]


def test_what_rests_on_closed_alerts_alone_is_closed_with_them(tmp_path: Path) -> None:
    """Risk, and what joins counts: they have the alerts for parts, which the exception closes."""
    texts = [
        rule_text(
            {"s": {"Operation": f"sign{number}"}, "condition": "s"},
            title=f"Sign {number}",
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            level="medium",
            m365watch={"entity": {"user": "UserId"}, "risk": 30},
        )
        for number in range(3)
    ]
    library = load_good(tmp_path, *texts)
    rules = [*library.rules, make_risk_rule(50)]
    state = DetectionState(tmp_path / "d.sqlite")
    records = [record(number, Operation=f"sign{number}", UserId="ann") for number in range(3)]
    Engine(rules, state).take([Portion(TENANT, NOW, records, headers_of(records))], number=1, now=NOW)
    by_id = {rule.id: rule for rule in rules}
    some, every = (
        read(tmp_path, f"[{', '.join(f'{{rule: Sign {n}, entity: {{user: ann}}, reason: x}}' for n in of)}]")
        for of in ((0, 1), (0, 1, 2))
    )

    assert len(state.alerts.list()) == 4
    assert close_excepted(state, by_id, some, at_ms=1) == 2
    assert close_excepted(state, by_id, every, at_ms=2) == 2
    assert {kept.state for kept in state.alerts.list()} == {AlertState.CLOSED}
