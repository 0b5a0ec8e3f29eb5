"""`./dev bench board`: how long pages take over 20 million records, and what they take from the collector.

The board is the real one in a process of its own, asked over HTTP as a browser asks it: the page, and then
all its panels over six connections. Before each page the lake's files are put out of the system's memory, and
no view is asked for twice. CPU time is the board's own; divided by the cores it is the least that a quiet
machine needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import pyarrow.parquet as pq
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.board_lake import TENANT, BoardLake, board_lake
from benchmarks.board_search import SearchFigure, search, searches
from benchmarks.board_views import filters, find_values, queries
from benchmarks.figures import Judgement
from benchmarks.measuring import Command, Cost, run_measured
from benchmarks.outcome import Line, Outcome, missed_of
from benchmarks.service import service_running
from m365watch.board.access.one_time_links import OpenLinks
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.pages.page_types import Page
from m365watch.cli.board.low_priority import give_way
from m365watch.common.clock import SystemClock
from m365watch.lake.schema import AUDIT

RECORDS = 20_000_000
CONNECTIONS = 6
"""Of one browser to one server."""
PAGE_MS_MAX, FIRST_LOAD_KB_MAX, TOUCH_MAX = 300, 200, 0.10
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIMIT = aiohttp.ClientTimeout(total=120)
_LEFT_OUT = {"alert", "instance", "sql", "search"}
"""Pages about one thing that this lake has not, and those that answer what somebody writes."""


@dataclass(frozen=True, slots=True)
class Load:
    """One page with all its panels."""

    url: str
    wall_ms: float
    cpu_ms: float
    troubled: int
    """Panels that said they could not."""


@dataclass(slots=True)
class PageFigures:
    """All loads of one page."""

    page: str
    loads: list[Load] = field(default_factory=list)

    def wall_ms(self, share: float) -> float:
        """So many of the loads took at most so long."""
        return _quantile([one.wall_ms for one in self.loads], share)

    def cpu_ms(self, share: float) -> float:
        """The same of CPU time."""
        return _quantile([one.cpu_ms for one in self.loads], share)

    @property
    def slowest(self) -> Load:
        """By CPU time, which a busy machine distorts less."""
        return max(self.loads, key=lambda one: one.cpu_ms)


@dataclass(frozen=True, slots=True)
class Touch:
    """By which share a run of the collector took longer beside a busy board."""

    wall: float
    cpu: float


@dataclass(slots=True)
class BoardReport:
    """Everything that was measured, as --json prints it."""

    lake: BoardLake
    machine: str = field(default_factory=platform.platform)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    rollups: Cost | None = None
    """Of two days."""
    rollup_cpu_us: float = 0.0
    """For a record."""
    rollup_bytes: int = 0
    start_ms: float = 0.0
    start_mb: float = 0.0
    peak_mb: float = 0.0
    first_load_kb: float = 0.0
    pages: list[PageFigures] = field(default_factory=list)
    searches: list[SearchFigure] = field(default_factory=list)
    touch: list[Touch] = field(default_factory=list)
    """What a busy board beside it took from the collector, pair by pair."""


def show_board(*, records: int, folder: Path | None, pages: Sequence[str], console: Console) -> Outcome:
    """Make the lake where it is not there, measure and show."""
    folder = folder or Path(tempfile.gettempdir()) / f"board-lake-{records // 1_000_000}M"
    lake = board_lake(folder, records)
    report = BoardReport(lake)
    console.print(
        f"{lake.records:,} records of {lake.record_bytes:,} bytes, {lake.users:,} users, {lake.days} days:"
        f" {lake.bytes / 1e9:.1f} GB in {folder}; {report.cores} cores, load {report.load_before:.1f}"
    )
    _make_rollups(folder / "lake", report, console)
    asyncio.run(_measure(folder, lake, report, [one for one in PAGES if not pages or one.name in pages]))
    _show(report, console)
    if not pages:
        report.touch = list(_touches(folder))
        _show_touch(report.touch, console)
    lines = tuple(_lines(report))
    return Outcome(lines, not any(line.missed for line in lines), asdict(report))


def _lines(report: BoardReport) -> Iterator[Line]:
    """As the one table has them."""
    for page in report.pages:
        p95_ms = page.wall_ms(0.95)
        asked = Judgement("ms", f"at most {PAGE_MS_MAX}", p95_ms, p95_ms <= PAGE_MS_MAX)
        yield Line(f"page {page.page}", f"{p95_ms:,.0f} ms", asked=1, missed=missed_of([asked]))
    for found in report.searches:
        speed = f"{found.records / found.wall_ms * 1e3:,.0f} records/s"
        yield Line(f"search {found.words}", f"{found.first_ms:,.0f} ms to the first, {speed}")
    kb = report.first_load_kb
    load = Judgement("kB", f"at most {FIRST_LOAD_KB_MAX}", kb, kb <= FIRST_LOAD_KB_MAX)
    yield Line("first load", f"{kb:.0f} kB", peak_mb=report.peak_mb, asked=1, missed=missed_of([load]))
    if report.touch:
        share = median(one.wall for one in report.touch)
        asked = Judgement("longer", f"at most {TOUCH_MAX}", share, share <= TOUCH_MAX)
        yield Line("a collector beside it", f"{share:.1%} longer", asked=1, missed=missed_of([asked]))


def _make_rollups(lake: Path, report: BoardReport, console: Console) -> None:
    """What the collector's upkeep does, in a process of its own as there; of two days the cost."""
    run_measured(_keeping(lake))
    report.rollup_bytes = sum(path.stat().st_size for path in (lake / "rollups").rglob("*.parquet"))
    with tempfile.TemporaryDirectory(dir=lake.parent) as name:
        (Path(name) / AUDIT).symlink_to(lake / AUDIT)
        cost = report.rollups = run_measured(_keeping(Path(name), days_max=2))
    days = sorted((lake / AUDIT).glob("day=*"))[-2:]
    counted = sum(pq.read_metadata(path).num_rows for day in days for path in day.glob("*.parquet"))
    report.rollup_cpu_us = cost.cpu_s * 1e6 / counted
    console.print(
        f"rollups: {report.rollup_cpu_us:.1f} µs of CPU a record, {cost.peak_bytes / 1e6:.0f} MB of memory at"
        f" most; they take {report.rollup_bytes / 1e6:,.0f} MB beside the lake"
    )


def _keeping(lake: Path, *, days_max: int = 400) -> Command:
    keep = "from pathlib import Path; from m365watch.lake.rollups.rollup_builder import keep_rollups"
    return Command([sys.executable, "-c", f"{keep}; keep_rollups(Path({str(lake)!r}), days_max={days_max})"])


async def _measure(folder: Path, lake: BoardLake, report: BoardReport, pages: Sequence[Page]) -> None:
    values = find_values(folder / "lake")
    asked = list(queries(lake, filters(values)))
    with _board(folder, report) as board:
        async with _browser(board.url, board.new_code()) as browser:
            report.first_load_kb = await _first_load_kb(browser, board.url)
            for page in pages:
                if page.name in _LEFT_OUT:
                    continue
                figures = PageFigures(page.name)
                report.pages.append(figures)
                for query in asked:
                    more = f"&record={values.record}" if page.name == "record" else ""
                    _forget(folder / "lake")
                    figures.loads.append(await _load(browser, board, page, f"{query}{more}"))
            for words in searches(values):
                _forget(folder / "lake")
                report.searches.append(
                    await search(lambda url: _get(browser, board.url + url), lambda: board.cpu_s, lake, words)
                )
            report.peak_mb = board.memory_mb("VmHWM")


@dataclass(frozen=True, slots=True)
class _Running:
    """A board that answers."""

    url: str
    pid: int
    state: Path

    def new_code(self) -> str:
        """What opens it in one browser."""
        return OpenLinks(self.state).create(SystemClock().now())

    @property
    def cpu_s(self) -> float:
        """What it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def memory_mb(self, name: str) -> float:
        """A figure of the system's."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        return int(found[1]) / 1000 if found else 0.0


@contextlib.contextmanager
def _board(
    folder: Path, report: BoardReport | None = None, *, beside: Path | None = None
) -> Iterator[_Running]:
    """The board over the lake, as its command starts it; `beside` a state, as `run --board` does."""
    settings = folder / "m365watch.yaml"
    state = beside or folder / "state"
    settings.write_text(json.dumps(settings_of(folder, state=state)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "m365watch",
        "board",
        "-c",
        str(settings),
        "--listen",
        f"127.0.0.1:{port}",
    ]
    started_s = time.monotonic()
    with subprocess.Popen(
        [*command, *(["--beside"] if beside else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        board = _Running(f"http://127.0.0.1:{port}", process.pid, state)
        try:
            _wait_for(port, process)
            if report is not None:
                report.start_ms = (time.monotonic() - started_s) * 1e3
                report.start_mb = board.memory_mb("VmRSS")
            yield board
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RuntimeError("the board did not start")


def settings_of(folder: Path, *, state: Path) -> dict[str, Any]:
    """The configuration of a board over the lake in `folder`, beside a collector of that `state`."""
    persistence = {"type": "filesystem", "config": {"directory_name": str(state)}}
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "x"}
    return {
        "globals": {"name": "board", "persistence": persistence},
        "inputs": {"office365": {"type": "office365", "credentials": credentials}},
        "outputs": {"lake": {"type": "lake", "config": {"directory": str(folder / "lake")}}},
    }


def _forget(lake: Path) -> None:
    """Put the lake's files out of the system's memory: the next look reads the disk."""
    for path in lake.rglob("*.parquet"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


@contextlib.asynccontextmanager
async def _browser(url: str, code: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser in which the board was opened by a link with this code."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        cookie_jar=aiohttp.CookieJar(unsafe=True),  # the board's host is an address
        headers={"Sec-Fetch-Site": "same-origin"},
        timeout=_LIMIT,
        auto_decompress=False,
    ) as session:
        async with session.post(f"{url}/open", data={"code": code}, allow_redirects=False) as answer:
            answer.raise_for_status()
        yield session


async def _load(browser: aiohttp.ClientSession, board: _Running, page: Page, query: str) -> Load:
    """The page, and then all its panels at once."""
    cpu_s, started_s = board.cpu_s, time.perf_counter()
    await _get(browser, f"{board.url}/{page.name}?{query}")
    panels = [f"{board.url}/panel/{page.name}/{panel.name}?{query}" for panel in page.panels]
    bodies = await asyncio.gather(*(_get(browser, url) for url in panels))
    wall_ms = (time.perf_counter() - started_s) * 1e3
    troubled = sum(b'class="trouble"' in body for body in bodies)
    return Load(f"/{page.name}?{query}", wall_ms, (board.cpu_s - cpu_s) * 1e3, troubled)


async def _get(browser: aiohttp.ClientSession, url: str, *, encoding: str = "identity") -> bytes:
    async with browser.get(url, headers={"Accept-Encoding": encoding}) as answer:
        return await answer.read()


async def _first_load_kb(browser: aiohttp.ClientSession, url: str) -> float:
    """The first page, without its panels, and everything that it names, as they come over the wire."""
    page = await _get(browser, f"{url}/overview")
    named = set(re.findall(rb'(?:src|href)="(/static/[^"]+)"', page))
    assets = await asyncio.gather(*(_get(browser, url + one.decode(), encoding="gzip") for one in named))
    first = await _get(browser, f"{url}/overview", encoding="gzip")
    return (len(first) + sum(map(len, assets))) / 1e3


def _touches(folder: Path, *, pairs: int = 7, records: int = 200_000) -> Iterator[Touch]:
    """How much longer the collector takes into a lake while a board is asked page after page, run by run."""
    from benchmarks.contenders import CONTENDERS, state_of

    contender = next(one for one in CONTENDERS if one.name == "lake")
    with service_running(records) as service:
        for _ in range(pairs):
            costs = []
            for is_busy in (False, True):
                with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
                    if is_busy:
                        board = stack.enter_context(_board(folder, beside=state_of(Path(scratch))))
                        stack.enter_context(_asked_on_and_on(board))
                    costs.append(run_measured(contender.command(service.full, Path(scratch))))
            alone, beside = costs
            yield Touch(beside.wall_s / alone.wall_s - 1, beside.cpu_s / alone.cpu_s - 1)


@contextlib.contextmanager
def _asked_on_and_on(board: _Running) -> Iterator[None]:
    """While entered, a process of its own asks for one page after the other; the first has been answered."""
    asking = [
        sys.executable,
        "-c",
        f"from benchmarks.board import ask_on; ask_on({board.url!r}, {board.pid}, {board.new_code()!r})",
    ]
    with subprocess.Popen(asking, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            # Its start takes 0.6 s of CPU, a quarter of a collector's run, and is not the board's.
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError("nobody asks the board")
            yield
        finally:
            process.kill()


def ask_on(url: str, pid: int, code: str) -> None:
    """Load every page over and over, each time over another span; it is a browser's, and not to count.

    A line says that the first is there.
    """
    give_way()

    async def ask() -> None:
        async with _browser(url, code) as browser:
            hours = 0
            while True:
                for page in PAGES:
                    hours += 1
                    query = (
                        f"range=30d&user=user{hours}@contoso.example"
                        if hours % 2
                        else f"range=7d&type={hours}"
                    )
                    with contextlib.suppress(aiohttp.ClientError):
                        await _load(browser, _Running(url, pid, Path()), page, query)
                        if hours == 1:
                            print("asking", flush=True)

    asyncio.run(ask())


def _show(report: BoardReport, console: Console) -> None:
    table = Table(
        box=MARKDOWN, title="Pages with all their panels, no view asked for twice", title_justify="left"
    )
    table.add_column("page")
    for column in ("loads", "p50 ms", "p95 ms", "CPU p50 ms", "CPU p95 ms", ""):
        table.add_column(column, justify="right")
    for one in report.pages:
        troubled = sum(load.troubled for load in one.loads)
        verdict = "[green]pass[/]" if one.wall_ms(0.95) <= PAGE_MS_MAX else "[red]FAIL[/]"
        table.add_row(
            one.page,
            str(len(one.loads)),
            *(
                f"{value:,.0f}"
                for value in (one.wall_ms(0.5), one.wall_ms(0.95), one.cpu_ms(0.5), one.cpu_ms(0.95))
            ),
            f"{troubled} panels stopped" if troubled else verdict,
        )
    console.print(table)
    for one in report.pages:
        if one.wall_ms(0.95) > PAGE_MS_MAX:
            console.print(f"slowest: {one.slowest.url}: {one.slowest.cpu_ms:,.0f} ms of CPU", markup=False)
    table = Table(box=MARKDOWN, title="Searches over a week, to their end", title_justify="left")
    table.add_column("filter")
    for column in ("records", "hits", "first ms", "all ms", "CPU ms", "records/s"):
        table.add_column(column, justify="right")
    for found in report.searches:
        figures = (found.records, found.hits, found.first_ms, found.wall_ms, found.cpu_ms)
        speed = found.records / found.wall_ms * 1e3
        table.add_row(found.words, *(f"{one:,.0f}" for one in (*figures, speed)))
    console.print(table)
    console.print(
        f"first load {report.first_load_kb:.0f} kB compressed (asked: {FIRST_LOAD_KB_MAX});"
        f" the board is there after {report.start_ms:.0f} ms with {report.start_mb:.0f} MB,"
        f" {report.peak_mb:.0f} MB at most"
    )


def _show_touch(touch: Sequence[Touch], console: Console) -> None:
    walls, cpus = [one.wall for one in touch], [one.cpu for one in touch]
    console.print(
        f"beside a busy board the collector took {_percent(walls)} longer (asked: at most {TOUCH_MAX:.0%}),"
        f" and {_percent(cpus)} more CPU"
    )


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _percent(shares: Sequence[float]) -> str:
    return f"{median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
