"""A file of notifications that cannot be used: it is said, and what came meanwhile is told once it can be."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.clock import Clock
from m365watch.notifications import notification_database as rows
from m365watch.notifications.notification_database import FILE_NAME
from m365watch.notifications.notifier import AGAIN_MAX_S, NotifierSupervisor
from notifier_site import MINUTE_S, Site, at
from notify_scene import Receiver, make_alert, notifier_of, target_named

HOUR_MS = 3_600_000
Use = Callable[[], Awaitable[None]]
Lines = Sequence[MutableMapping[str, Any]]


async def telling(site: Site, use: Use, **receivers: Receiver) -> None:
    """A run that tells these receivers for as long as `use` takes, whatever becomes of the file."""
    targets = [(target_named(name), one) for name, one in receivers.items()]
    clock: Clock = site.clock
    made = NotifierSupervisor(
        lambda: notifier_of(site.folder, *targets, clock=clock), path=site.folder / FILE_NAME, clock=clock
    )
    await made.begin()
    await site.pass_by(1)
    try:
        await use()
    finally:
        await made.close()


def errors(lines: Lines) -> list[str]:
    return [line["event"] for line in lines if line["log_level"] == "error"]


def garble(folder: Path, table: str) -> None:
    """Have what is in the rows of a table be none of ours any more."""
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as database:
        database.execute(f"UPDATE {table} SET body = x'ff00'")


async def first_run(site: Site) -> None:
    """One that has told of an alert and ended."""
    soc = Receiver()

    async def live() -> None:
        site.detections.put(make_alert(1))
        await site.pass_by(MINUTE_S)

    await telling(site, live, soc=soc)
    assert soc.tidings == [("new", "1")]


@guarantee(41)
def test_what_came_while_the_file_was_garbage_is_told_once_it_is_moved_away(tmp_path: Path) -> None:
    """In the same run, and it is said once what to do."""

    async def use(site: Site) -> None:
        await first_run(site)
        path, soc = site.folder / FILE_NAME, Receiver()
        path.write_bytes(b"garbage" * 1000)

        async def live() -> None:
            site.detections.put(make_alert(2))
            await site.pass_by(2 * AGAIN_MAX_S)
            assert soc.tidings == []
            path.rename(site.folder / "away")
            await site.pass_by(10)
            assert soc.tidings == [("new", "2")]
            site.detections.put(make_alert(3))
            await site.pass_by(10)

        with capture_logs() as lines:
            await telling(site, live, soc=soc)

        assert soc.tidings == [("new", "2"), ("new", "3")]
        said, lost = errors(lines)
        assert said.startswith(f"notifications: {path}: the file of notifications cannot be used: ")
        assert "; move it away: nobody is told of alerts until then" in said
        assert "the file of notifications was lost" in lost
        assert lines[-1]["event"] == "notifications: targets are told again"

    at(tmp_path, use)


@guarantee(41)
def test_what_came_while_the_file_was_garbage_is_told_once_a_copy_is_put_back(tmp_path: Path) -> None:
    """And nothing that the copy knows to have been told."""

    async def use(site: Site) -> None:
        await first_run(site)
        path, soc = site.folder / FILE_NAME, Receiver()
        shutil.copy(path, site.folder / "copy")
        path.write_bytes(b"garbage" * 1000)

        async def live() -> None:
            site.detections.put(make_alert(2))
            await site.pass_by(MINUTE_S)
            shutil.copy(site.folder / "copy", path)
            await site.pass_by(10)

        with capture_logs() as lines:
            await telling(site, live, soc=soc)

        assert soc.tidings == [("new", "2")]
        [_] = errors(lines)

    at(tmp_path, use)


@guarantee(41)
@pytest.mark.parametrize("table", ["told", "outgoing"])
def test_damage_that_comes_in_a_run_holds_up_the_telling_until_the_file_is_moved_away(
    tmp_path: Path, table: str
) -> None:
    """Nobody is told twice or not at all of what changed after it, and it is no unforeseen error."""

    async def use(site: Site) -> None:
        await first_run(site)
        path, soc = site.folder / FILE_NAME, Receiver()

        async def live() -> None:
            with site.file() as file:
                file.run("INSERT OR REPLACE INTO outgoing VALUES ('soc', 9, x'5b5d')")
            garble(site.folder, table)
            site.detections.put(make_alert(1, count=9))
            site.detections.put(make_alert(2))
            await site.pass_by(MINUTE_S)
            assert soc.tidings == []
            path.rename(site.folder / "away")
            await site.pass_by(10)

        with capture_logs() as lines:
            await telling(site, live, soc=soc)

        assert sorted(soc.tidings) == [("new", "1"), ("new", "2")]
        first = errors(lines)[0]
        assert "the file of notifications cannot be " in first
        assert ": a row is not as it was written; move it away: " in first

    at(tmp_path, use)


def test_a_file_that_is_moved_away_in_a_run_is_made_anew(tmp_path: Path) -> None:
    """What was told there went into a file that nobody would have found."""

    async def use(site: Site) -> None:
        await first_run(site)
        path, soc = site.folder / FILE_NAME, Receiver()

        async def live() -> None:
            path.rename(site.folder / "away")
            site.detections.put(make_alert(2))
            await site.pass_by(10)

        await telling(site, live, soc=soc)

        assert soc.tidings == [("new", "2")]
        with site.file() as file:
            assert file.told("soc", make_alert(2).id) is not None

    at(tmp_path, use)


@guarantee(41)
@pytest.mark.parametrize("harm", [Path.unlink, Path.write_bytes])
def test_what_changed_before_the_file_was_lost_is_told_by_the_next_run(
    tmp_path: Path, harm: Callable[..., object]
) -> None:
    """Somebody moved it away, or emptied it, while no collector ran: the list of changes is there still."""

    async def use(site: Site) -> None:
        await first_run(site)
        site.detections.put(make_alert(2))
        path, soc = site.folder / FILE_NAME, Receiver()
        harm(path, *([b""] if harm is Path.write_bytes else []))

        async def live() -> None:
            await site.pass_by(10)

        with capture_logs() as lines:
            await telling(site, live, soc=soc)

        assert soc.tidings == [("new", "2")]
        [said] = errors(lines)
        assert said.startswith(f"notifications: {path}: the file of notifications was lost, and is made anew")

    at(tmp_path, use)


def test_what_came_while_the_file_could_not_be_used_is_told_to_new_targets_too(tmp_path: Path) -> None:
    """They are some since the run began; and nobody is told what was there before."""

    async def use(site: Site) -> None:
        await first_run(site)
        path, soc, duty = site.folder / FILE_NAME, Receiver(), Receiver()
        tables = sqlite3.connect(path, isolation_level=None)
        tables.execute("ALTER TABLE target RENAME TO away")

        async def live() -> None:
            site.detections.put(make_alert(2))
            await site.pass_by(MINUTE_S)
            tables.execute("ALTER TABLE away RENAME TO target")
            tables.close()
            await site.pass_by(AGAIN_MAX_S + 10)

        await telling(site, live, soc=soc, duty=duty)

        assert (soc.tidings, duty.tidings) == ([("new", "2")], [("new", "2")])

    at(tmp_path, use)


def test_a_first_run_that_cannot_use_the_file_leaves_what_it_finds_to_the_next(tmp_path: Path) -> None:
    """It ends before anybody has moved it away; who comes then finds what to tell."""

    async def use(site: Site) -> None:
        path, soc = site.folder / FILE_NAME, Receiver()
        path.mkdir()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(10)

        await telling(site, live, soc=soc)
        assert soc.tidings == []
        path.rmdir()

        async def rest() -> None:
            await site.pass_by(10)

        await telling(site, rest, soc=soc)

        assert soc.tidings == [("new", "1")]

    at(tmp_path, use)


@pytest.mark.parametrize("table", ["x", "target"])
def test_what_a_first_run_finds_late_while_the_file_is_locked_is_told(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service hands records out hours after the act: an alert of them ends before its target was one."""

    async def use(site: Site) -> None:
        monkeypatch.setattr(rows, "LOCKED_S", 0.01)
        path, soc = site.folder / FILE_NAME, Receiver()
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute(f"CREATE TABLE {table} (a)")
        if table == "x":
            holder.execute("BEGIN EXCLUSIVE")

        async def live() -> None:
            late_ms = make_alert().last_at_ms - 5 * HOUR_MS
            site.detections.put(make_alert(1, first_at_ms=late_ms, last_at_ms=late_ms))
            await site.pass_by(10)
            assert soc.tidings == []
            holder.execute("ROLLBACK" if table == "x" else "DROP TABLE target")
            holder.close()
            await site.pass_by(AGAIN_MAX_S + 10)

        await telling(site, live, soc=soc)

        assert soc.tidings == [("new", "1")]

    at(tmp_path, use)


def test_a_file_that_may_only_be_read_is_let_alone_until_it_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would lay files beside it that may only be read either, and stay when its rights are mended."""

    async def use(site: Site) -> None:
        await first_run(site)
        path, soc = site.folder / FILE_NAME, Receiver()
        may_write = [False]
        monkeypatch.setattr(os, "access", lambda *_: may_write[0])

        async def live() -> None:
            site.detections.put(make_alert(2))
            await site.pass_by(10)
            assert sorted(site.folder.glob(f"{FILE_NAME}*")) == [path]
            may_write[0] = True
            path.chmod(0o600)
            await site.pass_by(10)

        with capture_logs() as lines:
            await telling(site, live, soc=soc)

        assert soc.tidings == [("new", "2")]
        [said] = errors(lines)
        assert said == (
            f"notifications: {path}: the file of notifications cannot be used: this user may not write it; "
            "see to the disk, its room and its rights: nobody is told of alerts until then"
        )

    at(tmp_path, use)


def test_a_copy_that_takes_the_file_s_place_at_once_is_told_from_soon(tmp_path: Path) -> None:
    """As by mv, rsync and tar: nothing is known against that file."""

    async def use(site: Site) -> None:
        await first_run(site)
        path, soc = site.folder / FILE_NAME, Receiver()
        shutil.copy(path, site.folder / "copy")

        async def live() -> None:
            (site.folder / "copy").rename(path)
            site.detections.put(make_alert(2))
            await site.pass_by(20)
            assert soc.tidings == [("new", "2")]

        await telling(site, live, soc=soc)

    at(tmp_path, use)


def test_a_file_that_is_gone_and_cannot_be_made_anew_is_said_soon(tmp_path: Path) -> None:
    """And not after minutes in which nobody is told of anything."""

    async def use(site: Site) -> None:
        await first_run(site)
        path = site.folder / FILE_NAME

        async def live() -> None:
            path.rename(site.folder / "away")
            path.mkdir()
            with capture_logs() as heard:
                await site.pass_by(20)
            assert len(errors(heard)) == 1

        await telling(site, live, soc=Receiver())

    at(tmp_path, use)
