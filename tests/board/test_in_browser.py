"""The pages in a browser: they work, complain of nothing, ask nobody else, and can be read by everybody."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from ports import kept_port

from chromium import ANSWER_S, LOOK_S, Tab, chromium, find_chromium
from m365watch.board.pages.registry import PAGES
from m365watch.board.serving import Listening
from m365watch.board.time_range import read_range
from m365watch.boarding import serve_board
from m365watch.clock import SystemClock
from m365watch.config.load import load_settings
from m365watch.detect.desk import AlertsAsked, list_alerts
from m365watch.detect.output import FILE_NAME

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WIDTHS = (1280, 390)
THEMES = ("dark", "light")
PICTURES = os.environ.get("M365WATCH_PICTURES", "")
"""A folder for a picture of every page, at both widths, in both themes; empty: none are kept."""
LOOKS = [*product(WIDTHS, THEMES)] if PICTURES else [*zip(WIDTHS, THEMES, strict=True)]
"""Each width and each theme once is enough: no colour hangs on the width, and no size on the theme."""
FIRST_LOAD_BYTES_MAX = 200_000
INSTALL_S = 240


@pytest.fixture(scope="session", autouse=True)
def _browser() -> None:
    """Debian's Chromium, installed where this is Debian and we may; or the reason why not."""
    if find_chromium():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, check=False, capture_output=True, timeout=INSTALL_S, env=environment)
    if not find_chromium():
        pytest.skip("there is no Chromium here, and it cannot be installed (apt-get install chromium)")


@dataclass(frozen=True, slots=True)
class Shown:
    tab: Tab
    url: str


@asynccontextmanager
async def shown(config: Path) -> AsyncIterator[Shown]:
    """The board of a configuration, served, and a browser before it."""
    settings = load_settings(config, environment={}, for_reading=True)
    stop = asyncio.Event()
    with kept_port() as port:
        serving = asyncio.create_task(
            serve_board(settings, Listening("127.0.0.1", port), clock=SystemClock(), stop=stop)
        )
        try:
            async with chromium() as tab:
                yield Shown(tab, f"http://127.0.0.1:{port}")
        finally:
            stop.set()
            await serving


def in_browser(config: Path, act: Callable[[Shown], Awaitable[None]]) -> None:
    async def run() -> None:
        async with shown(config) as page:
            await act(page)
            assert page.tab.complaints == []
            hosts = {urlsplit(one).netloc for one in page.tab.requests if one.startswith("http")}
            assert hosts == {urlsplit(page.url).netloc}

    asyncio.run(run())


def keep_picture(name: str, picture: bytes) -> None:
    (Path(PICTURES) / f"{name}.png").write_bytes(picture)


def test_every_page_can_be_read_by_everybody(collected: Path) -> None:
    """At both widths and in both themes: contrast, names, focus, no column out of sight, and no complaint."""
    axe = AXE.read_text()
    looked_at = VIOLATIONS if PICTURES else VIOLATIONS.replace("document", FIRST_ROWS, 1)
    worst = list_alerts(next(collected.parent.rglob(FILE_NAME)), AlertsAsked())[0]

    async def act(page: Shown) -> None:
        found = []
        for one in PAGES:
            query = f"range=7d&alert={worst.alert.id}" if one.name == "alert" else "range=7d"
            await page.tab.look(WIDTHS[0], theme=THEMES[0])
            await page.tab.open(f"{page.url}/{one.name}?{query}")
            await page.tab.run(axe)
            for width, theme in LOOKS:
                await page.tab.look(width, theme=theme)
                if PICTURES:
                    keep_picture(f"{one.name}-{width}-{theme}", await page.tab.picture())
                place = f"{one.name} {width} {theme}"
                assert await page.tab.run("document.documentElement.scrollWidth <= innerWidth"), place
                if width == WIDTHS[0] or one.name != "search":  # hits are read record by record
                    assert await page.tab.run(OUT_OF_SIGHT) == [], place
                assert await page.tab.run(CUT) == [], place
                found += [f"{place}: {said}" for said in await page.tab.run(looked_at)]
        assert found == []

    in_browser(collected, act)


FIRST_ROWS = '{exclude: ["tbody tr:nth-child(n + 13)"]}'
"""Of a hundred rows that are alike a dozen is looked through; where pictures are taken, all of them."""
OUT_OF_SIGHT = """
[...document.querySelectorAll(".scroll, .matrix")]
  .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel)
"""
CUT = """
[...document.querySelectorAll(".tone > .value")]
  .filter((one) => getComputedStyle(one).display !== "inline"
    && one.getBoundingClientRect().right > one.parentElement.getBoundingClientRect().right)
  .concat([...document.querySelectorAll("td.whole > *")]
    .filter((one) => one.clientHeight && one.scrollHeight > one.clientHeight + 2)
    .filter((one) => one.textContent.length < 33))
  .map((one) => one.textContent)
"""
"""Values of which nothing is left, and names of a usual length that are cut."""
VIOLATIONS = """
axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"], rules: {"landmark-unique": {enabled: true}}
}).then((told) =>
  told.violations.flatMap((one) => one.nodes.slice(0, 3).map((node) => one.id + " " + node.html.slice(0, 160)
    + " " + (node.any[0]?.message ?? ""))))
"""


def test_a_chart_is_brushed_to_a_time(collected: Path) -> None:
    """Dragging over a chart leads to a URL with that time; the value that is clicked narrows it further."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview")
        place = await page.tab.run(
            "(({x, y, width, height}) => [x, y, width, height])"
            "(document.querySelector('#panel-activity .u-over').getBoundingClientRect())"
        )
        x, y, width, height = place
        await page.tab.drag((x + width * 0.5, y + height / 2), (x + width * 0.75, y + height / 2))
        await page.tab.until("location.search.includes('from=')")
        await page.tab.settled()

        asked = parse_qs(urlsplit(await page.tab.run("location.href")).query)
        assert set(asked) == {"from", "to"}
        counted = read_range({name: text for name, [text] in asked.items()}, now=datetime.now(UTC))
        assert {name: [text] for name, text in counted.query().items()} == asked
        await page.tab.click("#panel-shares a.value")
        await page.tab.until("document.querySelectorAll('.chip').length === 1")
        await page.tab.settled()

    in_browser(collected, act)


HEADING_GAP = """
document.querySelector("#help .keys + h2").getBoundingClientRect().top
  - document.querySelector("#help .keys").getBoundingClientRect().bottom
"""


def test_the_keyboard_leads_everywhere(collected: Path) -> None:
    """Help, theme, time, pages and filters are reached without a pointer."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview?user=ann%40contoso.example")
        await page.tab.press("?")
        assert await page.tab.run("document.getElementById('help').open")
        assert await page.tab.run(HEADING_GAP) >= 12
        await page.tab.press("Escape")
        await page.tab.run("document.getElementById('help').close()")
        await page.tab.press("t")
        assert await page.tab.run("document.documentElement.dataset.theme") == "dark"
        await page.tab.press("x")
        await page.tab.until("!location.search.includes('user')")
        await page.tab.settled()
        await page.tab.press("[")
        await page.tab.until("location.search.includes('range=3d')")
        await page.tab.settled()
        assert await page.tab.run("document.documentElement.dataset.theme") == "dark"
        await page.tab.open(f"{page.url}/overview?from=2024-11-20T21:00Z&to=2024-11-21T05:00Z")
        await page.tab.press("[")
        await page.tab.until("new URLSearchParams(location.search).get('from') === '2024-11-20T23:00Z'")
        await page.tab.settled()
        await page.tab.press("]")
        await page.tab.until("new URLSearchParams(location.search).get('to') === '2024-11-21T05:00Z'")
        await page.tab.settled()
        await page.tab.press("g")
        await page.tab.press("2")
        await page.tab.until("location.pathname === '/sign-ins'")
        await page.tab.settled()
        await page.tab.press("g")
        await page.tab.press("0")
        await page.tab.until("location.pathname === '/health'")
        await page.tab.settled()
        await page.tab.press("g")
        await page.tab.press("t")
        await page.tab.until("location.pathname === '/trail'")
        await page.tab.settled()
        assert await page.tab.run("document.documentElement.dataset.theme") == "dark"

    in_browser(collected, act)


def test_no_key_of_the_page_acts_behind_a_dialog(collected: Path) -> None:
    """The reason that somebody types is not lost by an x, and the change looked at not by a g and a digit."""
    keys = ("x", "r", "t", "[", "g", "1")
    see = "[location.pathname + location.search, document.documentElement.dataset.theme, window.stays]"

    async def act(page: Shown) -> None:
        for url, dialog in (
            ("/alerts?user=nobody%40contoso.example&severity=high", "dialog.reason"),
            ("/collectors?user=nobody%40contoso.example", "dialog.change"),
        ):
            await page.tab.open(page.url + url)
            await page.tab.run(f"window.stays = 1, document.querySelector('{dialog}').showModal()")
            await page.tab.run("document.querySelector('dialog[open] button').focus()")
            before = await page.tab.run(see)
            for key in keys:
                await page.tab.press(key)

            assert before[0] == url
            assert await page.tab.run(see) == before
            await page.tab.run(f"document.querySelector('{dialog}').close()")
            await page.tab.press("x")
            await page.tab.until("!location.search.includes('user=') && document.readyState === 'complete'")

    in_browser(collected, act)


def test_x_takes_filters_out_and_leaves_what_the_page_is_about(collected: Path) -> None:
    """The editor of an input stays that input's; without a filter, what is typed into it stays too."""
    about = "instance=inputs.office365"

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/instance?{about}&user=ann%40contoso.example&by=chosen")
        await page.tab.press("x")
        await page.tab.until("!location.search.includes('user=')")
        await page.tab.settled()
        assert about in await page.tab.run("location.search")
        await page.tab.run("window.stays = 1")
        await page.tab.press("x")
        await page.tab.until("document.getElementById('toasts').textContent === 'No filter is set'")
        assert await page.tab.run("window.stays") == 1

    in_browser(collected, act)


def test_a_panel_whose_answer_does_not_come_says_so_and_comes_back(collected: Path) -> None:
    """No grey lines for ever: why, a way to try again, and what was there before stays in sight."""
    says = "(document.querySelector('#panel-people .why')?.innerText ?? '')"
    there = "document.querySelector('#panel-people .panel-body a')"
    again = "htmx.trigger(document.querySelector('#panel-people .panel-body'), 'again'), 1"

    async def act(page: Shown) -> None:
        await page.tab.call("Network.setBlockedURLs", urls=["*/panel/overview/people*"])
        await page.tab.open(f"{page.url}/overview")
        await page.tab.until(f"{says} === 'The board does not answer.'")
        assert await page.tab.run(f"!!document.querySelector('#panel-people .again') && !{there}")
        await page.tab.call("Network.setBlockedURLs", urls=[])
        await page.tab.run("dispatchEvent(new Event('online')), 1")
        await page.tab.until(f"!!{there} && !{says}")

        await page.tab.call("Network.setBlockedURLs", urls=["*/panel/overview/people*"])
        await page.tab.run(again)
        await page.tab.until(f"!!{there} && {says} === 'Not loaded anew: The board does not answer.'")
        await page.tab.call("Network.setBlockedURLs", urls=[])
        await page.tab.run("document.querySelector('#panel-people .again')?.click(), 1")
        await page.tab.until(f"!!{there} && !{says}")

        await page.tab.run(f"htmx.config.timeout = 1, {again}")
        await page.tab.until(f"{says} === 'Not loaded anew: No answer came within a minute.'")
        page.tab.complaints.clear()

    in_browser(collected, act)


OPEN_PAGES = 8
"""More than the six connections that a browser has to a host."""


def test_many_pages_are_open_at_once(collected: Path) -> None:
    """They share the connection by which they are told what is new; where its page goes, another has one."""

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/overview")
        for number in range(OPEN_PAGES):
            await page.tab.run(
                f"(window.others ??= []).push(open('/health?range={('24h', '7d')[number % 2]}')), 1"
            )
        await page.tab.until(EVERY_PAGE_IS_TOLD)
        [first], waiting = await page.tab.run(CONNECTED)
        await page.tab.run("dispatchEvent(new PageTransitionEvent('pagehide')), 1")
        await page.tab.until(f"{CONNECTED}.then(([[next]]) => next && next !== {first!r})")

        assert waiting == OPEN_PAGES

    in_browser(collected, act)


def test_a_page_that_there_is_no_room_for_asks_by_itself(collected: Path) -> None:
    """One session has four connections for news; a fifth page is told, and asks again."""

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/health")
        await page.tab.until("document.querySelector('.live-words').innerText !== 'connecting'")
        await page.tab.run("window.kept = [1, 2, 3].map((one) => new EventSource(`/live?of=${one}`)), 1")
        await page.tab.until("kept.every((one) => one.readyState === EventSource.OPEN)")
        await page.tab.run(
            "document.querySelector('#live').dataset.liveUrl = '/live?of=5',"
            " dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true})), 1"
        )
        await page.tab.until("document.querySelector('#live').title.includes('asks each minute')")

        assert await page.tab.run("document.querySelector('#live').dataset.state") != "lost"

    in_browser(collected, act)


def test_a_refused_connection_for_news_is_tried_again(collected: Path) -> None:
    """A proxy's 502 while the board was begun anew ended all news until the page was loaded again."""

    async def act(page: Shown) -> None:
        await page.tab.open(f"{page.url}/health")
        await page.tab.run("dispatchEvent(new PageTransitionEvent('pagehide')), 1")
        await page.tab.run(
            "document.querySelector('#live').dataset.liveUrl = '/not/there',"
            " dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true})), 1"
        )
        await page.tab.until("document.querySelector('#live').dataset.state === 'lost'")
        async with asyncio.timeout(ANSWER_S):
            while sum(one.endswith("/not/there") for one in page.tab.requests) < 2:
                await asyncio.sleep(LOOK_S)
        page.tab.complaints.clear()

    in_browser(collected, act)


EVERY_PAGE_IS_TOLD = """
others.every(({document: page}) => page.readyState === "complete" && !page.querySelector(".skeleton")
  && !["", "connecting"].includes(page.querySelector("#live .live-words")?.textContent ?? ""))
"""
CONNECTED = """
navigator.locks.query().then(({held, pending}) => [held.map((one) => one.clientId), pending.length])
"""


def test_a_table_is_sorted_by_its_headings(collected: Path) -> None:
    """Numbers sort as numbers, the largest first; a second click turns it round."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview")
        rows = "[...document.querySelectorAll('#panel-admin tbody tr')]"
        read = f"{rows}.map((row) => Number(row.cells[1].dataset.value))"
        click = "document.querySelectorAll('#panel-admin [data-sort]')[1].click()"
        await page.tab.run(click)
        down = await page.tab.run(read)
        await page.tab.run(click)

        assert down == sorted(down, reverse=True)
        assert await page.tab.run(read) == sorted(down)

    in_browser(collected, act)


def test_what_is_loaded_anew_stays_as_somebody_left_it(collected: Path) -> None:
    """A table's order, where it was scrolled to, and the keyboard's place: news come every half minute."""
    panel = "document.querySelector('#panel-rules')"
    again = f"htmx.trigger({panel}.querySelector('.panel-body'), 'again')"
    see = (
        f"[{panel}.querySelector('.scroll').scrollTop, {panel}.querySelector('th[aria-sort]')?.ariaSort,"
        f" {panel}.querySelector('tbody tr').innerText, document.activeElement.innerText]"
    )

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/exchange?range=7d")
        await page.tab.run(
            f"{panel}.querySelectorAll('[data-sort]')[1].click(),"
            f"{panel}.querySelector('.scroll').style.maxHeight = '4rem',"
            f"{panel}.querySelectorAll('tbody a')[2].focus(), {panel}.querySelector('.scroll').scrollTop = 20"
        )
        before = await page.tab.run(see)
        await page.tab.run(
            f"{panel}.querySelector('tbody').dataset.old = 1, {again}, 1",
        )
        await page.tab.until(
            f"!{panel}.querySelector('tbody').dataset.old && !{panel}.querySelector('.skeleton')"
        )

        assert before[:2] == [20, "ascending"]
        assert await page.tab.run(see) == before

    in_browser(collected, act)


def test_a_first_look_is_small(collected: Path) -> None:
    """Everything that a browser fetches for the overview, as it comes over the wire."""

    async def act(page: Shown) -> None:
        await page.tab.look(1280)
        await page.tab.open(f"{page.url}/overview")

        sizes = await page.tab.run(
            "[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]"
            ".reduce((sum, one) => sum + (one.transferSize || 0), 0)"
        )

        assert 20_000 < sizes < FIRST_LOAD_BYTES_MAX

    in_browser(collected, act)
