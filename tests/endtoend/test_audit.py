"""`m365watch audit` against a simulated tenant: what is gone from the ledger is found, and arrives once.

No blob is cut here: the windows of an audit begin at its own second, and where that stands inside a blob the
service names the rest of it too. So of two audits of one week one listed 351 blobs, and the other 352.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from commands import Ended, Scene, collecting, command, ended, scene_in
from m365watch.lake.delta.transaction_log import commit_name
from m365watch.ledger.sqlite_ledger import LEDGER_FILE


def forget(scene: Scene, count: int) -> None:
    """Take so many delivered blobs out of the ledger, as no collector would."""
    path = scene.place.folder / "state" / LEDGER_FILE
    with closing(sqlite3.connect(path, timeout=20)) as ledger, ledger:
        ledger.execute(
            "DELETE FROM blob WHERE key IN"
            " (SELECT key FROM blob WHERE state = 1 ORDER BY created_us LIMIT ?)",
            (count,),
        )


async def audit(scene: Scene, *options: str) -> Ended:
    return await command("audit", "--config", str(scene.file), *options)


async def audited(scene: Scene, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the document's sums."""
    done = await audit(scene, "--json", *options)
    return done.exit_code, json.loads(done.out)["totals"]


@guarantee(6)
@pytest.mark.slow
def test_a_blob_that_the_ledger_lost_is_found_repaired_and_delivered_once(tmp_path: Path) -> None:
    """Without a collector the command fetches it itself; every output ends with every record once."""

    async def main() -> None:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            assert (await audited(scene))[0] == 0
            forget(scene, 3)
            code, before = await audited(scene)
            assert (code, before["missing"], before["remaining"]) == (1, 3, 3)
            code, mended = await audited(scene, "--repair")
            assert (code, mended["missing"], mended["repaired"], mended["remaining"]) == (0, 3, 3, 0)
            code, after = await audited(scene)
            assert (code, after["missing"], after["delivered"]) == (0, 0, after["listed"])
            scene.check_complete()

    asyncio.run(main())


@guarantee(6)
@pytest.mark.slow
def test_records_that_never_arrived_arrive_by_the_repair(tmp_path: Path) -> None:
    """A ledger that knows no blob at all, with outputs that have nothing."""

    async def main() -> None:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            for folder in ("state", "out", "lake"):
                shutil.rmtree(tmp_path / folder)
            await command("run", "--config", str(scene.file), "--validate")
            done = await audit(scene, "--repair")
            assert done.exit_code == 0
            scene.check_complete()

    asyncio.run(main())


@guarantee(15)
@pytest.mark.slow
def test_who_vouches_by_the_ledger_names_a_lake_that_is_not_whole(tmp_path: Path) -> None:
    """They said "0 lost, 0 missing" of a lake that lacked a batch, whose records no query found."""

    async def main() -> None:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            status = ("status", "--config", str(scene.file))
            whole = [await audit(scene), await command(*status)]
            (tmp_path / "lake" / "audit" / commit_name(1)).write_bytes(b"")
            asked = [await audit(scene), await command(*status), await command(*status, "--json")]

        assert not any("the lake" in one.err for one in whole)
        # Which of the two it says hangs on how many batches the records came in.
        said = "is not as the ledger has it, or cannot be read: "
        for one in asked:
            assert (one.exit_code, one.err.count(said)) == (0, 1), one.err

    asyncio.run(main())


@guarantee(6)
@pytest.mark.slow
def test_a_running_collector_makes_the_audit_itself(tmp_path: Path) -> None:
    """It is asked, repairs what is missing, and the command sees it delivered; status then shows it."""

    async def main() -> None:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            running = await collecting(scene.file)
            forget(scene, 2)
            done = await audit(scene, "--repair")
            status = json.loads((await command("status", "--config", str(scene.file), "--json")).out)
            running.terminate()
            said = await ended(running)
            assert done.exit_code == 0
            assert "a collector is running" in done.err
            assert "2 missing; 2 of them repaired, 0 remain" in done.out
            assert "[CODE:0303]" in said.err
            assert sum(feed["audit"]["missing"] for feed in status["feeds"]) == 2
            scene.check_complete()

    asyncio.run(main())


@pytest.mark.slow
def test_several_commands_may_ask_a_running_collector_at_once(tmp_path: Path) -> None:
    """Each has its own answer, for the days that it asked for, after those before it."""

    async def main() -> None:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            running = await collecting(scene.file)
            asked = [audited(scene), audited(scene, "--days", "2"), audited(scene)]
            first, (short_code, short), other = await asyncio.gather(*asked)
            running.terminate()
            await ended(running)
            assert first == other == (0, first[1])
            assert (short_code, first[1]["listed"] > short["listed"] > 0) == (0, True)
            assert list(scene.place.folder.glob("state/audit-*")) == []

    asyncio.run(main())


@pytest.mark.slow
def test_a_damaged_ledger_is_told_once_and_is_no_result(tmp_path: Path) -> None:
    """One reason and one hint, whatever the number of feeds; no table and no sums."""

    async def main() -> None:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            await scene.run_once()
            (scene.place.folder / "state" / LEDGER_FILE).write_bytes(b"no ledger" * 1000)
            for options in ((), ("--json",)):
                done = await audit(scene, *options)
                assert done.exit_code == 1
                assert done.out == ""
                assert [line.partition(": ")[0] for line in done.err.splitlines()] == ["error", "hint"]

    asyncio.run(main())


def test_without_a_ledger_there_is_nothing_to_audit(tmp_path: Path) -> None:
    """The command says what to start first."""

    async def main() -> None:
        async with scene_in(tmp_path, cuts_blobs=False) as scene:
            done = await audit(scene)
            assert done.exit_code == 1
            assert "there is no ledger yet" in done.err

    asyncio.run(main())
