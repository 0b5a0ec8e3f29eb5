"""Whom and what an alert names of its records."""

from __future__ import annotations

from pathlib import Path

from rules import load_good, rule_text
from test_engine import Bench


def test_an_alert_names_everybody_whom_its_records_name(tmp_path: Path) -> None:
    """The first of them is first; the others are as much attacked as that one."""
    extension = {"group_by": "ClientIP", "entity": {"user": "UserId", "address": "ClientIP"}}
    extension["explanation"] = "{user} from {address}"
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    bench = Bench(tmp_path, load_good(tmp_path, rule_text(detection, m365watch=extension)))
    for second in range(60):
        bench.take(second, UserId=f"User{second % 55}@contoso.example", ClientIP="192.0.2.1")

    [kept] = bench.state.alerts.list()
    assert kept.alert.named("user") == tuple(f"User{number}@contoso.example" for number in range(50))
    assert kept.alert.named("address") == ("192.0.2.1",)
    assert kept.alert.unnamed == (("user", 5),)
    assert kept.alert.notes == ("5 more users are not named here; its records name them.",)
    assert kept.alert.explanation == (
        "User0@contoso.example, User1@contoso.example, User2@contoso.example and 52 more from 192.0.2.1"
    )


def test_the_values_of_one_record_are_told_apart(tmp_path: Path) -> None:
    """Addresses are; what only looks like several, as a name with a comma, is one."""
    extension = {"entity": {"recipient": "To", "name": "Name"}, "group_by": "UserId"}
    detection = {"s": {"Operation": "One"}, "condition": "s"}
    bench = Bench(tmp_path, load_good(tmp_path, rule_text(detection, m365watch=extension)))
    bench.take(0, To=["a@x.example", "b@x.example"], Name="Miller, Ann")
    bench.take(1, To=["b@x.example", "c@x.example"], Name="Miller, Ann")

    [kept] = bench.state.alerts.list()
    assert kept.alert.named("recipient") == ("a@x.example", "b@x.example", "c@x.example")
    assert kept.alert.named("name") == ("Miller, Ann",)
