"""Files under watch: what counts as a change, however it is made, and what is no change yet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from promises import guarantee

from m365watch.runtime.config_reload import LOOK_EVERY_S, MISSING_S, FileWatch
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping

Result = TypeVar("Result")


def watching(
    folder: Path, use: Callable[[Path, asyncio.Task[None]], Awaitable[Result]], *, named: str = "m365.yaml"
) -> Result:
    """What `use` makes of a file that is watched; the task ends with a change."""

    async def main() -> Result:
        file = folder / named
        if not file.exists():
            file.write_text("inputs: {}\n")
        watch = FileWatch([file], LoopClock(), work=CallsInLine())
        task = asyncio.create_task(watch.changed())
        await asyncio.sleep(0)
        try:
            return await use(file, task)
        finally:
            task.cancel()

    return run_jumping(main())


def replaced(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_text(file.read_text())
    new.replace(file)


def rewritten(file: Path, text: str = "inputs: {a: b}\n") -> None:
    file.write_text(text)


def moved_aside(file: Path) -> None:
    file.rename(file.with_suffix(".bak"))


def put_back(file: Path) -> None:
    file.with_suffix(".bak").rename(file)


def touched(file: Path) -> None:
    os.utime(file, ns=(1, 1))


@pytest.mark.parametrize("change", [replaced, rewritten, touched])
def test_a_change_is_told_however_it_is_made(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Once it has been the same in two looks, which is within three of them; and only once."""

    async def use(file: Path, task: asyncio.Task[None]) -> tuple[bool, bool]:
        await asyncio.sleep(60)
        before = task.done()
        change(file)
        await asyncio.sleep(3 * LOOK_EVERY_S)
        return before, task.done()

    assert watching(tmp_path, use) == (False, True)


def test_a_link_that_is_turned_is_a_change(tmp_path: Path) -> None:
    """So a volume of Kubernetes changes: the file's own name stays a link to a link."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "m365.yaml").write_text("same")
    (tmp_path / "present").symlink_to("one")
    (tmp_path / "linked.yaml").symlink_to("present/m365.yaml")

    async def use(_file: Path, task: asyncio.Task[None]) -> bool:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "present")
        await asyncio.sleep(3 * LOOK_EVERY_S)
        return task.done()

    assert watching(tmp_path, use, named="linked.yaml")


@guarantee(31)
def test_a_file_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    """Half a file is never read; the whole one is told once it lies still."""

    async def use(file: Path, task: asyncio.Task[None]) -> tuple[bool, bool]:
        for length in range(20):
            rewritten(file, "x" * length)
            await asyncio.sleep(LOOK_EVERY_S)
        during = task.done()
        await asyncio.sleep(3 * LOOK_EVERY_S)
        return during, task.done()

    assert watching(tmp_path, use) == (False, True)


def test_a_file_that_is_away_for_a_moment_is_not_gone(tmp_path: Path) -> None:
    """Some editors move the old one away first."""

    async def use(file: Path, task: asyncio.Task[None]) -> tuple[bool, bool]:
        moved_aside(file)
        await asyncio.sleep(MISSING_S - LOOK_EVERY_S)
        away = task.done()
        rewritten(file)
        await asyncio.sleep(3 * LOOK_EVERY_S)
        return away, task.done()

    assert watching(tmp_path, use) == (False, True)


def test_a_file_that_is_gone_is_told_after_a_while(tmp_path: Path) -> None:
    """Nobody is left in the belief that it is still read."""

    async def use(file: Path, task: asyncio.Task[None]) -> bool:
        moved_aside(file)
        await asyncio.sleep(MISSING_S + 3 * LOOK_EVERY_S)
        return task.done()

    assert watching(tmp_path, use)


def test_what_was_put_back_before_it_was_told_is_no_change(tmp_path: Path) -> None:
    """The very same file as before."""

    async def use(file: Path, task: asyncio.Task[None]) -> bool:
        moved_aside(file)
        await asyncio.sleep(LOOK_EVERY_S)
        put_back(file)
        await asyncio.sleep(60)
        return task.done()

    assert not watching(tmp_path, use)
