"""Looking back over a lake gives what a run has given."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from promises import guarantee
from rich.console import Console
from typer.testing import CliRunner, Result

from m365watch.cli.lake.hunt_view import hunt_page
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock, system_random
from m365watch.config.loader import load_settings
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.retro_hunt import HuntOutcome
from m365watch.detection.store.detection_store import DetectionState
from m365watch.runtime.collector import Collector
from m365watch_simulator.service.server import SimulationSettings, simulator_running

RULE = """\
title: A rule of one's own
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000001
status: test
logsource: {product: m365, service: exchange}
detection: {s: {Id|exists: true}, condition: s}
level: high
m365watch: {group_by: [Workload]}
"""


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a collector that has run, with the packs on, over some days of a tenant."""
    folder = tmp_path_factory.mktemp("hunted")

    async def collect() -> Path:
        simulated = SimulationSettings(seed=5, days=4, records_per_day=250, live=False)
        async with simulator_running(simulated, clock=SystemClock()) as running:
            document = running.configuration(outputs={"lake": {"type": "lake"}})
            path = folder / "config.json"
            path.write_text(json.dumps(document), encoding="utf-8")
            path.chmod(0o600)
            collector = Collector(settings_of(path), clock=SystemClock(), random=system_random(1))
            async with asyncio.timeout(PATIENCE_S):
                outcome = await collector.run(once=True, stop=asyncio.Event())
            assert outcome.exit_code == 0
            return path

    return asyncio.run(collect())


def settings_of(config: Path) -> Settings:
    return load_settings(config, environment={})


def call(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["hunt", "--config", str(config), *arguments])


def answer(config: Path, *arguments: str) -> Any:
    done = call(config, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def alerts_of_the_run(config: Path) -> list[Alert]:
    state = DetectionState(settings_of(config).state_directory / "detections.sqlite")
    found = [one.alert for one in state.alerts.list()]
    state.close()
    return found


@guarantee(8)
@pytest.mark.slow
def test_a_look_back_leaves_the_detections_as_they_are(config: Path) -> None:
    """Nothing that it finds is kept, neither here nor in the lake."""
    folder = settings_of(config).state_directory

    def kept() -> list[tuple[str, bytes]]:
        paths = [*folder.glob("detections*"), *(config.parent / "lake" / "alerts").rglob("*.json")]
        return [(path.name, path.read_bytes()) for path in sorted(paths)]

    before = kept()
    assert call(config).exit_code == 0

    assert before
    assert kept() == before


@guarantee(34)
def test_a_look_back_gives_the_alerts_of_the_run(config: Path) -> None:
    """Ids, counts, evidence and words, from the whole lake and whatever order the run had it in."""
    start = SystemClock().now() - timedelta(days=8)
    found = answer(config, "--from", f"{start:%Y-%m-%dT%H:%M:%SZ}", "--limit", "10000")
    expected = alerts_of_the_run(config)

    assert len(expected) > 5
    assert {one["id"]: (one["count"], one["explanation"], one["evidence"]) for one in found["alerts"]} == {
        alert.id: (alert.count, alert.explanation, list(alert.evidence)) for alert in expected
    }
    assert found["total"] == len(expected)


@pytest.mark.slow
def test_a_rule_that_no_run_had_is_tried_on_what_came_before_it(config: Path, tmp_path: Path) -> None:
    """A file by its path, a rule of the packs by any of its names; only their alerts are shown."""
    (tmp_path / "mine.yml").write_text(RULE, encoding="utf-8")
    mine = answer(config, str(tmp_path / "mine.yml"))
    folder = answer(config, str(tmp_path))
    packed = answer(config, "B08", "A01")

    assert {one["title"] for one in mine["alerts"]} == {"A rule of one's own"}
    assert [one["id"] for one in mine["alerts"]] == [one["id"] for one in folder["alerts"]]
    assert {one["detection"] for one in packed["alerts"]} <= {"B08", "A01"}
    assert packed["records"] == mine["records"] > 500


@pytest.mark.slow
def test_risk_can_be_hunted_by_its_number(config: Path, tmp_path: Path) -> None:
    """All rules in force count for it, and their own alerts are not shown; where it is off, that is said."""
    document = json.loads(config.read_text(encoding="utf-8"))
    for name in ("000003", "000004", "000005"):
        sign = RULE.replace("high", "medium").replace("[Workload]", "[UserId], risk: 30")
        (tmp_path / f"{name}.yml").write_text(sign.replace("000001", name), encoding="utf-8")

    def with_points(points: int) -> Path:
        document["detections"] = {"risk_points": points, "packs": [], "rules_directories": str(tmp_path)}
        path = config.with_name(f"risk-{points}.json")
        path.write_text(json.dumps(document), encoding="utf-8")
        path.chmod(0o600)
        return path

    every = answer(with_points(50), "--limit", "10000")["alerts"]
    of_risk = [one for one in every if one["detection"] == "RISK"]
    refused = call(with_points(0), "RISK")

    assert 0 < len(of_risk) < len(every)
    assert answer(with_points(50), "RISK", "--limit", "10000")["alerts"] == of_risk
    assert refused.exit_code == 2
    assert "detections.risk_points is 0" in " ".join(refused.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_a_period_is_half_open_and_narrows_what_is_looked_at(config: Path, tmp_path: Path) -> None:
    """By CreationTime."""
    (tmp_path / "mine.yml").write_text(RULE, encoding="utf-8")
    now = SystemClock().now()
    day = answer(config, str(tmp_path), "--to", f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}")
    whole = answer(config, str(tmp_path))

    assert 0 < day["records"] < whole["records"]
    assert all(one["last_seen_at"] < day["to"] for one in day["alerts"])


def test_the_page_names_each_alert_and_what_was_looked_at(config: Path, tmp_path: Path) -> None:
    """In 80 columns."""
    (tmp_path / "mine.yml").write_text(RULE, encoding="utf-8")
    shown = call(config, str(tmp_path), "--limit", "1").stdout

    assert "A rule of one's own" in shown
    assert "looked at" in shown.splitlines()[-1]
    assert max(map(len, shown.splitlines())) <= 80


def test_the_page_says_of_which_of_several_tenants_an_alert_is(config: Path) -> None:
    """By the first digits of its id; where there is one alone, that is known."""
    one = alerts_of_the_run(config)[0]
    alerts = [KeptAlert(replace(one, tenant=tenant), shown=True) for tenant in ("1" * 36, "2" * 36)]

    def shown(found: list[KeptAlert]) -> str:
        sink = StringIO()
        Console(width=80, file=sink).print(hunt_page(HuntOutcome(found, 9, 2), limit=9))
        return sink.getvalue()

    assert f"; {one.id[:8]}; tenant 11111111" in shown(alerts)
    assert f"; {one.id[:8]}; tenant 22222222" in shown(alerts)
    assert "; tenant" not in shown(alerts[:1])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("B99",), "there is no rule B99"),
        (("--from", "2026-01-01", "--to", "2026-06-01"), "longer than 90 days"),
        (("--to", "yesterday"), "write 2026-11-01"),
    ],
)
def test_what_cannot_be_hunted_is_told(config: Path, arguments: tuple[str, ...], told: str) -> None:
    """With exit code 2, and before anything is read."""
    done = call(config, *arguments)

    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_who_finds_nothing_for_exceptions_alone_is_told(config: Path, tmp_path: Path) -> None:
    """Matches and no alert would else look like a rule that is broken."""
    (tmp_path / "mine.yml").write_text(RULE, encoding="utf-8")
    exceptions = tmp_path / "exceptions.yaml"
    ends = SystemClock().now() + timedelta(days=9)
    exceptions.write_text(
        f"exceptions: [{{rule: '*', entity: {{user: '*'}}, until: {ends:%Y-%m-%d}, reason: a drill}},"
        f" {{rule: RISK, entity: {{user: '*'}}, until: {ends:%Y-%m-%d}, reason: a drill}}]"
    )
    document = json.loads(config.read_text(encoding="utf-8"))
    document["detections"] = {"exceptions_file": str(exceptions)}
    excepted = config.with_name("excepted.json")
    excepted.write_text(json.dumps(document), encoding="utf-8")
    excepted.chmod(0o600)
    mine = str(tmp_path / "mine.yml")

    told = call(excepted, mine).stderr
    assert "exceptions_file" in told
    assert "excepts nothing" not in told
    assert "exceptions_file" not in call(config, mine).stderr


def test_without_a_lake_there_is_nothing_to_look_at(config: Path, tmp_path: Path) -> None:
    """Said with what to do."""
    document = json.loads(config.read_text(encoding="utf-8"))
    document["outputs"] = {"screen": {"type": "console"}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    path.chmod(0o600)

    done = call(path)

    assert "no output is a lake" in str(done.exception)


@pytest.mark.slow
def test_what_is_tried_takes_the_place_of_the_rule_in_force(config: Path, tmp_path: Path) -> None:
    """The file that is in force, its folder, or a copy that was changed: what is named is what is asked."""
    import json

    rules, edited = tmp_path / "rules", tmp_path / "edited" / "rules"
    for folder in (rules, edited):
        folder.mkdir(parents=True)
        (folder / "mine.yml").write_text(RULE, encoding="utf-8")
    changed = RULE.replace("title: A rule of one's own", "title: A rule as it is to be")
    (edited / "mine.yml").write_text(changed, encoding="utf-8")
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["detections"] = {**settings.get("detections", {}), "rules_directories": [str(rules)]}
    in_force = config.with_name("in-force.json")
    in_force.write_text(json.dumps(settings), encoding="utf-8")

    for named in (rules / "mine.yml", rules):
        assert {one["title"] for one in answer(in_force, str(named))["alerts"]} == {"A rule of one's own"}
    for named in (edited / "mine.yml", edited):
        assert {one["title"] for one in answer(in_force, str(named))["alerts"]} == {"A rule as it is to be"}


def test_a_copy_with_an_id_of_its_own_is_asked_alone(config: Path, tmp_path: Path) -> None:
    """Its file is called as that of the rule in force, which was asked as well."""
    rules, edited = tmp_path / "rules", tmp_path / "edited" / "rules"
    for folder in (rules, edited):
        folder.mkdir(parents=True)
    (rules / "mine.yml").write_text(RULE, encoding="utf-8")
    changed = RULE.replace("A rule of one's own", "A second rule").replace("000001", "000002")
    (edited / "mine.yml").write_text(changed, encoding="utf-8")
    settings = json.loads(config.read_text(encoding="utf-8"))
    in_force = config.with_name("copied.json")

    for place, named in ((rules, edited), (rules / "mine.yml", edited / "mine.yml")):
        settings["detections"] = {"packs": [], "rules_directories": [str(place)]}
        in_force.write_text(json.dumps(settings), encoding="utf-8")
        in_force.chmod(0o600)
        assert {one["title"] for one in answer(in_force, str(named))["alerts"]} == {"A second rule"}
