"""Sigma's correlations: what is joined, when it holds, and which alerts come of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from promises import guarantee

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.rules.rule_library import Library
from rules import alerts_of, load_good, record, rule_text

ONE = rule_text({"s": {"Operation": "One"}, "condition": "s"}, name="one")
TWO = rule_text(
    {"s": {"Operation": "Two"}, "condition": "s"}, name="two", id="5f1c6c0e-7d0b-4a51-9a4e-000000000002"
)


def joint(kind: str, condition: Any = None, **keys: Any) -> str:
    """A correlation of the rules one and two, or of those given."""
    extension = keys.pop("m365watch", {})
    correlation: dict[str, Any] = {
        "type": kind,
        "rules": ["one"],
        "group-by": ["UserId"],
        "timespan": "5m",
        **keys,
    }
    if condition is not None:
        correlation["condition"] = condition
    return yaml.safe_dump(
        {
            "title": "Joint",
            "name": "joint",
            "level": "high",
            "correlation": correlation,
            "m365watch": extension,
        }
    )


def at(library: Library, *seconds: int, **fields: Any) -> list[Alert]:
    """The alerts of records of the operation One at these seconds."""
    return alerts_of(library, [record(second, **{"Operation": "One", **fields}) for second in seconds])


def test_a_count_holds_from_its_threshold_within_the_timespan(tmp_path: Path) -> None:
    """Both ends of the timespan count."""
    library = load_good(tmp_path, ONE, joint("event_count", {"gte": 3}))

    assert [alert.count for alert in at(library, 0, 100, 300)] == [3]
    assert at(library, 0, 100, 301) == []
    assert at(library, 0, 100) == []


def test_windows_that_overlap_are_one_alert(tmp_path: Path) -> None:
    """A long attack is one alert with all its records; after a pause there is another."""
    library = load_good(tmp_path, ONE, joint("event_count", {"gte": 3}))
    found = at(library, *range(0, 3_000, 60), *range(10_000, 10_180, 60))

    assert [alert.count for alert in found] == [50, 3]
    assert [alert.title for alert in found] == ["Joint", "Joint"]


def test_the_rules_that_are_joined_make_no_alerts_of_their_own(tmp_path: Path) -> None:
    """Unless the correlation says that they do."""
    quiet = load_good(tmp_path, ONE, joint("event_count", {"gte": 3}))
    loud = load_good(tmp_path, ONE, joint("event_count", {"gte": 3}, generate=True))

    assert at(quiet, 0) == []
    assert [alert.title for alert in at(loud, 0)] == ["A rule"]


def test_groups_are_counted_apart(tmp_path: Path) -> None:
    """Three users with one failure each are no user with three; what lacks the field belongs to no group."""
    library = load_good(tmp_path, ONE, joint("event_count", {"gte": 3}))

    assert alerts_of(library, [record(one, Operation="One", UserId=f"u{one}") for one in range(3)]) == []
    assert alerts_of(library, [record(one, Operation="One", UserId=None) for one in range(3)]) == []


def test_a_record_with_several_values_belongs_to_each_of_their_groups(tmp_path: Path) -> None:
    """Two mailboxes that forward to one destination, one of them to others as well."""
    library = load_good(
        tmp_path,
        ONE,
        joint("value_count", {"gte": 2, "field": "UserId"}, **{"group-by": ["m365.recipients"]}),
    )
    records = [
        record(0, Operation="One", UserId="ann", Parameters={"ForwardTo": "eve@example.net;x@example.org"}),
        record(9, Operation="One", UserId="bob", Parameters={"ForwardTo": "EVE@example.net"}),
    ]

    assert [alert.group for alert in alerts_of(library, records)] == [("eve@example.net",)]


def test_distinct_values_are_counted_without_repetitions(tmp_path: Path) -> None:
    """Nor do absent ones count."""
    library = load_good(tmp_path, ONE, joint("value_count", {"gte": 2, "field": "ClientIP"}))

    def tried(*addresses: str | None) -> int:
        return len(
            alerts_of(
                library, [record(place, Operation="One", ClientIP=one) for place, one in enumerate(addresses)]
            )
        )

    assert tried("192.0.2.1", "192.0.2.1", None, "") == 0
    assert tried("192.0.2.1", None, "192.0.2.2") == 1


@pytest.mark.parametrize(
    ("kind", "condition", "sizes", "found"),
    [
        ("value_sum", {"gte": 10}, [4, 6], True),
        ("value_sum", {"gte": 10}, [4, 5, "x", None], False),
        ("value_avg", {"gt": 5}, [5, 7], True),
        ("value_avg", {"gt": 5}, [5, 5, 5], False),
        ("value_avg", {"lt": 5}, [4], True),
        ("value_median", {"gte": 3}, [1, 5], True),
        ("value_median", {"gte": 3}, [1, 1, 5], False),
        ("value_percentile", {"gte": 9, "percentile": 90}, [0, 10, 10], True),
        ("value_percentile", {"gte": 9, "percentile": 10}, [0, 8, 8], False),
        ("value_avg", {"neq": 5}, [5], False),
        ("value_avg", {"eq": 5}, [5], True),
        ("value_avg", {"lte": 5}, ["x"], False),
    ],
)
def test_values_are_summed_and_averaged(
    tmp_path: Path, kind: str, condition: dict[str, Any], sizes: list[Any], found: bool
) -> None:
    """What is no number adds nothing, and is no value to be averaged."""
    library = load_good(tmp_path, ONE, joint(kind, {**condition, "field": "Size"}))
    records = [record(place, Operation="One", Size=size) for place, size in enumerate(sizes)]

    assert bool(alerts_of(library, records)) is found


def test_an_order_is_kept_but_within_a_second(tmp_path: Path) -> None:
    """Times have no more than seconds, so that of one second either may have come first."""
    library = load_good(tmp_path, ONE, TWO, joint("temporal_ordered", rules=["one", "two"]))

    def tried(*records: bytes) -> int:
        return len(alerts_of(library, list(records)))

    assert tried(record(0, Operation="One"), record(9, Operation="Two")) == 1
    assert tried(record(9, Operation="One"), record(0, Operation="Two")) == 0
    same = b'{"Id":"%b","CreationTime":"2026-11-02T00:00:00","UserId":"ann","Operation":"%b"}'
    assert tried(same % (b"a", b"Two"), same % (b"b", b"One")) == 1
    assert tried(record(0, Operation="One"), record(301, Operation="Two")) == 0


def test_all_of_several_rules_hold_in_any_order(tmp_path: Path) -> None:
    """The same rule twice is not two rules."""
    library = load_good(tmp_path, ONE, TWO, joint("temporal", rules=["one", "two"]))

    assert len(alerts_of(library, [record(9, Operation="One"), record(0, Operation="Two")])) == 1
    assert at(library, 0, 1, 2) == []


@pytest.mark.parametrize(
    ("expression", "operations", "found"),
    [
        ("one and two", ["One", "Two"], True),
        ("one and two", ["One"], False),
        ("one or two", ["Two"], True),
        ("one and not two", ["One"], True),
        ("one and not two", ["Two", "One"], False),
    ],
)
def test_an_expression_joins_rules(
    tmp_path: Path, expression: str, operations: list[str], found: bool
) -> None:
    """Sigma's extended conditions."""
    library = load_good(tmp_path, ONE, TWO, joint("temporal", expression, rules=["one", "two"]))
    records = [record(place, Operation=one) for place, one in enumerate(operations)]

    assert bool(alerts_of(library, records)) is found


def test_what_is_not_grave_enough_joins_nothing(tmp_path: Path) -> None:
    """A rule finds what is a signal, and by `raise` what is more: the latter counts."""
    detection = {"s": {"Operation": "One"}, "outside": {"Target": "out"}, "condition": "s"}
    raised = {"raise": {"to": "high", "when": "outside"}}
    one = rule_text(detection, name="one", level="low", m365watch=raised)
    library = load_good(
        tmp_path, one, TWO, joint("temporal", rules=["one", "two"], m365watch={"from_severity": "medium"})
    )
    two = record(60, Operation="Two")

    assert alerts_of(library, [record(0, Operation="One", Target="in"), two]) == []
    assert [one.count for one in alerts_of(library, [record(0, Operation="One", Target="out"), two])] == [2]


def test_a_correlation_joins_correlations(tmp_path: Path) -> None:
    """Many failures, then a success: the brute force that worked."""
    outer = yaml.safe_dump(
        {
            "title": "Then success",
            "level": "critical",
            "correlation": {
                "type": "temporal_ordered",
                "rules": ["joint", "two"],
                "group-by": ["UserId"],
                "timespan": "30m",
            },
            "m365watch": {"explanation": "{user} was guessed.", "check": ["Ask {user} of {first}."]},
        }
    )
    library = load_good(tmp_path, ONE, TWO, joint("event_count", {"gte": 3}), outer)
    failures = [record(second, Operation="One") for second in (0, 60, 120)]

    [alert] = alerts_of(library, [*failures, record(300, Operation="Two")])
    assert (alert.title, alert.explanation) == ("Then success", "ann@contoso.example was guessed.")
    [line] = alert.check
    assert line.startswith("Ask ann@contoso.example of 20")
    assert alerts_of(library, [*failures[:2], record(300, Operation="Two")]) == []
    assert alerts_of(library, [record(30, Operation="Two"), *failures]) == []


def test_an_alias_names_one_thing_in_several_rules(tmp_path: Path) -> None:
    """The group of a correlation may stand in different fields."""
    aliases = {"who": {"one": "UserId", "two": "Item.Owner"}}
    library = load_good(
        tmp_path,
        ONE,
        TWO,
        joint("temporal", rules=["one", "two"], aliases=aliases, **{"group-by": ["who"]}),
    )
    records = [
        record(0, Operation="One"),
        record(5, Operation="Two", UserId="x", Item={"Owner": "Ann@contoso.example"}),
    ]

    assert [alert.group for alert in alerts_of(library, records)] == [("ann@contoso.example",)]


def test_an_alias_may_lack_a_correlation_that_is_grouped_by_it(tmp_path: Path) -> None:
    """Its alerts have what it groups by."""
    inner = joint("event_count", {"gte": 2}, aliases={"who": {"one": "UserId"}}, **{"group-by": ["who"]})
    outer = joint(
        "temporal",
        rules=["two", "joint"],
        aliases={"who": {"two": "UserId"}},
        **{"group-by": ["who"]},
    )
    outer = outer.replace("name: joint", "name: outer").replace("title: Joint", "title: Outer")
    library = load_good(tmp_path, ONE, TWO, inner, outer)

    records = [record(60 * n, Operation=name) for n, name in enumerate(("One", "One", "Two"))]
    assert "Outer" in {one.title for one in alerts_of(library, records)}


def test_a_rule_comes_again_in_an_expression(tmp_path: Path) -> None:
    """Each step has a record of its own, and the order is kept."""
    library = load_good(
        tmp_path, ONE, TWO, joint("temporal_ordered", "one and two and one", rules=["one", "two"])
    )

    def fires(*operations: str) -> bool:
        return bool(alerts_of(library, [record(60 * n, Operation=one) for n, one in enumerate(operations)]))

    assert fires("One", "Two", "One")
    assert not fires("One", "Two")
    assert not fires("One", "One", "Two")


@pytest.mark.parametrize(
    ("kind", "condition", "keys"),
    [
        ("temporal_ordered", None, {"rules": ["one", "two", "one"]}),
        ("temporal", {"gte": 5}, {"rules": ["one", "two"]}),
        ("event_count", {"lt": 0}, {}),
        ("event_count", {"eq": 1.5}, {}),
        ("value_count", {"lt": 0, "field": "ClientIP"}, {}),
        (
            "temporal",
            None,
            {"rules": ["one", "two"], "group-by": ["who"], "aliases": {"who": {"one": "UserId"}}},
        ),
    ],
)
def test_a_correlation_that_never_holds_finds_nothing(
    tmp_path: Path, kind: str, condition: Any, keys: dict[str, Any]
) -> None:
    """It is in force, and harms no other rule."""
    other = rule_text({"s": {"Operation": "Two"}, "condition": "s"}, title="Other")
    library = load_good(
        tmp_path, ONE.replace("-000000000001", "-000000000003"), TWO, joint(kind, condition, **keys), other
    )
    records = [record(60 * n, Operation=name) for n, name in enumerate(("One", "Two", "One"))]

    assert "Joint" not in {one.title for one in alerts_of(library, records)}
    assert "Other" in {one.title for one in alerts_of(library, records)}


def test_an_alert_of_a_correlation_says_whose_and_how_many(tmp_path: Path) -> None:
    """Entities, counted values and the number are those of the records."""
    extension = {
        "entity": {"address": "ClientIP"},
        "explanation": "{address}: {distinct} users, among them {values}.",
    }
    library = load_good(
        tmp_path,
        ONE,
        joint(
            "value_count", {"gte": 5, "field": "UserId"}, m365watch=extension, **{"group-by": ["ClientIP"]}
        ),
    )
    records = [record(one, Operation="One", UserId=f"u{one}", ClientIP="192.0.2.1") for one in range(6)]
    [alert] = alerts_of(library, records)

    assert alert.explanation == "192.0.2.1: 6 users, among them u0, u1, u2 and 3 more."
    assert alert.entities == (("address", "192.0.2.1"),)
    assert alert.evidence == tuple(f"record-{one}" for one in range(6))


def test_evidence_is_bounded_and_the_count_is_not(tmp_path: Path) -> None:
    """An alert names fifty records and says how many there were."""
    library = load_good(tmp_path, ONE, joint("event_count", {"gte": 3}))
    [alert] = at(library, *range(400))

    assert (alert.count, len(alert.evidence), alert.evidence[0]) == (400, 50, "record-0")


@pytest.mark.slow
def test_an_order_among_very_many_is_bounded_work(tmp_path: Path) -> None:
    """A user with ten thousand of the one and one of the other costs no minutes."""
    library = load_good(tmp_path, ONE, TWO, joint("temporal_ordered", rules=["one", "two"], timespan="1d"))
    many = [record(second, Operation="One") for second in range(10_000)]
    started = time.process_time()

    assert alerts_of(library, many) == []
    assert len(alerts_of(library, [*many, record(10_001, Operation="Two")])) == 1
    assert time.process_time() - started < 60


def test_what_is_counted_by_several_fields_need_not_have_all(tmp_path: Path) -> None:
    """A download without a session is one all the same; what has none of the fields belongs to nobody."""
    texts = [
        rule_text({"s": {"Operation": "One"}, "condition": "s"}, name="one"),
        yaml.safe_dump(
            {
                "title": "Many",
                "id": "5f1c6c0e-7d0b-4a51-9a4e-000000000009",
                "correlation": {
                    "type": "event_count",
                    "rules": ["one"],
                    "group-by": ["UserId", "Session"],
                    "timespan": "1h",
                    "condition": {"gte": 2},
                },
            }
        ),
    ]
    library = load_good(tmp_path, *texts)

    def groups(**fields: str) -> list[tuple[str, ...]]:
        records = [record(second, Operation="One", **fields) for second in range(2)]
        return [alert.group for alert in alerts_of(library, records)]

    assert groups(Session="s") == [("ann@contoso.example", "s")]
    assert groups() == [("ann@contoso.example", "")]
    assert groups(UserId="", Session="s") == [("", "s")]
    assert groups(UserId="") == []


def test_an_alert_of_joined_counts_begins_with_the_first_record_of_these(tmp_path: Path) -> None:
    """The sign-in that ended the guessing, and the guesses; these are in the count's own alert as well."""
    count = joint("event_count", {"gte": 3}, generate=True)
    both = yaml.safe_dump(
        {
            "title": "Both",
            "level": "critical",
            "correlation": {
                "type": "temporal",
                "rules": ["joint", "two"],
                "group-by": ["UserId"],
                "timespan": "1h",
                "generate": True,
            },
        }
    )
    library = load_good(tmp_path, ONE, TWO, count, both)
    records = [record(at, Operation="One") for at in (0, 60, 120)] + [record(600, Operation="Two")]
    [found] = [alert for alert in alerts_of(library, records) if alert.title == "Both"]

    assert found.evidence == ("record-0", "record-60", "record-120", "record-600")
    assert found.first_seen_at.minute == 0


def test_an_order_is_found_however_many_lie_between(tmp_path: Path) -> None:
    """Whoever sees to a thousand more of the second step hides nothing by it."""
    three = rule_text(
        {"s": {"Operation": "Three"}, "condition": "s"},
        name="three",
        id="5f1c6c0e-7d0b-4a51-9a4e-000000000003",
    )
    order = joint("temporal_ordered", rules=["one", "two", "three"], timespan="1d")
    library = load_good(tmp_path, ONE, TWO, three, order)
    between = [record(second, Operation="Two") for second in range(10, 1_510)]

    [alert] = alerts_of(library, [record(0, Operation="One"), *between, record(2_000, Operation="Three")])

    assert alert.count == 1_502


@guarantee(34)
@pytest.mark.parametrize(
    ("kind", "condition", "fields"),
    [
        ("value_avg", {"gte": 4, "field": "Size"}, ({"Size": 0}, {"Size": 5})),
        ("value_median", {"gte": 4, "field": "Size"}, ({"Size": 0}, {"Size": 5})),
        ("event_count", {"eq": 1}, ({}, {})),
        ("value_count", {"eq": 1, "field": "ClientIP"}, ({"ClientIP": "::1"}, {"ClientIP": "::2"})),
    ],
)
def test_what_comes_in_one_second_counts_together(
    tmp_path: Path, kind: str, condition: dict[str, Any], fields: tuple[dict[str, Any], ...]
) -> None:
    """No window ends in the midst of a second, where the order of records is that of their identities."""
    library = load_good(tmp_path, ONE, joint(kind, rules=["one"], condition=condition))
    for number in range(12):
        records = [
            record(0, Id=f"{number}-{place}", Operation="One", **some) for place, some in enumerate(fields)
        ]
        assert alerts_of(library, records) == []
