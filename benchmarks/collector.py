"""Whole runs of the collector beside a plain downloader and a Tenzir pipeline, from the same service."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contenders import CONTENDERS, Contender, Tree, product
from benchmarks.figures import (
    JUDGED_RECORDS,
    REQUIREMENTS,
    Judgement,
    Requirement,
    Row,
    cpu_us,
    judge,
    peak_mb,
    show_judgements,
    show_rows,
    speed,
)
from benchmarks.measuring import CommandFailed, Cost, run_measured
from benchmarks.outcome import Line, Outcome, asked_of, missed_of, shown
from benchmarks.service import BLOB_RECORDS, Service, service_running

_PEERS = {"files": ("plain", "tenzir"), "lake": ("plain",), "lake, detections": ("lake",)}
"""Beside whom a contender's speed is shown."""


@dataclass(slots=True)
class Report:
    """Everything that was measured, as --json prints it."""

    python: str = field(default_factory=platform.python_version)
    machine: str = field(default_factory=platform.platform)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    """Who waits for a core while nothing is measured; a quiet machine has less than 0.3."""
    services: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)


def compare(
    *,
    records: int,
    runs: int,
    only: Sequence[str],
    console: Console,
    blob_records: int = BLOB_RECORDS,
    against: Tree | None = None,
) -> Outcome:
    """Every contender that is here, or of them `only` some; few records are judged by nobody.

    The collector of another checkout, `against`, takes its turn after each of ours. The required figures
    are those of blobs of the usual length.

    Raises: CommandFailed: one failed, or did not deliver every record once.
    """
    report = Report()
    wanted = [contender for contender in CONTENDERS if not only or contender.name in only]
    peers = dict(_PEERS)
    if against is not None:
        theirs = dict(zip((one.name for one in product()), product(against), strict=True))
        wanted = [each for one in wanted for each in (one, theirs.get(one.name)) if each is not None]
        peers |= {name: (*_PEERS[name], other.name) for name, other in theirs.items()}
    present = [contender for contender in wanted if contender.is_here]
    missing = [contender.name for contender in wanted if not contender.is_here]
    is_judged = records >= JUDGED_RECORDS
    requirements = REQUIREMENTS if blob_records == BLOB_RECORDS else ()
    with service_running(records, blob_records=blob_records) as service:
        report.services.append(tell(service, console))
        report.rows += measure(present, service, runs=runs, warm_ups=1 if is_judged else 0)
    show_rows(report.rows, console, missing=missing)
    if not is_judged:
        console.print(f"fewer than {JUDGED_RECORDS:,} records: no figure is judged")
    else:
        report.judgements = judge(report.rows, requirements)
        show_judgements(report.judgements, console)
    passed = all(judgement.passed for judgement in report.judgements)
    lines = lines_of(report.rows, requirements, peers=peers)
    for line in lines if against else ():
        console.print(f"{line.case}: {line.speed}" + (f", {line.ratio}" if line.ratio else ""))
    return Outcome(lines, passed, asdict(report))


def lines_of(
    rows: Sequence[Row], requirements: Sequence[Requirement], *, peers: Mapping[str, Sequence[str]]
) -> tuple[Line, ...]:
    """A line of the one table for each row, beside its peers' rows; few records are not judged."""
    by_name = {row.name: row for row in rows}
    beside = {row.name: [one for one in rows if one.name in peers.get(row.name, ())] for row in rows}
    return tuple(_line_of(row, by_name, requirements, beside[row.name]) for row in rows)


def _line_of(
    row: Row, by_name: Mapping[str, Row], requirements: Sequence[Requirement], peers: Sequence[Row]
) -> Line:
    own = [one for one in requirements if one.name == row.name and row.records >= JUDGED_RECORDS]
    judgements = [one.judged(by_name) for one in own]
    return Line(
        row.name,
        speed=f"{speed(row):,.0f} records/s",
        ratio=", ".join(f"{shown(speed(row) / speed(peer))} of {peer.name}" for peer in peers),
        cpu_us=cpu_us(row),
        peak_mb=peak_mb(row) or None,
        asked=asked_of(judgements),
        missed=missed_of(judgements),
    )


def tell(service: Service, console: Console) -> dict[str, Any]:
    """Say what is served and how busy the machine is; the figures."""
    figures = {
        "records": service.records,
        "blobs": service.blobs,
        "record_bytes": service.record_bytes,
        "compression": service.compression,
    }
    console.print(
        f"{service.records:,} records of {service.record_bytes:,} bytes in {service.blobs:,} blobs,"
        f" compressed {service.compression} times; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    return figures


def measure(
    contenders: Sequence[Contender], service: Service, *, runs: int, warm_ups: int, prefix: str = ""
) -> list[Row]:
    """Every contender `runs` times, taking turns, after so many turns that do not count.

    Raises: CommandFailed: one failed, or did not deliver every record once.
    """
    rows = [Row(prefix + contender.name, service.records) for contender in contenders]
    for turn in range(warm_ups + runs):
        for contender, row in zip(contenders, rows, strict=True):
            start = run(contender, service.empty, records=0)
            cost = run(contender, service.full, records=service.records)
            if turn >= warm_ups:
                row.starts.append(start)
                row.costs.append(cost)
    return rows


def run(contender: Contender, inputs: dict[str, Any], *, records: int) -> Cost:
    """The cost of a run that delivered `records` different records, each once.

    They are counted by another process, so that this one stays small: a child's peak memory
    begins with its parent's.
    """
    with tempfile.TemporaryDirectory(prefix="m365watch-bench-") as name:
        directory = Path(name)
        cost = run_measured(contender.command(inputs, directory))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as counting:
            delivered = counting.submit(contender.count, directory).result()
    if not delivered.records == delivered.ids == records:
        what = f"{delivered.records} records with {delivered.ids} ids, not {records}"
        raise CommandFailed(f"{contender.name} delivered {what}")
    return cost
