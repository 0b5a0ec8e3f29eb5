"""What sends to Devo: ours and devo-sdk, plain and compressed, to the same TLS server.

Each contender is a fresh process on one core; the server has another process and, where there are
several, another core. A run ends when the server has ended every connection in answer to the
sender's end, and counts only if every record arrived once. Ours has its retention on.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from isal import isal_zlib
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.collector import lines_of
from benchmarks.figures import JUDGED_RECORDS, Requirement, Row, cpu_us, judge, show_judgements, speed
from benchmarks.measuring import Cost
from benchmarks.outcome import Outcome
from benchmarks.service import StampedRecords
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.model import Batch, BatchPart, BlobKey, ContentType, Feed, TenantId
from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.outputs.devo.devo_output import DevoOutput
from m365watch.outputs.devo.spec import DevoConfig, DevoSection
from m365watch.pipeline.batcher import BATCH_BYTES
from m365watch.registry.outputs import OPEN_BYTES_MAX
from m365watch_testing.certificates import Authority

SENDERS_REQUIRED = (
    Requirement("ours: records/s", speed, "ours", at_least=150_000),
    Requirement("ours, gzip: records/s", speed, "ours, gzip", at_least=60_000),
    Requirement("ours to devo-sdk, records/s", speed, "ours", other="devo-sdk", at_least=1.5),
    Requirement("ours, gzip to devo-sdk, zip, records/s", speed, "ours, gzip", "devo-sdk, zip", at_least=1.5),
)
_PEERS = {"ours": ("devo-sdk",), "ours, gzip": ("devo-sdk, zip",)}
_TENANT = TenantId("3f2504e0-4f89-41d3-9a0c-0305e82c3301")
_TABLE = TABLE_PREFIX + "exchange"
_HOST = "collector-1"
_OPEN_BATCHES = OPEN_BYTES_MAX // BATCH_BYTES
_PATIENCE_S = 60.0
_SDK_BUFFER_BYTES = 51_200  # As Devo's Collector SDK sets it.


def compare_senders(*, records: int, runs: int, console: Console) -> Outcome:
    """Every sender, in turn."""
    load = os.getloadavg()[0]
    rows = [Row(name, records) for name in CONTENDERS]
    with tempfile.TemporaryDirectory(prefix="m365watch-bench-") as name:
        papers = _make_papers(Path(name))
        source = Path(name, "records.ndjson")
        source.write_bytes(b"\n".join(_make_records(records)))
        parent, child = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(papers, child), daemon=True
        )
        server.start()
        papers["port"] = parent.recv()
        for _ in range(runs):
            for row in rows:
                row.costs.append(_run(row.name, papers, source))
                _check_arrived(parent, records)
        server.terminate()
        server.join()
    _show(rows, console, load=load)
    judgements = judge(rows, SENDERS_REQUIRED) if records >= JUDGED_RECORDS else []
    show_judgements(judgements, console)
    passed = all(judgement.passed for judgement in judgements)
    report = {"load_before": load, "rows": [asdict(row) for row in rows]}
    return Outcome(lines_of(rows, SENDERS_REQUIRED, peers=_PEERS), passed, report)


def _show(rows: list[Row], console: Console, *, load: float) -> None:
    table = Table(box=MARKDOWN, title=f"To one TLS server; load {load:.1f}", title_justify="left")
    table.add_column("sender")
    for column in ("records", "records/s", "least", "most", "CPU µs a record"):
        table.add_column(column, justify="right")
    for row in rows:
        speeds = [speed(row), min(row.speeds), max(row.speeds)]
        table.add_row(row.name, f"{row.records:,}", *(f"{s:,.0f}" for s in speeds), f"{cpu_us(row):.2f}")
    console.print(table)


def _make_papers(folder: Path) -> dict[str, Any]:
    authority = Authority(folder)
    client = authority.issue("client")
    server = authority.issue("server", names=["localhost"])
    files = {"chain": authority.chain, "cert": client.cert, "key": client.key}
    files |= {"server_cert": server.cert, "server_key": server.key}
    return {name: str(path) for name, path in files.items()}


def _run(name: str, papers: dict[str, Any], source: Path) -> Cost:
    """What the sending alone took of a process that had read its records before."""
    job = json.dumps({"name": name, "source": str(source), "papers": papers})
    command = [sys.executable, "-m", "benchmarks.senders"]
    done = subprocess.run(command, input=job.encode(), stdout=subprocess.PIPE, check=True)
    return Cost(**json.loads(done.stdout))


def _check_arrived(server: Connection, records: int) -> None:
    arrived = 0
    until_s = time.monotonic() + _PATIENCE_S
    while arrived < records and time.monotonic() < until_s:
        if server.poll(0.1):
            arrived += server.recv()
    if arrived != records:
        raise SystemExit(f"{arrived} records arrived, not {records}")


def _serve(papers: dict[str, Any], parent: Connection) -> None:
    """Count the lines of one connection after the other, and tell each count."""
    _pin(-1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers["server_cert"], papers["server_key"])
    context.load_verify_locations(papers["chain"])
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    parent.send(listener.getsockname()[1])
    while True:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True) as connection:
            parent.send(_count_lines(connection))
            with suppress(OSError):
                connection.unwrap()


def _count_lines(connection: ssl.SSLSocket) -> int:
    """The lines up to the sender's end; a stream is plain, or gzip members throughout."""
    buffer = bytearray(256 * 1024)
    count = connection.recv_into(buffer)
    if buffer[:2] != b"\x1f\x8b":
        lines = 0
        while count:
            lines += buffer.count(b"\n", 0, count)
            count = connection.recv_into(buffer)
        return lines
    lines, inflate = 0, isal_zlib.decompressobj(31)
    while count:
        rest = bytes(buffer[:count])
        while rest:
            lines += inflate.decompress(rest).count(b"\n")
            rest = inflate.unused_data
            if inflate.eof:
                inflate = isal_zlib.decompressobj(31)
        count = connection.recv_into(buffer)
    return lines


def _make_records(count: int) -> list[bytes]:
    now = SystemClock().now()
    source = StampedRecords(count, started_at=now, tenant_id=_TENANT)
    return [made.body for made in source.records_between(now - timedelta(days=7), now)]


def _make_batches(records: list[bytes]) -> list[Batch]:
    """The records as the pipeline puts them together."""
    now = SystemClock().now()
    size = max(1, BATCH_BYTES * len(records) // max(1, sum(map(len, records))))
    batches: list[Batch] = []
    for start in range(0, len(records), size):
        cut = records[start : start + size]
        part = BatchPart(
            blob=BlobKey(start),
            feed=Feed(_TENANT, ContentType.EXCHANGE),
            received_at=now,
            records=cut,
            headers=[],
            tables=[_TABLE] * len(cut),
            missing_outputs=frozenset({"devo"}),
            pulling_id=1_795_000_000_000,
        )
        batches.append(Batch(len(batches) + 1, [part]))
    return batches


def _send_ours(records: list[bytes], papers: dict[str, Any], *, threshold: float) -> Callable[[], None]:
    config = DevoConfig(
        address="localhost",
        port=papers["port"],
        chain=papers["chain"],
        cert=papers["cert"],
        key=papers["key"],
        hostname=_HOST,
        threshold_for_using_gzip_in_transport_layer=threshold,
    )
    settings = DevoSection(type="devo_platform", config=config).named("devo")
    batches = _make_batches(records)

    async def send() -> None:
        output = DevoOutput(settings, clock=SystemClock(), random=system_random(1))
        await output.open(last_batch=0, position="")
        turns = asyncio.Semaphore(_OPEN_BATCHES)

        async def deliver(batch: Batch) -> None:
            await output.deliver(batch)
            turns.release()

        async with asyncio.TaskGroup() as tasks:
            for batch in batches:
                await turns.acquire()
                tasks.create_task(deliver(batch))
            await asyncio.sleep(0)
            await output.flush()
        await output.close()

    return lambda: asyncio.run(send())


def _send_sdk(records: list[bytes], papers: dict[str, Any], *, compressed: bool) -> Callable[[], None]:
    from devo.sender import Sender, SenderConfigSSL

    config = SenderConfigSSL(
        address=("localhost", papers["port"]), key=papers["key"], cert=papers["cert"], chain=papers["chain"]
    )

    def send() -> None:
        sender = Sender(config)
        sender.buffer.length = _SDK_BUFFER_BYTES
        sender.buffer.compression_level = 6
        options = {"date": b"2026-11-17 09:30:00.000", "hostname": _HOST.encode(), "zip": compressed}
        table = _TABLE.encode()
        for record in records:
            sender.send(table, record, **options)
        sender.flush_buffer()
        sender.close()

    return send


CONTENDERS: dict[str, Callable[[list[bytes], dict[str, Any]], Callable[[], None]]] = {
    "ours": lambda records, papers: _send_ours(records, papers, threshold=1.1),
    "ours, gzip": lambda records, papers: _send_ours(records, papers, threshold=-1.0),
    "devo-sdk": lambda records, papers: _send_sdk(records, papers, compressed=False),
    "devo-sdk, zip": lambda records, papers: _send_sdk(records, papers, compressed=True),
}
"""Each makes its records ready, and then gives the sending."""


def _pin(place: int) -> None:
    """Stay on one core, the first or the last one."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place]})


def _main() -> None:
    _pin(0)
    job = json.load(sys.stdin)
    send = CONTENDERS[job["name"]](Path(job["source"]).read_bytes().split(b"\n"), job["papers"])
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    send()
    cost = Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s, 0)
    print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    _main()
