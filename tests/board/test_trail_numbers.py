"""Each line has a number that no lake has had, so that none is lost or doubled wherever it waited."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random

import pytest
from promises import guarantee

from m365watch.board.access.audit_journal import TrailJournal
from m365watch.common.timestamps import us_of
from m365watch.lake.audit_trail_table import DeedsAsked, list_deeds
from test_trail import NOW, deed
from test_trail_shipping import DAY, Killed, Lake, kill, refuse


class Boards:
    """One board after the other over one state directory; the lake of each, if it has one, says a test."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.lake: Lake | None = None
        self.journal: TrailJournal | None = None

    def begin(self, lake: Lake | None) -> TrailJournal:
        """Another one: the one before was killed."""
        self.end()
        self.lake = lake
        self.journal = TrailJournal(
            self.state,
            lake=lambda: self.lake.folder if self.lake else None,
            collector_name="one",
            open_table=lambda _folder, _app_id: self._there(),
        )
        return self.journal

    def end(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def _there(self) -> Lake:
        assert self.lake is not None
        return self.lake


@guarantee(46)
def test_what_the_lake_has_already_is_not_brought_again_after_a_start_without_it(tmp_path: Path) -> None:
    """Killed between the commit and the emptying of the file, begun while it was away: ann came twice."""
    lake, boards = Lake(tmp_path / "lake"), Boards(tmp_path / "state")
    journal = boards.begin(lake)
    journal.append([deed(name="ann")])
    lake.after = kill
    with pytest.raises(Killed):
        journal.ship()
    lake.after = lambda: None

    journal = boards.begin(None)
    journal.append([deed(name="ben")])
    boards.lake = lake
    assert journal.ship()
    boards.end()

    assert lake.names == ["ann", "ben"]


@guarantee(46)
def test_a_line_for_one_lake_is_no_known_one_of_another(tmp_path: Path) -> None:
    """With five lines in the lake of before, the first one for a new lake was taken for one of them."""
    one, other = Lake(tmp_path / "one"), Lake(tmp_path / "other")
    boards = Boards(tmp_path / "state")
    journal = boards.begin(one)
    journal.append([deed(name=name) for name in "abcde"])
    assert journal.ship()

    boards.begin(other).append([deed(name="ann")])
    assert boards.begin(one).ship()
    boards.end()

    assert [*one.names, *other.names] == [*"abcde", "ann"]


@guarantee(46)
@pytest.mark.parametrize("begins_with_it", [True, False])
def test_a_clock_that_goes_back_takes_no_line_along(tmp_path: Path, begins_with_it: bool) -> None:
    """Also where the lake, which knows of the later time, is away when the board begins."""
    lake, boards = Lake(tmp_path / "lake"), Boards(tmp_path / "state")
    journal = boards.begin(lake)
    journal.append([deed(name="ann")])
    assert journal.ship()

    journal = boards.begin(lake if begins_with_it else None)
    journal.append([deed(name=name, time=NOW - DAY) for name in ("ben", "eve")])
    boards.lake = lake
    lake.before = refuse
    assert not journal.ship()
    journal.append([deed(name=name, time=NOW - DAY) for name in ("vera", "zoe")])
    lake.before = lambda: None
    assert journal.ship()
    boards.end()

    assert lake.names == ["ann", "ben", "eve", "vera", "zoe"]


def test_a_waiting_line_stands_once_on_the_trail(tmp_path: Path) -> None:
    """Under a second number it was a second line, for as long as the lake refused."""
    lake, boards = Lake(tmp_path / "lake"), Boards(tmp_path / "state")
    lake.kept = [deed(us_of(NOW + DAY), name="zoe")]
    journal = boards.begin(None)
    journal.append([deed(name="ann")])
    boards.lake = lake
    lake.before = kill
    with pytest.raises(Killed):
        journal.ship()
    boards.end()

    asked = DeedsAsked(NOW - DAY, NOW + DAY)
    assert [one.name for one in list_deeds(None, boards.state, asked)] == ["ann"]


def _live(random: Random, boards: Boards, lake: Lake, names: count[int]) -> None:
    """One board, until it is killed: at a commit, after one, or between two; its lake may come later."""
    journal = boards.begin(random.choice((lake, None)))
    for _ in range(random.randrange(6)):
        if random.random() < 0.5:
            number = next(names)
            journal.append([deed(name=f"{number}", time=NOW + timedelta(seconds=number))])
            continue
        place = random.choice(("before", "after", ""))
        if boards.lake is not None and place:
            setattr(boards.lake, place, kill)
        try:
            journal.ship()
        except Killed:
            return
        finally:
            if boards.lake is not None:
                boards.lake.before = boards.lake.after = lambda: None
        if boards.lake is None and random.random() < 0.5:
            boards.lake = lake


@guarantee(46)
@pytest.mark.parametrize("seed", range(40))
def test_no_life_of_a_board_loses_or_doubles_a_line(tmp_path: Path, seed: int) -> None:
    """Killed anywhere, with its lake and without, again and again: it has each line once, in its order."""
    random, lake, names = Random(seed), Lake(tmp_path / "lake"), count()
    boards = Boards(tmp_path / "state")
    for _ in range(12):
        _live(random, boards, lake, names)
    assert boards.begin(lake).ship()
    boards.end()

    assert lake.names == [f"{number}" for number in range(next(names))]
