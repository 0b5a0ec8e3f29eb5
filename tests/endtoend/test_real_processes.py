from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from time import monotonic
from urllib.request import urlopen

import pytest
from patience import STOPPED_WITHIN_S
from promises import guarantee
from small_disk import small_disk

from commands import Ended, command, ended, scene_in, start, start_afresh
from place import BOTH, FILES, LAKE, records_in_lake

pytestmark = pytest.mark.slow

LIVE_RECORDS_MAX = 30
"""What the tenant may publish between a run's last listing and the simulator's end."""


@pytest.mark.slow
def test_two_commands_bring_a_tenant_into_the_lake(tmp_path: Path) -> None:
    """`simulate` in one process, `run`, `status` and `query` in others, as a newcomer does it."""

    async def collect() -> tuple[Ended, list[Ended], set[bytes]]:
        file = str(tmp_path / "m365watch.json")
        served = ["--records-per-day", "300", "--days", "1", "--truth", str(tmp_path / "truth")]
        simulator = await start_afresh("simulate", "--port", "0", "--json", "--write-config", file, *served)
        assert simulator.stdout is not None
        url = json.loads(await simulator.stdout.readline())["url"]
        run = await ended(await start_afresh("run", "--config", file, "--once", "--json"))
        status = await ended(await start_afresh("status", "--config", file, "--json"))
        asked = ("--json", "SELECT count(*) AS records FROM audit")
        query = await ended(await start_afresh("query", "--config", file, *asked))
        texts = await asyncio.to_thread(texts_served, url)
        simulator.send_signal(signal.SIGTERM)
        return await ended(simulator), [run, status, query], texts

    simulator, answers, texts = asyncio.run(collect())
    run, status, query = (json.loads(answer.out) for answer in answers)
    held = records_in_lake(tmp_path / "lake")
    served = (tmp_path / "truth" / "records.ndjson").read_bytes().splitlines()

    assert [simulator.exit_code, *(answer.exit_code for answer in answers)] == [0, 0, 0, 0]
    assert run["totals"] == status["totals"]
    assert status["totals"]["records"]["delivered"] == len(held) == len(set(held)) > 0
    assert str(len(held)) in json.dumps(query)
    assert set(held) <= texts
    assert len(served) - LIVE_RECORDS_MAX <= len(held) <= len(served)


def texts_served(url: str) -> set[bytes]:
    """Every text of every record that the simulator has served so far."""
    with urlopen(f"{url}/simulator/truth?copies=all") as answer:
        return set(answer.read().splitlines())


@guarantee(28)
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_is_orderly_and_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """In good time, with exit code 0; what was left is collected by the next run."""

    async def stop() -> tuple[Ended, float, Ended]:
        async with scene_in(tmp_path, latency_s=0.1, records_per_day=200) as scene:
            process = await start_afresh("run", "--config", str(scene.file), "--quiet")
            while not scene.place.holdings().get("lake"):
                await asyncio.sleep(0.05)
            process.send_signal(number)
            told_s = monotonic()
            stopped = await ended(process)
            took_s = monotonic() - told_s
            scene.check_discreet(stopped)
            held = len(scene.place.holdings()["lake"])
            assert 0 < held < scene.truth.record_count, "it was stopped in the middle"
            rest = await scene.run_once()
            scene.check_complete()
            return stopped, took_s, rest

    stopped, took_s, rest = asyncio.run(stop())

    assert stopped.exit_code == 0
    assert took_s < STOPPED_WITHIN_S
    assert rest.exit_code == 0


@guarantee(29)
@pytest.mark.slow
def test_others_may_look_while_it_runs_but_not_collect(tmp_path: Path) -> None:
    """`status` and `query` answer beside it; a second collector leaves with 4 and one line."""

    async def look() -> tuple[Ended, Ended, Ended]:
        async with scene_in(tmp_path) as scene:
            file = str(scene.file)
            process = await start("run", "--config", file, "--quiet")
            while len(scene.place.holdings().get("lake", ())) < scene.truth.record_count:
                await asyncio.sleep(0.1)
            answers = await asyncio.gather(
                command("status", "--config", file, "--json"),
                command("query", "--config", file, "--format", "csv", "SELECT count(*) FROM audit"),
                command("run", "--config", file, "--once"),
            )
            assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            assert (await ended(process)).exit_code == 0
            assert str(scene.truth.record_count) in answers[1].out
            assert f"pid {process.pid} " in answers[2].err
            return answers

    status, query, second = asyncio.run(look())

    assert [status.exit_code, query.exit_code, second.exit_code] == [0, 0, 4]
    assert len(json.loads(status.out)["feeds"]) == 5
    assert len(second.complaints) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("credentials", "says"),
    [
        ({"client_secret": "not~the~right~one"}, "AADSTS7000215"),
        ({"tenant_id": "00000000-1111-4222-8333-444444444444"}, "AADSTS90002"),
    ],
    ids=["secret", "tenant"],
)
def test_wrong_credentials_are_told_in_one_line(
    credentials: dict[str, str], says: str, tmp_path: Path
) -> None:
    """Exit code 1; with the right ones everything is there."""

    async def mistake() -> tuple[Ended, Ended]:
        async with scene_in(tmp_path) as scene:
            scene.configure(credentials=credentials)
            wrong = await scene.run_once()
            scene.configure()
            right = await scene.run_once()
            scene.check_complete()
            return wrong, right

    wrong, right = asyncio.run(mistake())

    assert (wrong.exit_code, right.exit_code) == (1, 0)
    assert len(wrong.complaints) == 1
    assert says in wrong.complaints[0]
    assert credentials.get("client_secret", says) not in wrong.err.replace(says, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["state", "out", "lake"])
def test_a_directory_that_cannot_be_written_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    """Exit code 1 before anything begins; once the obstacle is gone everything is there."""

    async def obstruct() -> tuple[Ended, Ended]:
        async with scene_in(tmp_path) as scene:
            obstacle = tmp_path / name
            obstacle.write_text("a file where a directory belongs")
            blocked = await scene.run_once()
            obstacle.unlink()
            free = await scene.run_once()
            scene.check_complete()
            return blocked, free

    blocked, free = asyncio.run(obstruct())

    assert (blocked.exit_code, free.exit_code) == (1, 0)
    assert len(blocked.complaints) == 1
    assert str(tmp_path / name) in blocked.complaints[0]
    assert "hint:" in blocked.err


DISKS = {
    "state": (BOTH, 464 * 1024),
    "out": ({"files": FILES}, 24 * 1024),
    "lake": ({"lake": LAKE}, 48 * 1024),
}
"""Whose disk is full, with which outputs, and how many bytes are left when the run begins."""


@guarantee(28)
@pytest.mark.slow
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """`--once` is patient for a while, then leaves with 1; once there is room everything is there."""

    async def fill(name: str) -> tuple[Ended, Ended]:
        outputs, left_bytes = DISKS[name]
        folder = tmp_path / f"with a full {name}"
        folder.mkdir()
        async with scene_in(folder) as scene:
            scene.configure(outputs)
            with small_disk(folder / name, left_bytes=left_bytes) as ballast:
                full = await scene.run_once()
                ballast.unlink()
                roomy = await scene.run_once()
                scene.check_complete()
                return full, roomy

    async def fill_all() -> list[tuple[Ended, Ended]]:
        return await asyncio.gather(*map(fill, DISKS))

    for full, roomy in asyncio.run(fill_all()):
        assert full.exit_code == 1, full.err
        [error] = [line for line in full.complaints if line.startswith(("error: ", line[:8] + " error "))]
        assert "full" in error or "space" in error
        assert "make room on the disk of" in error
        assert roomy.exit_code == 0
