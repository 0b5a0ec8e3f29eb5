"""A secret that ends soon, from Graph to every place where it is told, in real processes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from commands import Ended, command
from m365watch.common.clock import SystemClock
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch_simulator.service.scenario import Scenario, load_scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from place import LAKE, assert_discreet


def collect(
    folder: Path, scenario: Scenario | None, *commands: tuple[str, ...]
) -> tuple[list[Ended], dict[str, Any]]:
    """A run that catches up, then each of `commands`; and what the service was asked."""

    async def main() -> tuple[list[Ended], dict[str, Any], str]:
        settings = SimulationSettings(seed=5, days=0.2, records_per_day=40, scenario=scenario, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            file = folder / "m365watch.json"
            file.write_text(json.dumps(running.configuration(outputs={"lake": LAKE})))
            file.chmod(0o600)
            ended = [await command(*words, "--config", str(file)) for words in (("run", "--once"), *commands)]
            secret = running.tenants[0].identity.client_secret
            for one in ended:
                assert_discreet(one.out + one.err, secrets=[secret], records=[])
            return ended, running.report, secret

    ended, report, secret = asyncio.run(main())
    written = [path for path in folder.rglob("*") if path.is_file() and path.name != "m365watch.json"]
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    return ended, report


@guarantee(25)
@pytest.mark.slow
def test_a_secret_that_ends_soon_is_told_everywhere(tmp_path: Path) -> None:
    """In the log, the notices, `status` and `why`; over a restart once, and Graph is asked once."""
    (run, again, document, why), report = collect(
        tmp_path,
        load_scenario("secret-ends-soon"),
        ("run", "--once"),
        ("status", "--json"),
        ("why", "--json"),
    )
    notices = LakeReader(tmp_path / "lake").query(
        "SELECT level, input_name, msg FROM \"devo.collectors.out\" WHERE contains(msg, 'client secret')"
    )

    assert (run.exit_code, again.exit_code, again.complaints) == (0, 0, [])
    [warning] = run.complaints
    assert "warning SetupError [CODE:0104] reason: " in warning
    assert (
        ", in 9 days; create a new client secret in Entra and put its value into inputs.office365" in warning
    )
    [(level, input_name, msg)] = notices.rows
    assert (level, input_name) == ("warning", "office365")
    assert str(msg) in warning
    [credential] = json.loads(document.out)["credentials"]
    assert (credential["kind"], credential["source"]) == ("client_secret", "graph")
    assert 9.9 < credential["days_left"] <= 10
    [token] = [one for one in json.loads(why.out)["tenants"][0]["steps"] if one["step"] == "token"]
    assert (token["verdict"], "in 9 days" in token["seen"]) == ("note", True)
    assert report["requests"]["application"] == 1


@pytest.mark.slow
def test_that_graph_does_not_permit_it_is_no_trouble(tmp_path: Path) -> None:
    """Told once as information; the run is as good as ever."""
    (run, page), report = collect(tmp_path, None, ("status",))

    assert (run.exit_code, page.exit_code, run.complaints) == (0, 0, [])
    assert "it is not known when the client secret expires: Graph does not permit" in run.err
    assert "credential: client secret: it is not known when it expires: Graph does not permit" in page.out
    assert report["requests"]["application"] == 1
    assert report["violations"] == []
