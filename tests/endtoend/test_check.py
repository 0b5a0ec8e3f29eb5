"""`m365watch check` as a shell sees it: lines, the document, exit codes; and beside a run that is running."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee

from commands import Ended, collecting, command, ended, scene_in
from m365watch.common.clock import SystemClock
from m365watch_simulator.service.server import SimulationSettings, simulator_running
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


@guarantee(29)
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


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes, but where SQLite's readers sign in, and the empty log that one makes."""
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): body
        for path, body in found.items()
        if not path.name.endswith("-shm") and (body or not path.name.endswith("-wal"))
    }


@pytest.mark.slow
def test_it_delivers_and_commits_nothing(tmp_path: Path) -> None:
    """Every byte of ledger, outputs and queues stays; no blob is fetched, and nothing subscribed."""

    async def main() -> tuple[Ended, set[str]]:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            asked, before = Counter(scene.running.report["requests"]), bytes_below(tmp_path)
            found = await command("check", "--config", str(scene.file))
            assert bytes_below(tmp_path) == before
            scene.check_complete()
            return found, set(Counter(scene.running.report["requests"]) - asked)

    found, calls = asyncio.run(main())

    assert found.exit_code == 0, found.out
    assert calls == {"token", "subscriptions", "list"}


@guarantee(29)
@pytest.mark.slow
def test_it_works_beside_a_run_and_disturbs_nothing(tmp_path: Path) -> None:
    """While the run is held, no byte changes of what it writes; let go, it goes on and ends in order."""

    async def main() -> list[Ended]:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            run = await collecting(scene.file)
            try:
                # Or what the run itself writes meanwhile would be in the comparison.
                await held(run.pid)
                before = bytes_below(tmp_path)
                beside_held = await command("check", "--config", str(scene.file), "--json")
                assert bytes_below(tmp_path) == before
                os.kill(run.pid, signal.SIGCONT)
                beside = await command("check", "--config", str(scene.file), "--json")
                scene.check_discreet(beside)
            finally:
                os.kill(run.pid, signal.SIGCONT)
                run.terminate()
            stopped = await ended(run)
            scene.check_complete()
            assert (stopped.complaints, stopped.exit_code) == ([], 0)
            return [beside_held, beside]

    for found in asyncio.run(main()):
        document = json.loads(found.out)
        steps = {step["step"]: step for group in document["groups"] for step in group["steps"]}
        assert found.exit_code == 0, found.out
        assert "in use by pid " in steps["state"]["seen"]
        assert {step["verdict"] for group in document["groups"] for step in group["steps"]} == {"ok"}
        assert "on the first page of the last 24 h" in found.out


async def held(pid: int) -> None:
    """Stop the process where it is, and return once it stands."""
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_S):
        while state_of(pid) != "T":
            await asyncio.sleep(0.005)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
