"""What Sigma lacks: new keys, silence, change, impossible journeys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule_library import Library
from rules import TENANT, alerts_of, load_good, record, rule_text

DAY = 86_400
HOUR = 3_600
START = datetime(2026, 11, 2, tzinfo=UTC)


def load(directory: Path, **extension: Any) -> Library:
    """A rule on the operation One with this extension."""
    return load_good(directory, rule_text({"s": {"Operation": "One"}, "condition": "s"}, m365watch=extension))


def found(
    library: Library,
    records: Sequence[bytes],
    *,
    hours: float = 24 * 27,
    places: Mapping[str, tuple[float, float]] | None = None,
) -> list[Alert]:
    """The alerts, so many hours after the start."""

    class Places:
        def locate(self, address: str) -> Whereabouts:
            latitude, longitude = (places or {}).get(address, (None, None))
            return Whereabouts(latitude=latitude, longitude=longitude)

    now = START + timedelta(hours=hours)
    return find_alerts(
        library.rules, records, knowledge=Knowledge(enrichment=Places()), tenant=TENANT, now=now
    )


def one(second: int, **fields: Any) -> bytes:
    """A record of the operation One."""
    return record(second, Operation="One", **fields)


def test_a_key_is_new_once_the_learning_is_over(tmp_path: Path) -> None:
    """What comes while learning is known; afterwards a new key is told, and that once."""
    library = load(tmp_path, first_seen={"key": ["UserId", "ClientIP"], "period": "14d", "learn": "7d"})
    records = [
        one(0, ClientIP="192.0.2.1"),
        one(3 * DAY, ClientIP="192.0.2.2"),
        one(8 * DAY, ClientIP="192.0.2.1"),
        one(8 * DAY + 1, ClientIP="192.0.2.3"),
        one(8 * DAY + 2, ClientIP="192.0.2.3"),
    ]

    assert [alert.evidence for alert in found(library, records)] == [(f"record-{8 * DAY + 1}",)]


def test_a_key_is_new_again_after_the_period(tmp_path: Path) -> None:
    """Somebody who comes back after a long time is looked at again; whole days count."""
    library = load(tmp_path, first_seen={"key": ["UserId"], "period": "2d", "learn": "1d"})
    records = [one(0), one(DAY), one(3 * DAY), one(6 * DAY + 1), one(6 * DAY + 2)]

    assert [alert.first_at_ms // 1000 % DAY for alert in found(library, records)] == [1]


def test_a_late_record_withdraws_what_was_not_new(tmp_path: Path) -> None:
    """The set counts, whenever its parts came."""
    library = load(tmp_path, first_seen={"key": ["UserId"], "period": "5d", "learn": "1d"})
    later = [one(0, UserId="bob"), one(3 * DAY)]

    assert len(found(library, later)) == 1
    assert found(library, [*later, one(HOUR)]) == []


def test_a_record_without_the_key_is_nothing_new(tmp_path: Path) -> None:
    """No country is not a country never seen."""
    library = load(tmp_path, first_seen={"key": ["m365.country"], "period": "5d", "learn": "1d"})

    assert found(library, [one(0), one(3 * DAY)]) == []


def test_several_is_more_than_the_threshold(tmp_path: Path) -> None:
    """Devo's kind: above it, not at it."""
    library = load(tmp_path, several={"threshold": 3, "period": "5m", "keys": ["UserId"]})

    assert found(library, [one(second) for second in range(3)]) == []
    assert [alert.count for alert in found(library, [one(second) for second in range(4)])] == [4]


def test_a_silence_is_told_of_who_was_not_silent_before(tmp_path: Path) -> None:
    """Each run of silent periods is one alert, with the last record before it."""
    library = load(tmp_path, low={"period": "6h", "learn": "2d"}, group_by=["UserId"])
    records = [one(second) for second in range(0, DAY, HOUR)]

    [alert] = found(library, records, hours=48)
    assert alert.evidence == (f"record-{23 * HOUR}",)
    assert alert.first_seen_at == START + timedelta(hours=24)
    assert alert.last_seen_at == START + timedelta(hours=42)
    assert found(library, records, hours=25) == []


def test_a_silence_is_told_only_once_the_feed_has_had_time(tmp_path: Path) -> None:
    """The feed is late by an hour or two as a rule."""
    library = load(tmp_path, low={"period": "6h"}, group_by=["UserId"])
    records = [one(second) for second in range(0, DAY, HOUR)]

    assert found(library, records, hours=31.9) == []
    assert len(found(library, records, hours=32)) == 1


def test_who_has_been_silent_for_long_is_not_told_of_for_ever(tmp_path: Path) -> None:
    """Beyond the learning it is the normal state."""
    library = load(tmp_path, low={"period": "1d", "learn": "3d"}, group_by=["UserId"])
    [alert] = found(library, [one(0)], hours=24 * 20)

    assert (alert.last_seen_at - alert.first_seen_at) == timedelta(days=3)


def test_rolling_looks_back_further_than_its_period(tmp_path: Path) -> None:
    """Every hour over the last four."""
    library = load(tmp_path, rolling={"period": "1h", "back_period": "4h", "threshold": 3})
    spread = [one(HOUR * place) for place in range(3)]

    assert len(found(library, spread)) == 1
    assert found(library, [one(3 * HOUR * place) for place in range(3)]) == []


@pytest.mark.parametrize(
    ("change", "counts", "alerts"),
    [
        ({"threshold": 3}, [2, 7], 1),
        ({"threshold": 3}, [2, 6], 0),
        ({"threshold": 3}, [7, 2], 0),
        ({"threshold": 3, "direction": "down"}, [7, 2], 1),
        ({"threshold": 3, "direction": "both"}, [2, 7], 1),
        ({"threshold": 4, "absolute": True}, [2, 7], 1),
        ({"threshold": 5, "absolute": True}, [2, 7], 0),
        ({"threshold": 3, "at_least": 8}, [2, 7], 0),
        ({"threshold": 3, "value": "Size"}, [2, 2, 9], 0),
    ],
)
def test_a_gradient_is_a_change_from_period_to_period(
    tmp_path: Path, change: dict[str, Any], counts: list[int], alerts: int
) -> None:
    """As a factor, or as a difference."""
    library = load(tmp_path, gradient={"period": "1h", **change}, group_by=["UserId"])
    records = [one(HOUR * hour + place) for hour, count in enumerate(counts) for place in range(count)]

    assert len(found(library, records, hours=len(counts) + 2)) == alerts


def test_a_deviation_is_far_from_the_mean_of_before(tmp_path: Path) -> None:
    """In standard deviations of the periods before; a steady group is judged by the least change."""
    library = load(
        tmp_path,
        deviation={"period": "1h", "periods": 4, "threshold": 3, "value": "Size"},
        group_by=["UserId"],
    )

    def tried(*sizes: int) -> int:
        return len(
            found(
                library,
                [one(HOUR * hour, Size=size) for hour, size in enumerate(sizes)],
                hours=len(sizes) + 2,
            )
        )

    assert tried(10, 12, 8, 10, 60) == 1
    assert tried(10, 12, 8, 10, 13) == 0
    assert tried(10, 12, 60) == 0


def test_a_journey_that_nobody_can_make_is_told(tmp_path: Path) -> None:
    """Amsterdam to Sydney in an hour; not Amsterdam to Rotterdam, and not in a day."""
    library = load(
        tmp_path,
        kind="travel",
        travel={"within": "3d"},
        explanation="{user} went {distance} from {from} to {to} at {speed}.",
    )
    places = {"192.0.2.1": (52.37, 4.9), "192.0.2.2": (-33.87, 151.2), "192.0.2.3": (51.92, 4.48)}

    def travel(first: str, second: str, hours: int) -> list[Alert]:
        return found(library, [one(0, ClientIP=first), one(HOUR * hours, ClientIP=second)], places=places)

    [alert] = travel("192.0.2.1", "192.0.2.2", 1)
    assert alert.explanation.startswith("ann@contoso.example went 166")
    assert "from 192.0.2.1 to 192.0.2.2 at 166" in alert.explanation
    assert alert.evidence == ("record-0", f"record-{HOUR}")
    assert travel("192.0.2.1", "192.0.2.3", 1) == []
    assert travel("192.0.2.1", "192.0.2.2", 30) == []
    assert travel("192.0.2.1", "198.51.100.1", 1) == []


@pytest.mark.parametrize(
    ("ends", "told"),
    [(("True", "True"), False), (("True", "False"), True), (("False", "True"), True), (("", ""), True)],
)
def test_a_journey_between_trusted_devices_is_none(
    tmp_path: Path, ends: tuple[str, str], *, told: bool
) -> None:
    """A VPN takes both ends of it elsewhere; a stranger at either end has no such device."""
    library = load(tmp_path, kind="travel", trusted="Trust.Managed|Managed")
    places = {"192.0.2.1": (52.37, 4.9), "192.0.2.2": (-33.87, 151.2)}
    records = [
        one(HOUR * place, ClientIP=address, Trust={"Managed": end})
        for place, (address, end) in enumerate(zip(places, ends, strict=True))
    ]

    assert bool(found(library, records, places=places)) is told


def test_a_trusted_first_sighting_is_known_and_not_told(tmp_path: Path) -> None:
    """What a managed device was the first to do is new no more when another does it."""
    library = load(
        tmp_path, first_seen={"key": ["ClientIP"], "period": "14d", "learn": "1d"}, trusted="Trust|Managed"
    )
    known = [one(0), one(5 * DAY, ClientIP="192.0.2.2", Managed=True)]

    assert found(library, [*known, one(6 * DAY, ClientIP="192.0.2.2", Managed=False)]) == []
    assert len(found(library, [*known, one(6 * DAY, ClientIP="192.0.2.3", Managed=False)])) == 1


def test_a_correlation_joins_what_is_new_and_not_what_matched(tmp_path: Path) -> None:
    """A device added after a new address: the address has to be new."""
    new = rule_text(
        {"s": {"Operation": "One"}, "condition": "s"},
        name="new",
        m365watch={"first_seen": {"key": ["UserId", "ClientIP"], "learn": "1d"}},
    )
    device = rule_text(
        {"s": {"Operation": "Device"}, "condition": "s"},
        name="device",
        id="5f1c6c0e-7d0b-4a51-9a4e-000000000002",
    )
    joint = yaml.safe_dump(
        {
            "title": "Joint",
            "correlation": {
                "type": "temporal_ordered",
                "rules": ["new", "device"],
                "group-by": ["UserId"],
                "timespan": "30m",
            },
        }
    )
    library = load_good(tmp_path, new, device, joint)
    known = [one(0, ClientIP="192.0.2.1"), one(3 * DAY, ClientIP="192.0.2.1")]
    added = record(3 * DAY + 60, Operation="Device")

    assert found(library, [*known, added]) == []
    assert len(found(library, [*known, one(3 * DAY + 5, ClientIP="192.0.2.2"), added])) == 1


def test_a_silence_blames_nobody(tmp_path: Path) -> None:
    """Whoever was seen last before it has nothing to do with it; its group has."""

    def silence(**extension: Any) -> Alert:
        keys = {"low": {"period": "1h", "learn": "1d"}, **extension}
        library = load(tmp_path, **keys)
        found = find_alerts(
            library.rules,
            [record(0, Operation="One")],
            knowledge=Knowledge(),
            tenant=TENANT,
            now=datetime(2026, 11, 2, 9, tzinfo=UTC),
        )
        return found[0]

    assert silence().entities == ()
    assert silence(group_by="UserId").entities == (("user", "ann@contoso.example"),)
    assert silence().explanation.startswith("A rule: nothing between 2026-11-02 01:00:00Z and 2026-11-02 ")
    assert silence().explanation.endswith("; the last before was at 2026-11-02 00:00:00Z.")
    assert "nothing of ann@contoso.example between" in silence(group_by="UserId").explanation


def test_a_rule_without_words_of_its_own_is_told_in_words(tmp_path: Path) -> None:
    """One record is one record, at one time."""
    library = load_good(tmp_path, rule_text({"s": {"Operation": "One"}, "condition": "s"}))
    [one] = alerts_of(library, [record(0, Operation="One")])
    [two] = alerts_of(library, [record(second, Operation="One") for second in (0, 5)])

    assert one.explanation == "A rule for ann@contoso.example: 1 record at 2026-11-02 00:00:00Z."
    assert two.explanation == (
        "A rule for ann@contoso.example: 2 records from 2026-11-02 00:00:00Z to 2026-11-02 00:00:05Z."
    )


def test_a_headline_tells_alerts_of_one_rule_apart(tmp_path: Path) -> None:
    """Whoever reads a list sees what it is; the rule keeps its own title."""
    extension = {"headline": "Microsoft: {Name}", "group_by": "Name"}
    library = load(tmp_path, **extension)
    found = [*alerts_of(library, [record(0, Operation="One", Name="Bad\nlink"), record(1, Operation="One")])]

    assert [alert.title for alert in found] == ["Microsoft: Bad\u240alink", "Microsoft: (unknown)"]
    assert library.rules[0].title == "A rule"
