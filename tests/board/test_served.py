"""The command in a process of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from patience import PATIENCE_S
from ports import kept_port
from promises import guarantee
from shifted import now

from m365watch.board.access.one_time_links import OpenLinks
from m365watch.config.loader import load_settings
from m365watch.ledger.lock import LOCK_FILE, LedgerLock

pytestmark = pytest.mark.slow

LIMIT_S = PATIENCE_S


async def start(config: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "m365watch.cli.main", "board", "--config", str(config), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
    )


async def page_at(port: int, path: str, config: Path) -> str:
    """The page, once somebody answers there, by a link of its own."""
    url, jar = f"http://127.0.0.1:{port}", aiohttp.CookieJar(unsafe=True)
    own = {"Sec-Fetch-Site": "same-origin"}
    links = OpenLinks(load_settings(config, environment={}, for_reading=True).state_directory)
    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession(cookie_jar=jar, headers=own) as session:
        while True:
            try:
                form = {"code": links.create(now()), "next": path}
                async with session.post(f"{url}/open", data=form) as answer:
                    return await answer.text()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["signal", "stdin"])
def test_the_command_serves_until_it_is_stopped(collected: Path, ending: str) -> None:
    """It says where it is, serves, ends with 0, and beside a collector ends with it."""

    async def run(port: int) -> tuple[int | None, str, str]:
        beside = ["--beside"] if ending == "stdin" else []
        process = await start(collected, "--listen", str(port), *beside)
        page = await page_at(port, "/overview", collected)
        if ending == "signal":
            process.send_signal(signal.SIGTERM)
        elif process.stdin is not None:
            process.stdin.close()
        async with asyncio.timeout(LIMIT_S):
            complaint = (await process.stderr.read()).decode() if process.stderr else ""
            await process.wait()
        return process.returncode, page, complaint

    with kept_port() as port:
        code, page, told = asyncio.run(run(port))

    assert code == 0
    assert "<h1>Overview</h1>" in page
    assert told.startswith("board: http://127.0.0.1:")
    assert "Traceback" not in told


@guarantee(47)
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux schedules threads so")
def test_a_board_by_itself_gives_way_once_a_collector_runs(collected: Path, tmp_path: Path) -> None:
    """And not before: who has the machine to themselves waits for nobody."""
    config = shutil.copytree(collected.parent, tmp_path / "place") / collected.name
    lock = LedgerLock(load_settings(config, environment={}, for_reading=True).state_directory / LOCK_FILE)

    def ways_of(process: int) -> set[int]:
        ways = set()
        for thread in Path(f"/proc/{process}/task").iterdir():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                ways.add(os.sched_getscheduler(int(thread.name)))
        return ways

    async def ask_on(port: int) -> None:
        for asked in count():
            await page_at(port, f"/panel/overview/figures?range=30d&user=ann{asked}", config)

    async def run(port: int) -> None:
        process = await start(config, "--listen", str(port))
        asking = asyncio.create_task(ask_on(port))
        await page_at(port, "/panel/overview/figures?range=30d", config)
        assert ways_of(process.pid) == {os.SCHED_OTHER}
        lock.acquire()
        async with asyncio.timeout(LIMIT_S):
            while ways_of(process.pid) != {os.SCHED_IDLE}:
                await asyncio.sleep(0.02)
        asking.cancel()
        process.kill()
        await process.communicate()

    try:
        with kept_port() as port:
            asyncio.run(run(port))
    finally:
        lock.release()


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(collected: Path) -> None:
    """Where it cannot listen, it says so, and what to do."""

    async def run() -> tuple[int | None, str]:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            process = await start(collected, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
            async with asyncio.timeout(LIMIT_S):
                _, told = await process.communicate()
            return process.returncode, told.decode()

    code, told = asyncio.run(run())

    assert code == 1
    assert "cannot listen at 127.0.0.1:" in told
    assert "board: http" not in told
    assert "--listen 127.0.0.1:PORT" in told
    assert "Traceback" not in told
