"""`m365watch why`: each step that breaks is found and named, and nothing behind it is asked."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from commands import Ended, command
from m365watch.common.clock import SystemClock
from m365watch_simulator.service.scenario import Behaviour, Scenario, load_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from place import FILES, LAKE, assert_discreet

Change = Callable[[dict[str, Any]], None]


def unchanged(_document: dict[str, Any]) -> None:
    """The right configuration."""


def why(
    folder: Path,
    scenario: Scenario | str | None = None,
    *,
    change: Change = unchanged,
    runs: bool = False,
    after: Callable[[Path], None] = lambda _folder: None,
    records_per_day: int = 60,
    options: tuple[str, ...] = (),
) -> tuple[dict[str, Any], Ended]:
    """The one tenant's part of `why --json`, and how the command ended; after a run where it `runs`.

    `after` changes something in the folder before `why` looks.
    """

    async def main() -> Ended:
        known = load_scenario(scenario) if isinstance(scenario, str) else scenario
        settings = SimulationSettings(
            seed=5, days=1, records_per_day=records_per_day, scenario=known, live=False
        )
        async with simulator_running(settings, clock=SystemClock()) as running:
            file = configured(folder, running, change)
            if runs:
                await command("run", "--config", str(file), "--once")
            after(folder)
            before = everything_in(folder)
            ended = await command("why", "--config", str(file), "--json", *options)
            assert everything_in(folder) == before, "it changes nothing"
            secret = running.tenants[0].identity.client_secret
            assert_discreet(ended.out + ended.err, secrets=[secret], records=[])
            return ended

    ended = asyncio.run(main())
    [tenant] = json.loads(ended.out)["tenants"]
    return tenant, ended


def everything_in(folder: Path) -> dict[Path, bytes]:
    """All files, but for what SQLite makes beside a file while somebody reads it."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def configured(folder: Path, running: RunningSimulator, change: Change) -> Path:
    document = running.configuration(outputs={"files": FILES})
    change(document)
    file = folder / "m365watch.json"
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    return file


def tenant_input(document: dict[str, Any]) -> dict[str, Any]:
    (given,) = document["inputs"].values()
    assert isinstance(given, dict)
    return given


def assert_broken(found: tuple[dict[str, Any], Ended], step: str, text: str) -> None:
    """The step is the last one, alone broken, with `text` in what was seen and with a cure."""
    tenant, ended = found
    last = tenant["steps"][-1]
    assert (ended.exit_code, tenant["broken"], last["step"]) == (1, step, step)
    assert text in last["seen"]
    assert last["fix"]
    assert [one["step"] for one in tenant["steps"] if one["verdict"] == "broken"] == [step]


@guarantee(29)
def test_where_nothing_is_broken_it_says_where_records_arrive(tmp_path: Path) -> None:
    """Exit code 0, every step in order, the tables and the time of the last records."""
    tenant, ended = why(tmp_path, runs=True)

    assert ended.exit_code == 0
    assert tenant["broken"] is None
    assert [one["step"] for one in tenant["steps"]] == [
        *("configuration", "proxy", "dns", "tls", "clock", "token", "tenant", "roles", "audit"),
        *("subscriptions", "served", "listed", "fetched", "deduplicated", "routed", "delivered"),
    ]
    assert "cloud.office365.management." in tenant["next"]
    assert " ago" in tenant["next"]


@guarantee(29)
@pytest.mark.parametrize(
    ("scenario", "step", "text"),
    [
        ("server-clock", "clock", "behind the server's"),
        ("secret-expired", "token", "AADSTS7000222"),
        ("foreign-token", "tenant", "00000000-0000-4000-8000-000000000000"),
        ("no-roles", "roles", "ActivityFeed.Read is missing"),
        ("audit-never-enabled", "audit", "auditing was never enabled"),
        (None, "subscriptions", "enabled: none"),
    ],
)
def test_a_step_at_the_service_is_found(tmp_path: Path, scenario: str | None, step: str, text: str) -> None:
    """Also before anything was collected."""
    assert_broken(why(tmp_path, scenario), step, text)


def test_a_service_that_is_not_enabled_is_found(tmp_path: Path) -> None:
    """Asked for by name."""

    def change(document: dict[str, Any]) -> None:
        tenant_input(document)["services"] = {"exchange": {}}

    assert_broken(
        why(tmp_path, change=change, options=("--service", "dlp")), "configuration", "dlp is not enabled"
    )


def test_a_start_in_the_future_is_found(tmp_path: Path) -> None:
    """Nothing would be collected until then."""

    def change(document: dict[str, Any]) -> None:
        start = SystemClock().now() + timedelta(days=3)
        service = {"start_time_in_utc": f"{start:%Y-%m-%dT%H:%M:%S.000Z}"}
        tenant_input(document)["services"] = {"exchange": service}

    assert_broken(why(tmp_path, change=change), "configuration", "lies in the future")


def test_a_host_that_does_not_exist_is_found(tmp_path: Path) -> None:
    """A misspelt cloud, say."""

    def change(document: dict[str, Any]) -> None:
        hosts = {"login_url": "https://login.invalid", "management_url": "https://manage.invalid"}
        tenant_input(document)["cloud"] = hosts

    assert_broken(why(tmp_path, change=change), "dns", "login.invalid cannot be resolved")


def test_a_host_that_speaks_no_tls_is_found(tmp_path: Path) -> None:
    """Something else answers in the server's place."""

    def change(document: dict[str, Any]) -> None:
        cloud = tenant_input(document)["cloud"]
        for name, url in cloud.items():
            cloud[name] = url.replace("http:", "https:")

    assert_broken(why(tmp_path, change=change), "tls", "127.0.0.1: ")


def test_the_missing_permission_of_dlp_breaks_dlp_alone(tmp_path: Path) -> None:
    """The other feeds do without."""
    dlp = why(tmp_path, "no-dlp-role", options=("--service", "dlp"))
    others, _ = why(tmp_path, "no-dlp-role", runs=True)
    verdicts = {one["step"]: one["verdict"] for one in others["steps"]}

    assert_broken(dlp, "roles", "ActivityFeed.ReadDlp is missing")
    assert (verdicts["roles"], others["broken"]) == ("note", None)


def test_blobs_that_cannot_be_fetched_are_found(tmp_path: Path) -> None:
    """Listed, known, and every try fails."""
    rule = {"on": "fetch", "answer": "html_500", "times": "always"}
    scenario = Scenario.model_validate({"rules": [rule]})

    assert_broken(why(tmp_path, scenario, runs=True, records_per_day=8), "fetched", "HTTP 500")


def lose_log(folder: Path) -> None:
    """As a copy that was put back without it."""
    shutil.rmtree(folder / "lake" / "audit" / "_delta_log")


def lose_end(folder: Path) -> None:
    """As a file system that lost what was in the last commit shows it."""
    max((folder / "lake" / "audit" / "_delta_log").glob("*.json")).write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lose", "text"),
    [
        (lose_log, "audit/_delta_log has no commit, but files of records lie beside it"),
        (lose_end, "but the lake ends with batch "),
    ],
)
def test_a_lake_that_no_run_goes_on_with_is_found(
    tmp_path: Path, lose: Callable[[Path], None], text: str
) -> None:
    """It was taken for whole, as the ledger has delivered there."""

    def change(document: dict[str, Any]) -> None:
        document["outputs"] = {"lake": LAKE}

    assert_broken(why(tmp_path, change=change, runs=True, after=lose), "delivered", text)


def test_a_collector_that_has_never_run_is_found(tmp_path: Path) -> None:
    """Another one has started the subscriptions, content is served, and there is no ledger here."""

    async def main() -> Ended:
        settings = SimulationSettings(seed=5, days=1, records_per_day=60, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            (tmp_path / "other").mkdir()
            other = configured(tmp_path / "other", running, unchanged)
            await command("run", "--config", str(other), "--once")
            return await command("why", "--config", str(configured(tmp_path, running, unchanged)), "--json")

    ended = asyncio.run(main())
    [tenant] = json.loads(ended.out)["tenants"]
    assert_broken((tenant, ended), "listed", "no ledger yet")


def test_the_page_fits_a_terminal(tmp_path: Path) -> None:
    """A line a step, then the hint."""

    async def main() -> Ended:
        scenario = Scenario(behaviour=Behaviour(secret_expired=True))
        settings = SimulationSettings(seed=5, days=1, records_per_day=8, scenario=scenario, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            return await command("why", "--config", str(configured(tmp_path, running, unchanged)))

    ended = asyncio.run(main())
    lines = ended.out.splitlines()

    assert lines[1].startswith("ok ")
    assert any(line.startswith("broken  token ") for line in lines)
    assert lines[-1].startswith("hint: create a new client secret")
