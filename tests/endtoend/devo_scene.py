"""A tenant, a collector in a process of its own, and Devo at the other end of a TLS connection."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deltalake import DeltaTable
from forked import Forked
from patience import PATIENCE_S
from ports import kept_port

from commands import Ended, Scene, start
from m365watch.common.clock import SystemClock
from m365watch.common.model import Batch, ContentType
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch_simulator.service.scenario import Answer, Call, Rule, Scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_testing.certificates import Authority
from m365watch_testing.devo_server import DevoServer, Faults, server_tls
from place import LAKE, Place

AUDIT = "cloud.office365."
NOTICES = "devo.collectors.out."
_LINE = re.compile(
    rb"<14>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (?P<host>[^ ]+) (?P<tag>[^ ]+): (?P<body>.*)", re.DOTALL
)
_ADDED = re.compile(rb',"@devo_pulling_id":"\d{13}"(?P<environment>,"@devo_environment":"[^"]*")?}$')
_LOOK_AFTER_S = 0.02
LARGE = Scenario(rules=(Rule(on=(Call.CONTENT,), answer=Answer.HUGE_RECORD, size_bytes=250_000),))
"""Every blob has 250 kB or more, so that some fifty of them fill a batch."""


class Received(NamedTuple):
    """A line as Devo reads it."""

    tag: str
    body: bytes

    @property
    def record(self) -> bytes:
        """The body without what is added for Devo; its own closing brace comes back."""
        return _ADDED.sub(b"}", self.body)

    @property
    def added(self) -> bytes:
        """What is added for Devo."""
        found = _ADDED.search(self.body)
        return found[0] if found else b""


def read_line(line: bytes) -> Received:
    """The parts of a line; one of another form is an error."""
    found = _LINE.fullmatch(line)
    assert found is not None, line[:200]
    return Received(found["tag"].decode(), found["body"])


@dataclass(frozen=True, slots=True)
class DevoScene:
    """What a test of a run into Devo works with."""

    scene: Scene
    authority: Authority
    devo: DevoServer

    @property
    def file(self) -> str:
        return str(self.scene.file)

    @property
    def fetches(self) -> int:
        """How many blobs were asked for so far."""
        return int(self.scene.running.report["requests"].get("fetch", 0))

    def output(self, *, quick: bool = True, **config: object) -> dict[str, Any]:
        """An output of Devo's with a certificate of its own; a `quick` one tries again after a second."""
        files = self.authority.issue("collector", names=["collector"])
        files.key.chmod(0o600)
        times = ("connecting_initial", "connecting_max", "sending_initial", "sending_max")
        # A receiver of tests is slow on a busy machine: it is left a second before the retention is over.
        waits = {f"{time}_wait_in_seconds": 1 for time in times} | {"sending_timeout": 9}
        keys = {"chain": self.authority.chain, "cert": files.cert, "key": files.key}
        address = {"address": "localhost", "port": self.devo.port}
        paths = {key: str(path) for key, path in keys.items()}
        return {"type": "devo_platform", "config": {**address, **paths, **(waits if quick else {}), **config}}

    def configure(
        self,
        outputs: Mapping[str, Any] | None = None,
        *,
        services: Mapping[str, Any] | None = None,
        overall: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the configuration, with Devo and the lake unless other outputs are given.

        `overall` and `source` are further keys of `globals` and of the input.
        """
        outputs = outputs or {"devo": self.output(), "lake": LAKE}
        document = self.scene.running.configuration(outputs=outputs, services=services)
        document["globals"] |= overall or {}
        document["inputs"]["office365"] |= source or {}
        self.scene.file.write_text(json.dumps(document))
        self.scene.file.chmod(0o600)

    async def start(self, *arguments: str) -> Forked:
        """`m365watch run`, started."""
        return await start("run", "--config", self.file, *arguments)

    async def run_once(self) -> Ended:
        return await self.scene.run_once()

    @property
    def has_records(self) -> bool:
        """Whether Devo has a record by now."""
        return any(read_line(line).tag.startswith(AUDIT) for line in self.devo.lines)

    def received(self) -> list[Received]:
        """The lines that Devo has, once no connection brings more."""
        self.devo.wait_until_over()
        return [read_line(line) for line in self.devo.lines]

    def received_records(self) -> list[bytes]:
        """The records that Devo has, as they were before anything was added to them."""
        return [line.record for line in self.received() if line.tag.startswith(AUDIT)]

    def in_lake(self) -> list[bytes]:
        return self.scene.place.holdings().get("lake", [])

    def tables_in_lake(self) -> Counter[tuple[str, bytes]]:
        """Each record of the lake with its table."""
        columns = DeltaTable(str(self.scene.place.folder / "lake" / "audit")).to_pyarrow_table(
            columns=["devo_table", "raw"]
        )
        raws = [raw.encode() if isinstance(raw, str) else raw for raw in columns["raw"].to_pylist()]
        return Counter(zip(columns["devo_table"].to_pylist(), raws, strict=True))

    def unacknowledged(self) -> list[Batch]:
        """The batches that the ledger does not know to be at Devo: those of its queue on disk.

        Every batch goes there before it is sent, and leaves once the ledger has its acknowledgement.
        """
        folder = self.scene.place.folder / "state" / "queues" / "devo"
        queue = BatchQueue(folder, output="devo", bytes_max=1 << 40, wide_headers=False)
        last = self._last_batch()
        batches = [queue.get(number) for number in queue.open() if number > last]
        return [batch for batch in batches if batch is not None]

    def is_alike_elsewhere(self) -> bool:
        """Whether all other outputs, the detections too, have come to the same batch."""
        with ledger_for_reading(self.scene.place.folder / "state" / LEDGER_FILE) as ledger:
            rows = ledger.execute("SELECT DISTINCT last_batch FROM output WHERE name != 'devo'").fetchall()
        return len(rows) == 1

    def _last_batch(self) -> int:
        with ledger_for_reading(self.scene.place.folder / "state" / LEDGER_FILE) as ledger:
            found = ledger.execute("SELECT last_batch FROM output WHERE name = 'devo'").fetchone()
        return int(found[0]) if found else 0


@asynccontextmanager
async def devo_scene_in(
    folder: Path, settings: SimulationSettings, *, faults: Callable[[int], Faults] | None = None
) -> AsyncIterator[DevoScene]:
    """A tenant that publishes nothing more, and a Devo that is not listening yet but has its port."""
    authority = Authority(folder)
    clock = SystemClock()
    with kept_port() as port:
        devo = DevoServer(server_tls(authority), faults=faults, port=port)
        async with simulator_running(settings, clock=clock) as running:
            for content_type in ContentType:
                running.tenants[0].subscriptions.start(content_type, clock.now())
            scene = DevoScene(Scene(Place(folder), running), authority, devo)
            scene.configure()
            yield scene


async def until(holds: Callable[[], bool], process: Forked | None = None) -> None:
    """Return once it holds; an error after two minutes, or when `process` is over before."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            assert process is None or process.returncode is None, "the collector ended too early"
            await asyncio.sleep(_LOOK_AFTER_S)
