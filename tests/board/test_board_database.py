"""The board's database: new, damaged, and changed by several at a time."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.board.access.api_tokens import ApiTokens, TokenWanted
from m365watch.board.access.board_database import FILE_NAME, LOCK_FILE, open_board, set_aside_if_damaged
from m365watch.board.access.local_users import Users
from m365watch.board.access.roles import Scope
from m365watch.common.errors import NeedsOperator
from m365watch_testing.clock import FakeClock
from signing import user_named

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_that_a_crash_left_empty_has_nobody_yet(tmp_path: Path, mode: int) -> None:
    """It is a new one: it is read, and users are added to it."""
    users = Users(tmp_path)
    users.path.touch(mode)

    assert users.list() == []
    users.put(user_named("ann"))
    assert [one.name for one in users.list()] == ["ann"]
    assert users.path.stat().st_mode & 0o777 == 0o600


def test_looking_makes_no_file(tmp_path: Path) -> None:
    """Whoever lists the users as another user of the machine would own the board's file."""
    assert Users(tmp_path / "state").list() == []
    assert not (tmp_path / "state").exists()


@guarantee(42)
def test_commands_and_a_board_change_it_at_the_same_time(tmp_path: Path) -> None:
    """Nothing gets lost, and what one has written the other sees."""
    seen = Users(tmp_path)

    def add(number: int) -> bool:
        users, tokens = Users(tmp_path), ApiTokens(tmp_path)
        users.put(user_named(f"user{number}"))
        wanted = TokenWanted(f"token{number}", (Scope.READ,), None, "ann", NOW + timedelta(days=1))
        token, _ = tokens.create(wanted, NOW)
        return seen.find(f"User{number}") is not None and tokens.find(token, NOW) is not None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(add, range(24)))
    assert len(seen.list()) == len(ApiTokens(tmp_path).kept()) == 24


@guarantee(20)
def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """Nobody is in the new one, also for whoever has read the old one; the log says where that is."""
    users = Users(tmp_path)
    users.put(user_named("ann"))
    set_aside_if_damaged(tmp_path, FakeClock(NOW))
    assert users.find("ann") is not None
    damaged = b"SQLite format 3\0" + b"no database" * 2_000
    users.path.write_bytes(damaged)
    with pytest.raises(NeedsOperator, match="cannot be used"):
        Users(tmp_path).list()

    with capture_logs() as lines:
        set_aside_if_damaged(tmp_path, FakeClock(NOW))
    open_board(tmp_path).close()

    [kept] = tmp_path.glob("board-*.damaged.sqlite")
    assert kept.read_bytes() == damaged
    assert [kept.name in one["event"] for one in lines] == [True]
    assert users.find("ann") is None
    assert Users(tmp_path).path.name == FILE_NAME


def test_what_another_board_has_made_anew_stays(tmp_path: Path) -> None:
    """Two boards of one state directory start together with a damaged file."""
    users = Users(tmp_path)
    users.path.write_bytes(b"SQLite format 3\0" + b"no database" * 2_000)
    with ThreadPoolExecutor(1) as pool:
        with (tmp_path / LOCK_FILE).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = pool.submit(set_aside_if_damaged, tmp_path, FakeClock(NOW))
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            users.path.unlink()
            users.put(user_named("ann"))
        waiting.result()

    assert users.find("ann") is not None
    assert [*tmp_path.glob("*.damaged.sqlite")] == []


def test_a_database_of_another_version_is_refused_at_each_look(tmp_path: Path) -> None:
    """What its tables mean nobody here knows."""
    Users(tmp_path).put(user_named("ann"))
    with Users(tmp_path).change() as board:
        board.execute("PRAGMA user_version = 99")
    users = Users(tmp_path)

    for _ in range(2):
        with pytest.raises(NeedsOperator, match="schema 99"):
            users.find("ann")
