"""The board before a browser: it complains of nothing, asks nobody else, and can be read by everybody."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from ports import kept_port

from chromium import Chromium, Tab, chromium, find_chromium
from collected_week import CLOCK
from m365watch.board.access.one_time_links import OpenLinks
from m365watch.board.app.application import Listening
from m365watch.board.factory import serve_board
from m365watch.common.clock import Clock
from m365watch.config.loader import load_settings

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WIDTHS = (1280, 390)
THEMES = ("dark", "light")
INSTALL_S = 240
VIOLATIONS = """
axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"], rules: {"landmark-unique": {enabled: true}}
}).then((told) =>
  told.violations.flatMap((one) => one.nodes.slice(0, 3).map((node) => one.id + " " + node.html.slice(0, 160)
    + " " + (node.any[0]?.message ?? ""))))
"""
FEWER_ROWS = """
(() => {
  const kind = (one) => `${one.tagName} ${one.getAttribute("class")}`;
  const kinds = (row) => [row, ...row.querySelectorAll("*")].map(kind);
  const left = [...document.querySelectorAll("tbody, ol, .records")].map((parent) => {
    const seen = new Set();
    const rows = [...parent.children].filter((row, place) => {
      const more = kinds(row).filter((one) => !seen.has(one));
      more.forEach((one) => seen.add(one));
      return place >= 12 && more.length === 0;
    });
    return [rows, rows.reduce((sum, row) => sum + row.getBoundingClientRect().height, 0)];
  });
  for (const [[first, ...others], height] of left.filter(([rows]) => rows.length)) {
    const gap = document.createElement(first.matches("tr, li") ? first.tagName : "div");
    gap.style.height = `${height}px`;
    first.replaceWith(gap);
    others.forEach((row) => row.remove());
  }
})()
"""
"""Takes out of tables and lists all rows but a dozen, and those in which something is of a kind of its own.

Axe's work grows with what is on a page, be it looked at or not. What scrolled goes on to scroll.
"""


@dataclass(frozen=True, slots=True)
class Shown:
    tab: Tab
    url: str


Act = Callable[[Shown], Awaitable[None]]
InBrowser = Callable[[Act], None]


@asynccontextmanager
async def served(config: Path, clock: Clock = CLOCK) -> AsyncIterator[str]:
    """The address of the board of a configuration."""
    settings = load_settings(config, environment={}, for_reading=True)
    stop = asyncio.Event()
    with kept_port() as port:
        serving = asyncio.create_task(
            serve_board(settings, Listening("127.0.0.1", port), clock=clock, stop=stop)
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def shown(config: Path, clock: Clock = CLOCK) -> AsyncIterator[Shown]:
    """The board of a configuration, served, and a browser before it."""
    async with served(config, clock) as url, chromium() as browser, browser.tab() as tab:
        await open_board(tab, url, config, clock)
        yield Shown(tab, url)


@contextmanager
def browsing(config: Path) -> Iterator[InBrowser]:
    """What does something before the board of a configuration, each time in a tab that shares nothing.

    Board and browser stand still in between.
    """
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            url = runner.run(stack.enter_async_context(served(config)))
            browser = runner.run(stack.enter_async_context(chromium()))
            yield lambda act: runner.run(_in_tab(browser, url, config, act))
        finally:
            runner.run(stack.aclose())


async def open_board(tab: Tab, url: str, config: Path, clock: Clock = CLOCK) -> None:
    """Give the tab the session that a link leads to; test_link_in_browser.py goes the whole way."""
    settings = load_settings(config, environment={}, for_reading=True)
    code = OpenLinks(settings.state_directory).create(clock.now())
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/open", data={"code": code}, allow_redirects=False) as answer,
    ):
        [cookie] = answer.cookies.values()
    given = {"httpOnly": True, "sameSite": "Lax"}
    await tab.call("Network.setCookie", url=url, name=cookie.key, value=cookie.value, **given)


async def _in_tab(browser: Chromium, url: str, config: Path, act: Act) -> None:
    async with browser.tab() as tab:
        await open_board(tab, url, config)
        await act(Shown(tab, url))
        assert tab.complaints == []
        hosts = {urlsplit(one).netloc for one in tab.requests if one.startswith("http")}
        assert hosts == {urlsplit(url).netloc}


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


@pytest.fixture(scope="module")
def in_browser(_browser: None, collected: Path) -> Iterator[InBrowser]:
    """Does something before the board of the collected week: a module's tests share board and browser."""
    with browsing(collected) as act:
        yield act
