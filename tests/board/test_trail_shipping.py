"""What is noted waits for no lake, and comes to it once, in its order, whenever the board ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Event

import msgspec
import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.board.access.audit_journal import TrailJournal
from m365watch.board.access.audit_recorder import SHIP_EVERY_S, KeptTrail
from m365watch.board.factory import open_trail
from m365watch.lake.audit_trail_table import Deed, DeedsAsked, list_deeds
from m365watch.lake.schema import AUDIT, TRAIL_TABLE
from m365watch_testing.clock import FakeClock
from test_listening import settings_with
from test_trail import NOW, deed, waiting

PATIENCE_S = 30.0
DAY = timedelta(days=1)


class Killed(BaseException):
    """The process ends here."""


class Trouble(Exception):
    """Nobody has thought of it."""


class Lake:
    """A lake of which a test says what its commits come by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / TRAIL_TABLE.name).mkdir(parents=True)
        self.kept: list[Deed] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.kept]

    @property
    def last_number(self) -> int:
        return max((one.number for one in self.kept), default=0)

    def append(self, deeds: Sequence[Deed]) -> None:
        self.before()
        self.kept += [one for one in deeds if one.number > self.last_number]
        self.after()

    def journal(self, state: Path, *, bytes_max: int = 1 << 20) -> TrailJournal:
        return TrailJournal(
            state,
            lake=lambda: self.folder,
            collector_name="one",
            bytes_max=bytes_max,
            open_table=lambda _lake, _app_id: self,
        )


def refuse() -> None:
    raise OSError(28, "No space left on device")


def kill() -> None:
    raise Killed


def test_a_lake_that_nobody_can_look_at_keeps_no_line_from_the_disk(tmp_path: Path) -> None:
    """As on a mount that is lost, where the board starts or while it serves: lines wait until it answers."""
    lake, answers = Lake(tmp_path / "lake"), False

    def standing() -> Path:
        if not answers:
            raise OSError(5, "Input/output error")
        return lake.folder

    journal = TrailJournal(
        tmp_path / "state", lake=standing, collector_name="one", open_table=lambda _lake, _app_id: lake
    )
    journal.append([deed(name="ann")])
    assert not journal.ship()
    answers = True
    journal.append([deed(name="vera")])
    assert journal.ship()
    answers = False
    journal.append([deed(name="ben")])
    journal.ship()
    answers = True
    assert journal.ship()
    journal.close()

    assert lake.names == ["ann", "vera", "ben"]


def test_no_page_waits_for_a_lake_that_takes_long(tmp_path: Path) -> None:
    """A commit that never ends keeps nobody from what they look at; its end brings all that was noted."""
    lake, began, ends = Lake(tmp_path / "lake"), Event(), Event()
    clock = FakeClock()
    trail = KeptTrail(lake.journal(tmp_path / "state"), clock=clock)

    def last() -> None:
        began.set()
        assert ends.wait(PATIENCE_S)

    async def look() -> None:
        assert await trail.note(deed(name="ann"))
        lake.before = last
        shipping = asyncio.create_task(trail.run())
        await clock.advance(SHIP_EVERY_S)
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            assert await trail.note(deed(name="vera"))
            assert await trail.trouble() == ""
        assert lake.names == []
        shipping.cancel()
        ends.set()

    asyncio.run(look())
    trail.close()

    assert lake.names == ["ann", "vera"]
    assert waiting(tmp_path / "state") == []


def test_the_trail_is_brought_to_a_lake_after_a_defect(tmp_path: Path) -> None:
    """It is said once, and the next time brings all that was noted."""
    lake, tries = Lake(tmp_path / "lake"), count(1)
    clock = FakeClock()
    trail = KeptTrail(lake.journal(tmp_path / "state"), clock=clock)

    def stumble() -> None:
        if next(tries) <= 3:
            raise Trouble

    async def look() -> None:
        lake.before = stumble
        shipping = asyncio.create_task(trail.run())
        assert await trail.note(deed(name="ann"))
        async with asyncio.timeout(PATIENCE_S):
            while not lake.names:
                assert not shipping.done()
                await clock.advance(SHIP_EVERY_S)
                await asyncio.sleep(0.002)
        shipping.cancel()

    with capture_logs() as lines:
        asyncio.run(look())
    trail.close()

    assert lake.names == ["ann"]
    [text] = [line["event"] for line in lines if line["log_level"] == "error"]
    assert text.startswith("board: unexpected Trouble in ")


@guarantee(46)
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("noted", [0, 2])
@pytest.mark.parametrize("shipped", [1, 2])
def test_a_crash_while_lines_are_on_their_way_loses_and_doubles_none(
    tmp_path: Path, place: str, noted: int, shipped: int
) -> None:
    """Before the commit and after it; what was noted meanwhile comes behind what was on its way."""
    lake, state = Lake(tmp_path / "lake"), tmp_path / "state"
    names = [f"{number}" for number in range(shipped + noted + 3)]
    left = iter(names)
    journal = lake.journal(state)

    def note(count: int) -> None:
        journal.append([deed(name=next(left)) for _ in range(count)])

    def crash() -> None:
        for _ in range(noted):
            note(1)
        raise Killed

    for _ in range(shipped):
        note(1)
        assert journal.ship()
    note(1)
    setattr(lake, place, crash)
    for _ in range(2):
        with pytest.raises(Killed):
            journal.ship()
        journal.close()
        setattr(lake, place, kill)
        journal = lake.journal(state)
        note(1)
    setattr(lake, place, lambda: None)
    assert journal.ship()
    journal.close()

    assert lake.names == names
    assert waiting(state) == []


@guarantee(46)
def test_lines_of_a_run_without_its_lake_outlive_it(tmp_path: Path) -> None:
    """The lake has had more lines than this run could know: it takes none of them for one of those."""
    lake, state = Lake(tmp_path / "lake"), tmp_path / "state"
    names = ["ann", "vera", "zoe", "eve"]
    for number, name in enumerate(names):
        is_away = name == "zoe"
        journal = TrailJournal(
            state,
            lake=(lambda: None) if is_away else (lambda: lake.folder),
            collector_name="one",
            open_table=lambda _lake, _app_id: lake,
        )
        journal.append([deed(name=name, time=NOW + timedelta(seconds=number))])
        assert journal.ship() is not is_away
        journal.close()

    assert lake.names == names


def test_a_lake_that_refuses_gets_all_of_it_later(tmp_path: Path) -> None:
    """What it did not take goes before what was noted since."""
    lake = Lake(tmp_path / "lake")
    journal = lake.journal(tmp_path / "state")
    for name in ("ann", "vera", "zoe"):
        journal.append([deed(name=name)])
        lake.before = refuse
        assert not journal.ship()
    lake.before = lambda: None

    assert journal.ship()
    journal.close()
    assert lake.names == ["ann", "vera", "zoe"]


@guarantee(46)
def test_a_lake_that_is_gone_gets_no_folder_in_its_place(tmp_path: Path) -> None:
    """The lines were below an unmounted folder, and `mv lake.old lake` put the lake inside the new one."""
    lake, away = tmp_path / "lake", tmp_path / "lake.old"
    settings = settings_with(tmp_path, None)
    seconds = count()

    def run(name: str) -> None:
        trail = open_trail(settings, lake=lambda: lake, clock=FakeClock())
        assert isinstance(trail, KeptTrail)
        assert asyncio.run(trail.note(deed(name=name, time=NOW + timedelta(seconds=next(seconds)))))
        trail.close()

    (lake / AUDIT).mkdir(parents=True)
    run("ann")
    lake.rename(away)
    run("vera")
    assert not lake.exists()
    lake.mkdir()  # where another disk is mounted
    run("zoe")
    assert [*lake.iterdir()] == []
    lake.rmdir()
    away.rename(lake)
    run("eve")

    asked = DeedsAsked(NOW - DAY, NOW + DAY)
    assert [one.name for one in list_deeds(lake, tmp_path / "none", asked)] == ["eve", "zoe", "vera", "ann"]


def test_of_more_than_fits_the_oldest_goes_and_only_without_a_lake(tmp_path: Path) -> None:
    """While the lake refuses, the newest lines are kept within the bound, and come to it in order."""
    lake = Lake(tmp_path / "lake")
    journal = lake.journal(tmp_path / "state", bytes_max=4_000)
    lake.before = refuse
    for number in range(90):
        journal.append([deed(name=f"{number:02}")])
        assert sum(len(msgspec.json.encode(one)) for one in waiting(tmp_path / "state")) < 5_000
    lake.before = lambda: None

    assert journal.ship()
    journal.close()
    assert lake.names == [f"{number:02}" for number in range(90)][-len(lake.names) :]
    assert len(lake.names) > 10
