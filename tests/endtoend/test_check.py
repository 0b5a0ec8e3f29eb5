"""`m365watch check` as a shell sees it: lines, the document, exit codes; and beside a run that is running."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from patience import PATIENCE_S

from commands import Ended, command, ended, scene_in, start
from m365watch.clock import SystemClock
from m365watch.simulator.server import SimulationSettings, simulator_running
from place import FILES, assert_discreet


def check(folder: Path) -> Ended:
    """How `check` ended against a service that answers as it should; it tells no secret."""

    async def main() -> Ended:
        settings = SimulationSettings(seed=5, days=1, records_per_day=20, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            file = folder / "m365watch.json"
            file.write_text(json.dumps(running.configuration(outputs={"files": FILES})))
            file.chmod(0o600)
            found = await command("check", "--config", str(file))
            assert_discreet(
                found.out + found.err, secrets=[running.tenants[0].identity.client_secret], records=[]
            )
            return found

    return asyncio.run(main())


def test_lines_end_with_the_sums_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """A line a step in words, without colour, and a hint under what needs one; notes break nothing."""
    found = check(tmp_path)
    lines = found.out.splitlines()

    assert found.exit_code == 0
    assert lines[0] == "this machine"
    assert lines[1].startswith("ok      configuration ")
    assert any(line.startswith("note    subscriptions exchange: not started yet") for line in lines)
    assert lines[-1].startswith("nothing is broken (notes keep no run from working): ")
    assert "\x1b" not in found.out
    assert [path.name for path in tmp_path.iterdir()] == ["m365watch.json"]


def test_a_wrong_configuration_is_told_mistake_by_mistake(tmp_path: Path) -> None:
    """Exit code 2; everything else waits for it."""
    file = tmp_path / "m365watch.json"
    secret = "an-inline-secret-of-somebody"
    credentials = {"tenant_id": "nobody", "client_id": "nothing", "client_secret": secret}
    file.write_text(json.dumps({"inputs": {"office365": {"credentials": credentials}}}))
    file.chmod(0o600)

    wrong = asyncio.run(command("check", "--config", str(file), "--json"))
    document = json.loads(wrong.out)
    [group] = document["groups"]
    mistakes = [step for step in group["steps"] if step["verdict"] == "broken"]

    assert (wrong.exit_code, document["exit_code"], document["configuration"]) == (2, 2, None)
    assert [mistake["step"] for mistake in mistakes] == ["configuration", "configuration"]
    assert "credentials.tenant_id" in str(mistakes)
    assert secret not in wrong.out + wrong.err


def test_it_works_beside_a_run_and_disturbs_nothing(tmp_path: Path) -> None:
    """The run goes on and ends in order; no output holds anything that the run has not delivered."""

    async def main() -> tuple[dict[str, Any], Ended]:
        async with scene_in(tmp_path) as scene:
            await scene.run_once()
            before = scene.place.holdings()
            run = await start("run", "--config", str(scene.file))
            try:
                lines: list[str] = []
                assert run.stderr is not None
                while not lines or "started" not in lines[-1]:
                    lines.append((await asyncio.wait_for(run.stderr.readline(), PATIENCE_S)).decode())
                found = await command("check", "--config", str(scene.file), "--json")
                scene.check_discreet(found)
            finally:
                run.terminate()
            stopped = await ended(run)
            # The run may have fetched meanwhile what came out since the first one.
            after = scene.place.holdings()
            assert all({*before[name]} <= {*after[name]} for name in before)
            scene.check_complete()
            assert stopped.complaints == []
            assert stopped.exit_code == 0
            return json.loads(found.out), found

    document, found = asyncio.run(main())
    steps = {step["step"]: step for group in document["groups"] for step in group["steps"]}

    assert found.exit_code == 0, found.out
    assert "in use by pid " in steps["state"]["seen"]
    assert {step["verdict"] for group in document["groups"] for step in group["steps"]} == {"ok"}
    assert "on the first page of the last 24 h" in found.out
