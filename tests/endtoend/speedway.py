"""A collector in a process of its own at full speed, and the ends that it comes to.

The service has prepared its blobs, so that the collector is what takes the time. Records are told
apart by digests of their bytes: there are too many of them to be compared as they are.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from deltalake import DeltaTable
from forked import Forked, fork
from patience import PATIENCE_S

from benchmarks.service import DIGEST_BYTES, Service, digest

ROOT = Path(__file__).resolve().parents[2]
WITNESSED = Path(__file__).with_name("witnessed.py")
_LOOK_S = 0.005
_TESTIMONY_S = 0.05
_WRITTEN_S = 10.0
_MERGE_COUNT = 5_000
"""Identities in memory from which on they are merged: a fortieth of the usual, so that merges are met."""
_PLACES = {
    "listing": r"feed/(poller|api)\.py|in commit_listing",
    "fetching": r"feed/(fetcher|tries)\.py|records/\w+\.py|entra/\w+\.py",
    "opening a batch": r"in open_batch",
    "writing files": r"outputs/files/\w+\.py",
    "writing the lake": r"lake/(writer|delivery|parquet|tables)\.py",
    "committing": r"in commit_(delivered|queued)",
    "merging identities": r"in merge_(identities|step)",
}
"""What a thread is at, by the line of its stack that says so."""


def digests_served(file: Path) -> set[bytes]:
    """What `benchmarks.service` wrote of the records that it serves."""
    packed = file.read_bytes()
    return {packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES)}


@dataclass(slots=True)
class Speedway:
    """A folder with a configuration, and the processes that collect into it one after the other."""

    folder: Path
    service: Service
    outputs: Mapping[str, Any]
    has_detections: bool = True
    _lines: Path = field(init=False)
    _testimony: Path = field(init=False)

    def __post_init__(self) -> None:
        """Write the configuration."""
        self._lines, self._testimony = self.folder / "stderr", self.folder / "testimony"
        [source] = self.service.full.values()
        source = dict(source)
        source["services"] = {
            name: {**settings, "override_bloom_filter_buffer_size": _MERGE_COUNT}
            for name, settings in source["services"].items()
        }
        path = self.folder / "config.json"
        path.touch(mode=0o600)
        document = {"inputs": {"office365": source}, "outputs": self.outputs}
        path.write_text(json.dumps(document | {"detections": {"enabled": self.has_detections}}))

    async def start(self, *options: str) -> Forked:
        """`m365watch run`, just begun."""
        self._testimony.unlink(missing_ok=True)
        words = (str(self._testimony), "run", "--config", str(self.folder / "config.json"), *options)
        with self._lines.open("wb") as lines:
            return await fork(WITNESSED, *words, folder=self.folder, stderr=lines)

    async def until_started(self, process: Forked) -> None:
        """Return once the collector has said that it has started."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.has_started:
                assert process.returncode is None, self.said
                await asyncio.sleep(_LOOK_S)

    async def until_written(self) -> None:
        """Return once something of what the outputs write has changed, or if nothing does for long."""
        before, until_s = self._sizes(), monotonic() + _WRITTEN_S
        while self._sizes() == before and monotonic() < until_s:
            await asyncio.sleep(_LOOK_S)

    def _sizes(self) -> dict[Path, int]:
        """How large each file of the outputs is; one that is renamed while it is looked at is left out."""
        sizes = {}
        for place in ("out", "lake/audit"):
            for path in self.folder.glob(f"{place}/**/*"):
                with suppress(FileNotFoundError):
                    sizes[path] = path.stat().st_size
        return sizes

    @property
    def has_started(self) -> bool:
        return ": started; tenants:" in self.said

    @property
    def said(self) -> str:
        """The lines on the collector's stderr."""
        return self._lines.read_text()

    async def kill(self, process: Forked, *, is_stopping: bool = False) -> list[str]:
        """Kill it, at once; what its threads were at just before: nothing if a stop was quicker."""
        threads = ""
        if self._testimony.exists() and process.returncode is None:
            process.send_signal(signal.SIGUSR1)
            until_s = monotonic() + _TESTIMONY_S
            while not (threads := self._testimony.read_text()).endswith("in <module>\n"):
                if monotonic() >= until_s:
                    break
        process.kill()
        await process.wait()
        if is_stopping and process.returncode == 0:
            return []
        # Being asked where its threads are can end it, too: frames are read while they change. That is as
        # sudden an end as a kill.
        ends = {-signal.SIGKILL, -signal.SIGSEGV} if self._testimony.exists() else {-signal.SIGKILL}
        assert process.returncode in ends, (process.returncode, self.said)
        if not self.has_started:
            return ["starting"]
        return [place for place, line in _PLACES.items() if re.search(line, threads)] or ["waiting"]

    async def stop(self, process: Forked) -> tuple[int, float]:
        """Ask it to end; its exit code, and after how many seconds."""
        told_s = monotonic()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            return await process.wait(), monotonic() - told_s

    async def catch_up(self) -> int:
        """`m365watch run --once`, undisturbed; its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            return await (await self.start("--once")).wait()

    async def keep_lake(self) -> Forked:
        """The lake's upkeep, as the collector starts it once enough has been written."""
        return await fork("m365watch.lake.maintenance.maintenance_worker", str(self.folder / "lake"))

    def in_files(self) -> list[bytes]:
        """The digests of the lines under published names."""
        return [
            digest(line.removesuffix(b"\n"))
            for path in self.folder.glob("out/**/*.ndjson")
            for line in _lines_of(path)
        ]

    def in_lake(self) -> list[bytes]:
        """The digests of the records in the table `audit`."""
        table = self._table()
        if table is None:
            return []
        batches = table.to_pyarrow_dataset().to_batches(columns=["raw"], batch_size=10_000)
        return [
            digest(raw.encode() if isinstance(raw, str) else raw)
            for batch in batches
            for raw in batch["raw"].to_pylist()
        ]

    def count_in_lake(self) -> int:
        """How many records the table `audit` has: a look at the ends of its files."""
        table = self._table()
        return 0 if table is None else table.to_pyarrow_dataset().count_rows()

    def _table(self) -> DeltaTable | None:
        path = str(self.folder / "lake" / "audit")
        return DeltaTable(path) if DeltaTable.is_deltatable(path) else None


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from lines
