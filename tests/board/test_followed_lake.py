"""A lake that is added or moved while the board runs: the pages go on with it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import rights
from patience import PATIENCE_S
from ports import kept_port
from promises import guarantee
from rights import why_kept
from structlog.testing import capture_logs

import m365watch.board.factory
import m365watch.runtime.config_reload
from asking import sources_of, view_of
from collected_week import CLOCK
from m365watch.board.access.api_tokens import ApiTokens, TokenWanted
from m365watch.board.access.roles import Scope
from m365watch.board.app.application import Listening
from m365watch.board.factory import (
    LAKE_EVERY_S,
    _follow_configuration,
    _follow_lake,
    follow_lake,
    serve_board,
)
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.search_queries import asked_of
from m365watch.board.query.sql.activity_queries import TOTAL
from m365watch.board.widgets.empty_states import no_records
from m365watch.config.loader import load_settings
from m365watch.lake.audit_trail_table import DeedsAsked, list_deeds
from m365watch.lake.delta.missing_commits import LAKE_GONE, Standing
from m365watch.lake.rollups.rollup_manifest import FOLDER, NOTE, files_by_day
from m365watch.lake.schema import AUDIT, TRAIL_TABLE
from m365watch.lake.search.filter_parser import read_filter
from m365watch.lake.search.record_search import Finder
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part
from m365watch_testing.clock import FakeClock

VIEW = view_of("range=30d")
MONTH = DeedsAsked(start=VIEW.now.replace(year=2020), end=VIEW.now.replace(year=VIEW.now.year + 1))


class Place:
    """The week's collector in a folder of its own, whose outputs and folders can be changed."""

    def __init__(self, collected: Path, folder: Path) -> None:
        self.folder = folder / "place"
        shutil.copytree(collected.parent, self.folder)
        self.file = self.folder / collected.name
        lake = load_settings(self.file, environment={}, for_reading=True).lake_directory
        assert lake is not None
        self.lake = lake

    def write(self, outputs: object, **more: object) -> None:
        document = json.loads(self.file.read_text()) | {"outputs": outputs} | more
        self.file.write_text(json.dumps(document))

    def name(self, directory: str, output: str = "lake") -> Path:
        """Where the configuration says from now on that the lake is."""
        self.write({output: {"type": "lake", "config": {"directory": directory}}})
        return self.folder / directory


@pytest.fixture
def place(collected: Path, tmp_path: Path) -> Place:
    return Place(collected, tmp_path)


async def count(sources: Sources) -> int:
    return int((await sources.ask(VIEW, TOTAL) or [(0,)])[0][0])


async def follow(sources: Sources) -> None:
    await sources.take_up()
    await follow_lake(sources, FactsReader)


def test_a_lake_that_is_moved_is_taken_up(place: Place) -> None:
    """Its folder is elsewhere, and the configuration says so; the trail is read there as well."""
    sources = sources_of(place.file)

    async def act() -> tuple[int, int]:
        before = await count(sources)
        place.lake.rename(place.name("elsewhere"))
        await follow(sources)
        return before, await count(sources)

    before, after = asyncio.run(act())

    assert (sources.lake, after) == (place.folder / "elsewhere", before)
    assert before > 1_000


@pytest.mark.parametrize("how", ["another folder", "the same folder"])
def test_a_copy_that_takes_the_lakes_place_is_read(place: Place, how: str) -> None:
    """Put back while somebody looks: neither figures nor records of before are shown as those of now."""
    sources = sources_of(place.file)
    later = {"Id": "later-one", "CreationTime": f"{VIEW.now - timedelta(hours=2):%Y-%m-%dT%H:%M:%S}"}
    part = make_part([json.dumps(later | {"Operation": "A", "RecordType": 1}).encode()], outputs=["lake"])
    copy, asked = place.folder / "copy", asked_of(VIEW, read_filter("later-one"))
    shutil.copytree(place.lake, copy)

    async def seen(finder: Finder) -> tuple[int, int]:
        return await count(sources), sum(
            finder.find(part, asked, rows=9).count for part in finder.plan(asked)
        )

    async def act() -> list[tuple[int, int]]:
        told = []
        with closing(Finder(place.lake)) as finder:
            AuditWriter(place.lake, app_id="later").append(make_batch(1, [part]))
            told.append(await seen(finder))
            if how == "another folder":
                place.lake.rename(place.folder / "away")
                shutil.copytree(copy, place.lake)
            else:
                for path in (place.lake / AUDIT / "_delta_log").iterdir():
                    path.unlink()
                shutil.copytree(copy, place.lake, dirs_exist_ok=True)
            told.append(await seen(finder))
        return told

    (before, found_before), (after, found_after) = asyncio.run(act())

    assert (before - after, found_before - found_after) == (1, 1)


CLOSED = """
import sys
from pathlib import Path
from rights import give_up_rights
from m365watch.lake.delta.table_files import id_of_commits, is_another
from m365watch.lake.store import LocalStore
give_up_rights()
store = LocalStore(Path(sys.argv[1]))
print(is_another(store, id_of_commits(store), 0))
"""


@pytest.mark.skipif(bool(why_kept()), reason=why_kept() or "it can")
def test_a_log_that_is_closed_meanwhile_is_no_other(place: Place) -> None:
    """Whoever reads it says that it is closed, and to whom."""
    (place.lake / AUDIT / "_delta_log").chmod(0)

    done = subprocess.run(
        [sys.executable, "-c", CLOSED, str(place.lake / AUDIT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(Path(rights.__file__).parent)},
    )

    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_lake_that_is_added_is_taken_up(place: Place) -> None:
    """Where there was none before, at once: there is nothing else to show."""
    place.write({"files": {"type": "files"}})
    sources = sources_of(place.file)
    assert sources.lake is None

    async def act() -> int:
        place.name(place.lake.name)
        await follow(sources)
        return await count(sources)

    assert asyncio.run(act()) > 1_000


@guarantee(47)
def test_a_lake_that_holds_nothing_yet_waits_until_it_does(place: Place) -> None:
    """A path without its folder, which the collector refuses, takes no page away from who looks."""
    sources = sources_of(place.file)

    async def act() -> tuple[int, int, int]:
        before = await count(sources)
        new = place.name("new", "other")
        await follow(sources)
        new.mkdir()
        await follow(sources)
        meanwhile = await count(sources)
        assert sources.lake == place.lake
        shutil.copytree(place.lake / AUDIT, new / AUDIT)
        await follow(sources)
        assert sources.lake == new
        return before, meanwhile, await count(sources)

    assert len(set(asyncio.run(act()))) == 1


@guarantee(47)
@pytest.mark.parametrize("wrong", ["file", "n" * 300], ids=["file", "too long"])
def test_a_lake_that_cannot_be_looked_at_ends_no_following(place: Place, wrong: str) -> None:
    """A folder that the system refuses waits like one that holds nothing: the next one is followed to."""
    sources = sources_of(place.file)
    (place.folder / "file").mkdir()
    (place.folder / "file" / AUDIT).write_bytes(b"no table")

    async def act() -> None:
        place.name(wrong, "other")
        await follow(sources)
        assert sources.lake == place.lake
        good = place.name("good", "other")
        shutil.copytree(place.lake / AUDIT, good / AUDIT)
        await follow(sources)
        assert sources.lake == good

    asyncio.run(act())


@guarantee(47)
def test_whatever_fails_while_the_lake_is_followed_is_told_once_and_tried_again(
    place: Place,
) -> None:
    """The board goes on with the lake that it shows, and with the other one as soon as that can be."""
    sources = sources_of(place.file)
    clock = FakeClock()
    tries: list[Path] = []

    def open_reader(lake: Path) -> FactsReader:
        tries.append(lake)
        if len(tries) <= 3:
            raise OSError(23, "too many open files")
        return FactsReader(lake)

    async def act() -> None:
        new = place.name("new", "other")
        shutil.copytree(place.lake / AUDIT, new / AUDIT)
        await sources.take_up()
        turning = asyncio.create_task(_follow_lake(sources, open_reader, clock))
        while sources.lake != new:
            assert not turning.done()
            await clock.advance(LAKE_EVERY_S)
            await asyncio.sleep(0.005)
        turning.cancel()

    with capture_logs() as logged:
        asyncio.run(asyncio.wait_for(act(), PATIENCE_S))

    assert [one["event"].count("too many open files") for one in logged if one["log_level"] == "warning"] == [
        1
    ]


def test_whatever_fails_while_the_configuration_is_followed_is_told_once_and_tried_again(
    place: Place,
) -> None:
    """What has changed is taken up without changing once more, and so is what changes after that."""
    sources = sources_of(place.file)
    clock = FakeClock()
    take_up, tries = sources.take_up, iter(range(3))

    async def stumble() -> None:
        if next(tries, None) is not None:
            raise ValueError
        await take_up()

    async def act() -> None:
        following = asyncio.create_task(_follow_configuration(sources, place.file, clock))
        await clock.advance(0)
        for name in ("one", "another"):
            new = place.name(name)
            while sources.settings.lake_directory != new:
                assert not following.done()
                await clock.advance(1)
                await asyncio.sleep(0.002)
        following.cancel()

    sources.take_up = stumble  # type: ignore[method-assign]
    with capture_logs() as logged:
        asyncio.run(asyncio.wait_for(act(), PATIENCE_S))

    [text] = [one["event"] for one in logged if one["log_level"] == "error"]
    assert text.startswith("board: unexpected ValueError in ")


def test_a_lake_that_is_taken_out_is_shown_as_before(place: Place) -> None:
    """What it has stays to be seen while the board runs."""
    sources = sources_of(place.file)

    async def act() -> int:
        place.write({"files": {"type": "files"}})
        await follow(sources)
        return await count(sources)

    assert asyncio.run(act()) > 1_000


@guarantee(47)
def test_a_query_that_runs_ends_in_the_lake_it_began_in(place: Place) -> None:
    """And the reader of the lake before lets go of it once nobody asks it any more."""
    sources = sources_of(place.file)
    assert sources.facts is not None
    old = weakref.ref(sources.facts)

    async def act() -> int:
        new = place.name("new")
        shutil.copytree(place.lake, new)
        asking = asyncio.create_task(count(sources))
        await asyncio.sleep(0)
        await follow(sources)
        assert sources.lake == new
        return await asking

    assert asyncio.run(act()) > 1_000
    assert old() is None


def test_a_lake_that_is_new_is_not_called_gone(place: Place) -> None:
    """Records went to other outputs before; one that had records and has no folder is gone."""
    place.write({"devo": {"type": "files"}})
    sources = sources_of(place.file)
    place.name("new", "other")
    asyncio.run(follow(sources))

    empty = asyncio.run(no_records(VIEW, sources))

    assert empty.why == "The lake is new, and no record has arrived in it yet."
    assert asyncio.run(sources.lost_lake()) is None
    place.name("nowhere")
    asyncio.run(follow(sources))
    assert (asyncio.run(no_records(VIEW, sources))).why.lower().startswith(LAKE_GONE)


def test_a_lake_whose_records_were_taken_out_is_not_called_new(place: Place) -> None:
    """By retention, or an erasure: of all its commits the one that made it is left here."""
    for one in sorted((place.lake / AUDIT / "_delta_log").glob("*.json"))[1:]:
        one.unlink()
    for one in (place.lake / AUDIT / "_delta_log").glob("*checkpoint*"):
        one.unlink()

    empty = asyncio.run(no_records(VIEW, sources_of(place.file)))

    assert empty.why == "The lake holds no record."


def test_a_state_directory_that_is_another_counts_with_a_restart(place: Place) -> None:
    """As for the collector, whose ledger is where it was; nothing else is lost by it."""
    sources = sources_of(place.file)
    before = sources.settings.state_directory

    place.write({"lake": {"type": "lake"}}, detections={"enabled": False})
    document = json.loads(place.file.read_text())
    document["globals"] = document.get("globals", {}) | {
        "persistence": {"type": "filesystem", "config": {"directory_name": "other-state"}}
    }
    place.file.write_text(json.dumps(document))
    asyncio.run(sources.take_up())

    assert sources.settings.detections.enabled is False
    assert sources.settings.state_directory == before


@guarantee(47)
@pytest.mark.slow
def test_the_served_board_follows_with_pages_trail_and_rollups(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a restart, as `board` and `run --board` serve it."""
    monkeypatch.setattr(m365watch.runtime.config_reload, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(m365watch.board.factory, "LAKE_EVERY_S", 0.05)
    monkeypatch.setattr(m365watch.board.factory, "ROLLUPS_EVERY_S", 0.05)
    settings = load_settings(place.file, environment={}, for_reading=True)
    moved = place.folder / "moved"
    before = list_deeds(place.lake, place.folder / "nothing", MONTH)  # of other tests' boards

    wanted = TokenWanted("looker", (Scope.READ,), None, "ann", CLOCK.now() + timedelta(days=1))
    token, _ = ApiTokens(settings.state_directory).create(wanted, CLOCK.now())

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.02)

    async def act() -> None:
        stop, told = asyncio.Event(), asyncio.Event()
        with kept_port() as port:
            serving = asyncio.create_task(
                serve_board(settings, Listening("127.0.0.1", port), clock=CLOCK, stop=stop, tell=told.set)
            )
            async with asyncio.timeout(PATIENCE_S):
                await told.wait()
            place.lake.rename(moved)
            newest = moved / FOLDER / max(files_by_day(moved)).isoformat()
            shutil.rmtree(newest)
            place.name("moved")
            await until((newest / NOTE).exists)
            await _look(port, token)
            stop.set()
            await serving

    asyncio.run(act())

    assert not (place.lake / TRAIL_TABLE.name).exists()
    noted = list_deeds(moved, place.folder / "nothing", MONTH)
    assert [one.path for one in noted if one not in before] == ["/api/v1/overview/figures"]


async def _look(port: int, token: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    headers = (f"Host: 127.0.0.1:{port}", "Connection: close", f"Authorization: Bearer {token}")
    writer.write("\r\n".join(("GET /api/v1/overview/figures HTTP/1.1", *headers, "", "")).encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()


def test_a_log_that_goes_is_missed_at_the_next_look(place: Place) -> None:
    """That it was there is remembered only while its folder is as it was."""
    facts = FactsReader(place.lake)
    log = place.lake / AUDIT / "_delta_log"
    seen = [facts.standing, facts.standing]
    for commit in log.iterdir():
        commit.unlink()
    seen.append(facts.standing)
    log.rmdir()
    seen.append(facts.standing)
    shutil.rmtree(place.lake)
    seen.append(facts.standing)
    facts.close()

    assert seen[:2] == [Standing.THERE] * 2
    assert Standing.THERE not in seen[2:]
    assert seen[-1] is Standing.NEW
