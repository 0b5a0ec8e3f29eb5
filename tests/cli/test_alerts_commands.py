"""`m365watch alerts`: what an analyst reads, decides and takes along."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from typer.testing import CliRunner, Result

from m365watch.cli.program import app
from m365watch.common.clock import SystemClock, system_random
from m365watch.config.loader import load_settings
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import TROUBLE, DetectionState
from m365watch.lake.schema import ALERTS
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.runtime.collector import Collector
from m365watch_simulator.service.server import SimulationSettings, simulator_running

TENANT = "22222222-2222-2222-2222-222222222222"
NOW_MS = round(SystemClock().now().timestamp() * 1000)
FORWARD = Alert(
    id=AlertId("aaaa1111" + "0" * 24),
    rule_id="29346549-7cb3-53f5-b1d6-3e96d2b7eb09",
    title="Inbox rule sends mail outside",
    severity=Severity.HIGH,
    tenant=TENANT,
    group=("ann@contoso.example",),
    entities=(("user", "ann@contoso.example"), ("address", "203.0.113.7")),
    first_at_ms=NOW_MS - 3_600_000,
    last_at_ms=NOW_MS - 1_800_000,
    count=2,
    evidence=("record-1", "record-2"),
    explanation="ann@contoso.example made a rule that sends mail on to x@evil.example.",
    detection="B01",
    techniques=("T1114.003",),
    tactics=("collection",),
    check=("Ask the owner by telephone.",),
    contain=("remove_inbox_rule", "revoke_sessions"),
    notes=("The country of 203.0.113.7 is not known.",),
)
SIGNAL = replace(
    FORWARD,
    id=AlertId("aaaa2222" + "0" * 24),
    title="=HYPERLINK(1) \x1b[2J",
    severity=Severity.LOW,
    detection="I04",
    entities=(("user", "bob@contoso.example"),),
    last_at_ms=NOW_MS - 60_000,
)
CRITICAL = replace(
    FORWARD, id=AlertId("cccc3333" + "0" * 24), severity=Severity.CRITICAL, detection="C01", tenant="other"
)


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("SUDO_USER", raising=False)


def configuration(folder: Path, **more: Any) -> Path:
    path = folder / "config.json"
    keys = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "not-a-real-one"}
    document = {"inputs": {"office365": {"credentials": keys}}, **more}
    path.write_text(json.dumps(document), encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose collector has found three alerts."""
    path = configuration(tmp_path)
    (tmp_path / "state").mkdir()
    state = DetectionState(tmp_path / "state" / "detections.sqlite")
    for alert in (FORWARD, SIGNAL, CRITICAL):
        state.alerts.put(KeptAlert(alert, shown=True))
    state.close()
    return path


def call(config: Path, *arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(app, ["alerts", command, "--config", str(config), *rest])


def answer(config: Path, *arguments: str) -> Any:
    done = call(config, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def rules(*arguments: str) -> Any:
    return json.loads(CliRunner().invoke(app, ["rules", *arguments, "--json"]).stdout)["rules"]


def ids(document: dict[str, Any]) -> list[str]:
    return [one["id"][:8] for one in document["alerts"]]


def test_the_worst_alert_stands_first_and_signals_are_asked_for(config: Path) -> None:
    """A signal below medium is no reason to wake anybody."""
    assert ids(answer(config, "list")) == ["cccc3333", "aaaa1111"]
    assert ids(answer(config, "list", "--severity", "low")) == ["cccc3333", "aaaa1111", "aaaa2222"]


def test_an_old_title_of_a_rule_finds_its_alerts(config: Path) -> None:
    """A search that somebody kept goes on to work after the rule is renamed."""
    renamed = replace(
        FORWARD,
        id=AlertId("bbbb4444" + "0" * 24),
        rule_id="29346549-7cb3-53f5-b1d6-3e96d2b7eb09",
        title="Inbox rule forwards mail externally",
    )
    state = DetectionState(config.parent / "state" / "detections.sqlite")
    state.alerts.put(KeptAlert(renamed, shown=True))
    state.close()

    assert "bbbb4444" in ids(answer(config, "list", "--rule", "inbox rule sends mail outside"))
    assert "bbbb4444" not in ids(answer(config, "list", "--not-rule", "Inbox rule sends mail outside"))
    assert [one["detection"] for one in rules("show", "Inbox rule sends mail outside")] == ["B01"]


def test_what_a_list_hides_is_counted(config: Path) -> None:
    """Nobody takes a list that begins at medium for all there is."""
    shown = call(config, "list").stdout

    assert "2 alerts (1 critical, 1 high)" in shown
    assert "hidden: 1 low; `--severity low` shows them too" in shown
    assert answer(config, "list")["hidden"] == {"low": 1}
    assert answer(config, "list", "--entity", "eve@nowhere")["hidden"] == {}
    assert "hidden" not in call(config, "list", "--severity", "low").stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--rule", "b01"), ["aaaa1111"]),
        (("--not-rule", "b01"), ["cccc3333"]),
        (("--not-rule", "A01"), ["cccc3333", "aaaa1111"]),
        (("--not-rule", "sends mail", "--severity", "low"), ["aaaa2222"]),
        (("--rule", "T02"), []),
        (("--rule", "sends mail"), ["cccc3333", "aaaa1111"]),
        (("--entity", "BOB@", "--severity", "informational"), ["aaaa2222"]),
        (("--tenant", "OTHER"), ["cccc3333"]),
        (("--tenant", TENANT[:8]), ["aaaa1111"]),
        (("--tenant", "the", "--tenant", TENANT), ["cccc3333", "aaaa1111"]),
        (("--limit", "1"), ["cccc3333"]),
        (("--state", "closed"), []),
    ],
)
def test_options_narrow_the_list(config: Path, options: tuple[str, ...], expected: list[str]) -> None:
    """Each by itself."""
    assert ids(answer(config, "list", *options)) == expected


def test_the_list_fits_into_80_columns_and_a_hostile_title_does_nothing(config: Path) -> None:
    """Names from records reach the terminal without control characters."""
    shown = call(config, "list", "--severity", "low").stdout

    assert max(map(len, shown.splitlines())) <= 80
    assert "\x1b[2J" not in shown
    assert "aaaa1111" in shown
    assert "3 alerts (1 critical, 1 high, 1 low)" in shown


def test_an_alert_of_the_list_is_two_lines(config: Path) -> None:
    """What is told at a glance, and below it what happened: of no length that there is does it wrap."""
    head, *lines = call(config, "list", "--tenant", TENANT).stdout.splitlines()

    assert head.split()[:5] == ["alert", "severity", "last", "seen", "whom"]
    assert lines[0].startswith("aaaa1111  high      ")
    assert lines[0].rstrip().endswith("Z  ann@contoso.example")
    assert lines[1].rstrip() == "    Inbox rule sends mail outside, 2 records"


def test_alerts_of_several_tenants_say_whose_they_are(config: Path) -> None:
    """By the first digits of the id, which `--tenant` takes."""
    head, *lines = call(config, "list").stdout.splitlines()

    assert head.split()[:5] == ["alert", "severity", "last", "seen", "tenant"]
    assert [line.split()[4:] for line in (lines[0], lines[2])] == [
        ["other", "ann@contoso.example"],
        [TENANT[:8], "ann@contoso.example"],
    ]


def test_an_alert_says_what_happened_what_to_look_at_and_how_to_contain_it(config: Path) -> None:
    """In that order, in words; without a lake the ids of its records are shown."""
    shown = call(config, "show", "aaaa1111").stdout
    parts = [
        "HIGH",
        "sends mail on to x@evil.example",
        "address",
        "T1114.003 (collection)",
        "Ask the owner by telephone.",
        "remove inbox rule",
        "record-1",
        "is not known",
        "m365watch respond aaaa1111",
        "alerts ack aaaa1111",
    ]

    places = [shown.index(part) for part in parts]
    assert places == sorted(places)
    assert max(len(line) for line in shown.splitlines() if str(config) not in line) <= 80


def test_an_alert_as_a_document_says_its_schema(config: Path) -> None:
    """As every other document does."""
    assert answer(config, "show", "aaaa1111")["schema"] == answer(config, "list")["schema"] == 1


def test_the_commands_below_an_alert_can_be_pasted(config: Path) -> None:
    """They name the configuration that was named, whole and on their own lines."""
    lines = call(config, "show", "aaaa1111").stdout.splitlines()

    assert [line.strip() for line in lines[-3:]] == [
        f"m365watch respond aaaa1111 --config {config}",
        f"m365watch alerts ack aaaa1111 --config {config}",
        f'm365watch alerts close aaaa1111 --config {config} --reason "..."',
    ]


@pytest.mark.slow
def test_below_a_closed_alert_stands_how_it_is_opened_again(config: Path) -> None:
    """To acknowledge it would be refused."""
    call(config, "close", "aaaa1111", "--reason", "a drill", "--by", "eve")

    assert [line.strip() for line in call(config, "show", "aaaa1111").stdout.splitlines()[-2:]] == [
        f"m365watch respond aaaa1111 --config {config}",
        f"m365watch alerts reopen aaaa1111 --config {config}",
    ]


@guarantee(35)
@pytest.mark.slow
def test_an_alert_is_acknowledged_closed_and_opened_again(config: Path) -> None:
    """With who, when and why; an alert that is closed leaves the list."""
    assert call(config, "ack", "aaaa1111").exit_code == 0
    assert answer(config, "show", "aaaa1111")["changed_by"] == pwd.getpwuid(os.getuid()).pw_name
    assert ids(answer(config, "list")) == ["cccc3333", "aaaa1111"]
    closed = call(config, "close", "aaaa1111", "cccc3333", "--reason", "a drill", "--by", "eve")
    assert "closed by eve" in closed.stdout

    kept = answer(config, "show", "aaaa1111")

    assert (kept["state"], kept["reason"], kept["changed_by"]) == ("closed", "a drill", "eve")
    assert kept["changed_at"] >= "2026"
    assert ids(answer(config, "list")) == []
    assert ids(answer(config, "list", "--state", "closed")) == ["cccc3333", "aaaa1111"]
    assert call(config, "reopen", "cccc3333").exit_code == 0
    assert ids(answer(config, "list")) == ["cccc3333"]


def test_an_alert_is_shown_with_those_of_the_same_records(config: Path) -> None:
    """What joins others names them, with the ids by which they are looked at; another tenant's are none."""
    joint = replace(
        FORWARD, id=AlertId("dddd4444" + "0" * 24), title="Several signs", evidence=(*FORWARD.evidence, "r9")
    )
    state = DetectionState(config.parent / "state" / "detections.sqlite")
    state.alerts.put(KeptAlert(joint, shown=True))
    state.close()

    shown = call(config, "show", "dddd4444").stdout
    related = answer(config, "show", "dddd4444")["related"]

    assert "Alerts of the same records" in shown
    assert "- aaaa1111 " in shown.replace("  ", " ")
    assert "cccc3333" not in shown
    assert FORWARD.id in [one["id"] for one in related]
    assert set(related[0]) == {"id", "severity", "detection", "title", "first_seen_at"}


@pytest.mark.slow
def test_what_another_has_in_hand_is_not_taken_over_without_a_word(config: Path) -> None:
    """And what another has closed is not opened by an acknowledgement: that is asked for by its name."""
    call(config, "ack", "aaaa1111", "--by", "ann")
    again = call(config, "ack", "aaaa1111", "--by", "ann")
    taken = call(config, "ack", "aaaa1111", "--by", "bob")
    call(config, "close", "aaaa1111", "--reason", "a drill", "--by", "eve")
    refused = call(config, "ack", "aaaa1111", "cccc3333", "--by", "dan")

    assert "(was " not in again.stdout
    assert "acknowledged by bob" in taken.stdout
    assert "(was acknowledged by ann, " in taken.stdout
    assert refused.exit_code == 2
    words = " ".join(refused.stderr.replace("│", " ").split())
    assert "aaaa1111: eve has closed it (a drill); open it again first (`m365watch alerts reopen`)" in words
    assert answer(config, "show", "cccc3333")["state"] == "open"
    assert call(config, "reopen", "aaaa1111", "--by", "dan").exit_code == 0
    assert call(config, "ack", "aaaa1111", "--by", "dan").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "ffff"), "there is no such alert"),
        (("show", "aa"), "give at least 4 digits"),
        (("show", "aaaa"), "2 alerts begin so"),
        (("close", "aaaa1111", "--reason", " "), "--reason is empty"),
        (("close", "aaaa1111"), "--reason"),
        (("ack", "aaaa1111", "--by", ""), "--by is empty"),
        (("list", "--entity", ""), "--entity is empty"),
        (("list", "--rule", "NOPE"), "there is no rule NOPE"),
        (("list", "--not-rule", "NOPE"), "there is no rule NOPE"),
        (("export", "--rule", " "), "--rule is empty"),
        (("list", "--tenant", "4444"), "no tenant has '4444' in its id"),
        (("list", "--tenant", TENANT, "--tenant", " "), "--tenant is empty"),
        (("export", "--tenant", "contoso"), "no tenant has 'contoso' in its id"),
    ],
)
def test_what_cannot_be_meant_is_told(config: Path, arguments: tuple[str, ...], told: str) -> None:
    """With exit code 2."""
    done = call(config, *arguments)

    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())


@guarantee(35)
def test_of_several_alerts_all_are_closed_or_none(config: Path) -> None:
    """One that is not there keeps the others as they are."""
    assert call(config, "close", "aaaa1111", "ffff0000", "--reason", "x").exit_code == 2
    assert answer(config, "show", "aaaa1111")["state"] == "open"


def test_alerts_are_exported_as_lines_and_as_a_table(config: Path, tmp_path: Path) -> None:
    """All of them; no spreadsheet takes a title for a formula."""
    lines = call(config, "export").stdout.splitlines()
    out = tmp_path / "alerts.csv"
    done = call(config, "export", "--format", "csv", "--out", str(out))

    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in rows]
    assert len(rows) == 3
    assert rows[2]["title"].startswith("'=HYPERLINK")
    assert rows[1]["entities"] == "user=ann@contoso.example address=203.0.113.7"
    assert "3 alerts written" in done.stderr


def test_without_any_run_it_is_said_how_alerts_come_about(tmp_path: Path) -> None:
    """And no file is made by asking."""
    done = call(configuration(tmp_path), "list")

    assert done.exit_code == 1
    assert "there are no alerts here" in str(done.exception)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", [("list",), ("export",), ("ack", "aaaa1111")])
def test_a_file_that_is_empty_does_not_read_as_if_nothing_had_been_found(
    config: Path, command: tuple[str, ...]
) -> None:
    """A copy was torn, or put back onto a full disk; looking at it does not make it a new one."""
    path = config.parent / "state" / "detections.sqlite"
    path.write_bytes(b"")

    done = call(config, *command)

    assert done.exit_code == 1
    assert "the file of detections is empty" in str(done.exception)
    assert path.stat().st_size == 0


def test_a_file_that_is_gone_does_not_read_as_if_nobody_had_looked(tmp_path: Path) -> None:
    """The lake knows that something was found."""
    (tmp_path / "lake" / ALERTS / "_delta_log").mkdir(parents=True)
    outputs = frozenset({"lake", "detections"})
    SqliteLedger(tmp_path / "state", outputs=outputs, now=SystemClock().now()).close()
    lake = {"type": "lake", "config": {"directory": "lake"}}

    done = call(configuration(tmp_path, outputs={"lake": lake}), "list")

    assert done.exit_code == 1
    assert "the file of detections is gone" in str(done.exception)


RULE = """\
title: A record of any kind
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000001
status: test
logsource: {product: m365, service: exchange}
detection: {s: {Id|exists: true}, condition: s}
level: high
m365watch: {group_by: [Workload]}
"""


@pytest.mark.slow
def test_the_records_of_an_alert_are_shown_from_the_lake(tmp_path: Path) -> None:
    """Those of a real run: every one, and verbatim where that is asked for."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "every.yml").write_text(RULE, encoding="utf-8")

    async def collect() -> Path:
        simulated = SimulationSettings(seed=3, days=1, records_per_day=40, live=False)
        async with simulator_running(simulated, clock=SystemClock()) as running:
            document = running.configuration(outputs={"lake": {"type": "lake"}})
            document["detections"] = {"packs": [], "rules_directories": ["rules"]}
            path = tmp_path / "config.json"
            path.write_text(json.dumps(document), encoding="utf-8")
            path.chmod(0o600)
            settings = load_settings(path, environment={})
            collector = Collector(settings, clock=SystemClock(), random=system_random(1))
            await collector.run(once=True, stop=asyncio.Event())
            return path

    config = asyncio.run(collect())
    alert = answer(config, "list")["alerts"][0]
    shown = answer(config, "show", alert["id"], "--raw")

    assert len(alert["evidence"]) > 0
    assert {one["id"] for one in shown["records"]} == set(alert["evidence"])
    assert [json.loads(one["raw"])["Id"] for one in shown["records"]] == [
        one["id"] for one in shown["records"]
    ]
    assert "Evidence" in call(config, "show", alert["id"]).stdout


def test_status_says_how_many_alerts_are_open(config: Path) -> None:
    """By severity, the worst first; acknowledged ones apart; in JSON all of them."""
    SqliteLedger(
        config.parent / "state", outputs=frozenset({"lake", "detections"}), now=SystemClock().now()
    ).close()
    call(config, "ack", "aaaa1111")
    shown = CliRunner().invoke(app, ["status", "--config", str(config)]).stdout
    document = json.loads(CliRunner().invoke(app, ["status", "--config", str(config), "--json"]).stdout)

    assert "detections: alerts open: 1 critical; 1 acknowledged; `m365watch alerts list`" in shown
    assert document["detections"]["alerts"]["acknowledged"]["high"] == 1
    assert document["detections"]["alerts"]["open"]["low"] == 1
    assert (document["detections"]["matches"], document["detections"]["hours_full"]) == (0, 0)


def test_status_names_rules_and_exceptions_that_are_not_there(config: Path) -> None:
    """By their paths, on the page and in the document."""
    written = json.loads(config.read_text(encoding="utf-8"))
    written["detections"] = written.get("detections", {}) | {"exceptions_file": "renamed.yml"}
    config.write_text(json.dumps(written), encoding="utf-8")
    SqliteLedger(
        config.parent / "state", outputs=frozenset({"lake", "detections"}), now=SystemClock().now()
    ).close()

    shown = CliRunner().invoke(app, ["status", "--config", str(config)]).stdout
    document = json.loads(CliRunner().invoke(app, ["status", "--config", str(config), "--json"]).stdout)

    line = f"{config.parent}/renamed.yml: there is no such file"
    assert f"detections: {line}; a run does without it" in shown
    assert document["detections"]["missing"] == [line]


def test_status_says_that_the_process_of_the_detections_has_ended(config: Path) -> None:
    """In one line, with what becomes of it; nothing is said while all is well."""
    SqliteLedger(
        config.parent / "state", outputs=frozenset({"lake", "detections"}), now=SystemClock().now()
    ).close()
    before = CliRunner().invoke(app, ["status", "--config", str(config)]).stdout
    told = "has ended and is started again when much is to be done after 09:30:00Z"
    state = DetectionState(config.parent / "state" / "detections.sqlite")
    with state.transaction():
        state.write(TROUBLE, told)
    state.close()
    shown = CliRunner().invoke(app, ["status", "--config", str(config)]).stdout
    document = json.loads(CliRunner().invoke(app, ["status", "--config", str(config), "--json"]).stdout)

    assert "their process" not in before
    assert f"detections: their process {told}; the collector does them itself, more slowly" in shown
    assert document["detections"]["trouble"] == told
