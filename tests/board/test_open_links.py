"""Links that open the board: each counts once, for a while, and nothing of it is kept but a hash."""

from __future__ import annotations

import asyncio
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shifted import now
from structlog.testing import capture_logs

from asking import board_of
from m365watch.board.access.link_sign_in import LinkEntrance
from m365watch.board.access.one_time_links import LIFETIME, PENDING_MAX, OpenLinks, link_to
from m365watch.board.access.sessions import Sessions, SessionTimes
from m365watch.board.app.application import Board, Listening
from m365watch.board.query.data_sources import Sources
from m365watch.common.errors import NeedsOperator
from m365watch_testing.clock import FakeClock
from signing import NOW, Browser

LISTENING = Listening("127.0.0.1", 8365)


def opened(folder: Path, sources: Sources) -> tuple[Board, LinkEntrance, FakeClock]:
    """A board that is opened by links, of a state directory."""
    clock = FakeClock(NOW)
    sessions = Sessions(SessionTimes(3_600, 43_200), stamp_of=lambda _: None)
    entrance = LinkEntrance(OpenLinks(folder), sessions, LISTENING, clock=clock)
    return board_of(sources, gate=entrance.gate, entrance=entrance), entrance, clock


def test_a_code_counts_once_whoever_is_quicker(tmp_path: Path) -> None:
    """Also where several processes redeem it at the same moment."""
    code = OpenLinks(tmp_path).create(NOW)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: OpenLinks(tmp_path).redeem(code, NOW), range(8)))

    assert sorted(found) == [False] * 7 + [True]
    assert stat.S_IMODE(OpenLinks(tmp_path).path.stat().st_mode) == 0o600
    assert code.encode() not in OpenLinks(tmp_path).path.read_bytes()


def test_a_code_counts_for_ten_minutes(tmp_path: Path) -> None:
    """One that is older is none, and is forgotten with the next one."""
    links = OpenLinks(tmp_path)
    early, late = links.create(NOW), links.create(NOW)

    assert links.redeem(early, NOW + LIFETIME * 0.99)
    assert not links.redeem(late, NOW + LIFETIME)
    assert not links.redeem(late, NOW)


def test_codes_that_wait_are_bounded(tmp_path: Path) -> None:
    """The oldest gives way."""
    links = OpenLinks(tmp_path)
    codes = [links.create(NOW) for _ in range(PENDING_MAX + 1)]

    assert not links.redeem(codes[0], NOW)
    assert links.redeem(codes[1], NOW)


def test_a_link_has_its_code_where_browsers_send_it_nowhere() -> None:
    """The page that is asked for stands in the address, the code behind it."""
    assert link_to("http://h:1", "code") == "http://h:1/open#code"
    assert link_to("http://h:1", "code", page="/alert?alert=a") == "http://h:1/open?next=/alert?alert=a#code"


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="there is no such folder")
def test_a_state_that_takes_nothing_leaves_the_one_link_that_is_printed(sources: Sources) -> None:
    """It counts once, for as long as others, and the log says what to do."""
    board, entrance, _ = opened(Path("/proc/self/state"), sources)
    with capture_logs() as lines:
        code = entrance.new_link().partition("#")[2]

    async def act() -> list[int]:
        browser = Browser(board)
        return [(await browser.post("/open", body=f"code={code}".encode())).status for _ in range(2)]

    assert asyncio.run(act()) == [303, 503]
    assert all("run this as the user that the collector runs as" in one["event"] for one in lines)
    with pytest.raises(NeedsOperator, match=r"board\.sqlite: the board's database cannot be used"):
        OpenLinks(Path("/proc/self/state")).create(now())


def test_a_session_begins_with_a_link_and_ends_with_a_sign_out(tmp_path: Path, sources: Sources) -> None:
    """A whole link may be pasted; the session is `local user`, and no page of before is shown afterwards."""
    board, entrance, _ = opened(tmp_path, sources)

    async def act() -> None:
        browser = Browser(board)
        assert (await browser.get("/overview")).headers["location"] == "/open?next=%2Foverview"
        pasted = entrance.new_link().replace("#", "%23")
        assert (await browser.post("/open", body=f"code={pasted}".encode())).status == 303
        assert list(browser.cookies) == ["m365watch-8365"]
        assert "local user" in (await browser.get("/overview")).text
        left = await browser.post("/sign-out", await browser.token())
        assert (left.status, left.headers["hx-redirect"]) == (204, "/open?out")
        assert (await browser.get("/overview")).status == 303

    asyncio.run(act())


def test_a_board_over_https_binds_the_cookie_to_its_host(tmp_path: Path) -> None:
    """Its name carries the port, as cookies do not separate ports."""
    sessions = Sessions(SessionTimes(9, 9), stamp_of=lambda _: None)
    listening = Listening("127.0.0.1", 9443, address="https://board.example:9443")
    clock = FakeClock(NOW)
    entrance = LinkEntrance(OpenLinks(tmp_path), sessions, listening, clock=clock)

    assert entrance._session.name == "__Host-m365watch-9443"
