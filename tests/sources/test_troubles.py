"""What is wrong with a feed is said once, kept for `status`, and taken back when it has passed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import AccessRefused, CredentialsRefused, Unavailable, Unreachable
from m365watch.common.model import Feed
from m365watch.sources.feed_errors import Troubles
from m365watch_testing.loop import run_jumping
from scripted import FEED, FOREIGN_FEED, SHAREPOINT_FEED, House, house_in

Result = TypeVar("Result")

DOWN = Unavailable("HTTP 503", where=str(FEED))


def refused(feed: Feed) -> AccessRefused:
    return AccessRefused("the token lacks a permission (AF10001)", fix="grant it", where=str(feed))


def run(folder: Path, use: Callable[[House], Awaitable[Result]]) -> tuple[Result, list[str]]:
    """What `use` gives, and the lines that were written, each with its level."""

    async def main() -> Result:
        async with house_in(folder) as house:
            return await use(house)

    with capture_logs() as lines:
        result = run_jumping(main())
    return result, [f"{line['log_level']}: {line['event']}" for line in lines]


@guarantee(30)
def test_a_trouble_that_goes_on_is_said_once(tmp_path: Path) -> None:
    """One failure, one line: the log is not filled with what is known."""

    async def use(house: House) -> list[str]:
        for _ in range(3):
            await house.troubles.note(FEED, DOWN)
        return [trouble.code for trouble in house.told]

    told, lines = run(tmp_path, use)

    assert (told, lines) == (["unavailable"], [f"warning: {DOWN}"])


@guarantee(30)
def test_an_error_that_passes_by_itself_is_a_warning_also_where_it_has_a_hint(tmp_path: Path) -> None:
    error = Unreachable("connection refused", where=str(FEED), fix="open port 443")

    async def use(house: House) -> tuple[str | None, bool]:
        await house.troubles.note(FEED, error)
        return house.progress().fix, house.progress().needs_operator

    kept, lines = run(tmp_path, use)

    assert (kept, lines) == (("open port 443", False), [f"warning: {error}"])


def test_a_trouble_of_a_whole_tenant_is_named_once(tmp_path: Path) -> None:
    """Five feeds that lack one permission need one cure; another tenant needs its own."""

    async def use(house: House) -> tuple[list[Feed], list[Feed]]:
        for feed in (FEED, SHAREPOINT_FEED, FOREIGN_FEED):
            await house.troubles.note(feed, refused(feed))
        return [one.feed for one in house.told], [one.feed for one in house.troubles.present()]

    (told, present), lines = run(tmp_path, use)

    assert told == [FEED, FOREIGN_FEED]
    assert set(present) == {FEED, FOREIGN_FEED}
    assert [line.partition(":")[0] for line in lines] == ["error", "error"]


def test_the_same_trouble_in_another_window_is_no_news(tmp_path: Path) -> None:
    """The window moves with every poll: an outage of a day would be a line a minute and feed."""

    async def use(house: House) -> tuple[list[str], str | None]:
        for minute in range(10):
            await house.troubles.note(FEED, Unavailable("HTTP 503", where=f"{FEED} 09:00Z..10:{minute:02}Z"))
        return [trouble.text for trouble in house.told], house.progress().last_error

    (told, kept), lines = run(tmp_path, use)

    assert len(told) == len(lines) == 1
    assert kept is not None
    assert "10:09Z" in kept, "`status` shows the latest"


@guarantee(4)
def test_a_host_out_of_reach_is_named_once_for_a_tenant(tmp_path: Path) -> None:
    """Whichever window of whichever feed met it; what only one feed meets is said of each."""

    async def use(house: House) -> tuple[int, int]:
        for feed in (FEED, SHAREPOINT_FEED, FOREIGN_FEED):
            await house.troubles.note(feed, Unreachable("no connection (refused)", where=f"{feed} 09:00Z"))
        away = len(house.troubles.present())
        for feed in (FEED, SHAREPOINT_FEED, FOREIGN_FEED):
            await house.troubles.note(feed, Unavailable("HTTP 503", where=f"{feed} 09:00Z"))
        return away, len(house.troubles.present())

    counts, lines = run(tmp_path, use)

    assert counts == (2, 3)
    assert len(lines) == 5


def test_another_trouble_of_the_same_feed_is_said(tmp_path: Path) -> None:
    """What changes is news."""

    async def use(house: House) -> list[str]:
        await house.troubles.note(FEED, DOWN)
        await house.troubles.note(FEED, CredentialsRefused("expired", fix="renew the secret"))
        return [trouble.code for trouble in house.told]

    told, _ = run(tmp_path, use)

    assert told == ["unavailable", "credentials_refused"]


@guarantee(30)
def test_the_ledger_keeps_the_trouble_until_it_has_passed(tmp_path: Path) -> None:
    """`status`, in another process, shows the error and what to do, and nothing once it is over."""

    async def use(house: House) -> list[tuple[str | None, str | None]]:
        seen = []
        await house.troubles.note(FEED, refused(FEED))
        seen.append((house.progress().last_error, house.progress().fix))
        await house.troubles.passed(FEED)
        seen.append((house.progress().last_error, house.progress().fix))
        return seen

    seen, lines = run(tmp_path, use)

    assert seen == [(str(refused(FEED)), "grant it"), (None, None)]
    assert lines[-1] == f"info: {FEED}: goes on"


def test_an_error_of_an_earlier_run_is_taken_back(tmp_path: Path) -> None:
    """A collector that was restarted and goes on well does not show the old error for ever."""

    async def use(house: House) -> str | None:
        await house.troubles.note(FEED, DOWN)
        restarted = Troubles(house.ledger, house.calls, house.clock)
        await restarted.passed(FEED)
        return house.progress().last_error

    error, lines = run(tmp_path, use)

    assert (error, len(lines)) == (None, 1)


def test_going_on_well_costs_no_write(tmp_path: Path) -> None:
    """A feed without trouble is not written about at each poll."""

    async def use(house: House) -> int:
        await house.troubles.passed(FEED)
        before = house.ledger._connection.total_changes
        await house.troubles.passed(FEED)
        return house.ledger._connection.total_changes - before

    writes, lines = run(tmp_path, use)

    assert (writes, lines) == (0, [])


def test_nobody_has_to_listen(tmp_path: Path) -> None:
    """Without `on_change` a trouble is written down all the same."""

    async def use(house: House) -> list[str]:
        troubles = Troubles(house.ledger, house.calls, house.clock)
        await troubles.note(FEED, DOWN)
        return [trouble.text for trouble in troubles.present()]

    present, _ = run(tmp_path, use)

    assert present == [str(DOWN)]
