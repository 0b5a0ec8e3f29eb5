"""Debian's Chromium without a window, driven over its own protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

START_S = 90.0
ANSWER_S = 60.0
"""A page of many tables is looked through by axe for 20 s where a machine has much else to do."""
LOOK_S = 0.02
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--mute-audio",
)


def find_chromium() -> str | None:
    """The browser's name; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class PageLeft(Exception):
    """The page that was asked went, for another one, before it could answer."""


class Line:
    """A connection to the browser over which it is called, and over which it tells what happens."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for sent in self._socket:
            told = json.loads(sent.data)
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
            else:
                self._hear(told["method"], told.get("params", {}))

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        """Take note of what happened."""

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What the browser answers to a call of its protocol."""
        self._number += 1
        waiting = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(ANSWER_S):
            told = await waiting
        if "navigated" in told.get("error", {}).get("message", ""):
            raise PageLeft(method)
        assert "error" not in told, told
        result: dict[str, Any] = told["result"]
        return result


class Tab(Line):
    """One page of the browser, and what it complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(socket)
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
            self.complaints.append(json.dumps(params["args"])[:600])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    async def run(self, script: str) -> Any:
        """The value of a script, or of its promise."""
        told = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until the script is true."""
        async with asyncio.timeout(ANSWER_S):
            while not await self._holds(script):
                await asyncio.sleep(LOOK_S)

    async def _holds(self, script: str) -> bool:
        try:
            return bool(await self.run(script))
        except PageLeft:
            return False

    async def click(self, selector: str) -> None:
        """Click what leads elsewhere, a moment after the answer, which would be lost with the page."""
        await self.run(f"setTimeout(() => document.querySelector({json.dumps(selector)}).click()) && 1")

    async def open(self, url: str) -> None:
        """Go there, and wait until every panel is loaded and drawn."""
        await self.call("Page.navigate", url=url)
        await self.settled(url)

    async def settled(self, url: str = "") -> None:
        """Wait until the page is there, and all of its panels."""
        if url:
            await self.until(
                f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'"
            )
        await self.until("document.readyState === 'complete' && !document.querySelector('.skeleton')")
        await self.until(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
        )

    async def look(self, width: int, height: int = 900, *, theme: str = "dark") -> None:
        """Be so wide, and in that theme."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
        )

    async def picture(self, *, whole: bool = True) -> bytes:
        """The page as a PNG."""
        told = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])

    async def press(self, key: str) -> None:
        """A key, as typed."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else "")
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The pointer from one place to another, its button held."""
        steps = (
            ("mouseMoved", start),
            ("mousePressed", start),
            ("mouseMoved", ((start[0] + end[0]) / 2, end[1])),
            ("mouseMoved", end),
            ("mouseReleased", end),
        )
        for kind, (x, y) in steps:
            await self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
            )


class Chromium:
    """A browser that runs."""

    def __init__(self, session: aiohttp.ClientSession, address: str, line: Line) -> None:
        self._session = session
        self._address = address
        self._line = line

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """A tab that shares nothing with others, and is gone afterwards with all that it opened."""
        context = (await self._line.call("Target.createBrowserContext"))["browserContextId"]
        try:
            page = await self._line.call("Target.createTarget", url="about:blank", browserContextId=context)
            url = f"{self._address}/devtools/page/{page['targetId']}"
            async with self._session.ws_connect(url, max_msg_size=0) as socket:
                tab = Tab(socket)
                for room in ("Page", "Runtime", "Log", "Network"):
                    await tab.call(f"{room}.enable")
                yield tab
        finally:
            await self._line.call("Target.disposeBrowserContext", browserContextId=context)


@asynccontextmanager
async def chromium() -> AsyncIterator[Chromium]:
    """A browser of its own, which is gone afterwards."""
    name = find_chromium()
    assert name is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = [*_FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        process = await asyncio.create_subprocess_exec(
            name, *flags, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            port, path = await _told_in(Path(profile) / "DevToolsActivePort")
            address = f"ws://127.0.0.1:{port}"
            async with aiohttp.ClientSession() as session, session.ws_connect(address + path) as socket:
                yield Chromium(session, address, Line(socket))
        finally:
            process.kill()
            await process.wait()


async def _told_in(file: Path) -> list[str]:
    """What it says once it is whole: the port, and the browser's path at it."""
    async with asyncio.timeout(START_S):
        while len(told := _words_in(file)) < 2:
            await asyncio.sleep(LOOK_S)
    return told


def _words_in(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []
