"""`python -m benchmarks`: measure, show, and exit 1 if a required figure is missed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.figures import (
    GROWN,
    GROWTH_REQUIREMENTS,
    JUDGED_RECORDS,
    REQUIREMENTS,
    Judgement,
    Requirement,
    Row,
    judge,
    show_judgements,
    show_parts,
    show_rows,
)
from benchmarks.measuring import CommandFailed, Cost, run_measured
from benchmarks.parts import PartFigure, measure_parts
from benchmarks.service import Service, service_running

_QUICK_RECORDS = 2_000
_GROWTH = 10
_GROWING = ("files", "lake")


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
    parts: list[PartFigure] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 all is well; 1 a figure was missed, or a contender failed or lost records."""
    options = _parser().parse_args(arguments)
    if options.senders:
        from benchmarks.senders import compare_senders

        return compare_senders(records=options.records, runs=options.runs, as_json=options.json)
    if options.detect:
        from benchmarks.detection import show_detection

        return show_detection(records=options.records, runs=options.runs, as_json=options.json)
    if options.tenants:
        from benchmarks.tenants import show_tenants

        return show_tenants(tenants=options.tenants, seconds=options.seconds, as_json=options.json)
    if options.board:
        from benchmarks.board import RECORDS, show_board

        records = RECORDS if options.records == JUDGED_RECORDS else options.records
        return show_board(
            records=records, folder=options.lake, pages=options.page or (), as_json=options.json
        )
    if options.dedup:
        from benchmarks.dedup import show_dedup

        return show_dedup(ids=options.ids, as_json=options.json)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # As ./dev does: each start would compile anew.
    console = Console(stderr=options.json)
    report = Report()
    try:
        _compare(options, report, console)
    except CommandFailed as failure:
        console.print(str(failure), style="red", markup=False)
        return 1
    if options.parts:
        report.parts = list(measure_parts())
        show_parts(report.parts, console)
    if options.json:
        print(json.dumps(asdict(report), indent=1))
    return 0 if all(judgement.passed for judgement in report.judgements) else 1


def _compare(options: argparse.Namespace, report: Report, console: Console) -> None:
    records = _QUICK_RECORDS if options.quick else options.records
    wanted = [contender for contender in CONTENDERS if not options.only or contender.name in options.only]
    present = [contender for contender in wanted if contender.is_here]
    missing = [contender.name for contender in wanted if not contender.is_here]
    requirements: tuple[Requirement, ...] = REQUIREMENTS
    with service_running(records) as service:
        _tell(service, report, console)
        report.rows += measure(present, service, runs=options.runs, warm_ups=0 if options.quick else 1)
    if options.growth:
        growing = [contender for contender in present if contender.name in _GROWING]
        requirements += GROWTH_REQUIREMENTS
        with service_running(records * _GROWTH) as service:
            _tell(service, report, console)
            report.rows += measure(growing, service, runs=1, warm_ups=0, prefix=GROWN)
    show_rows(report.rows, console, missing=missing)
    if records < JUDGED_RECORDS:
        console.print(f"fewer than {JUDGED_RECORDS:,} records: no figure is judged")
        return
    report.judgements = judge(report.rows, requirements)
    show_judgements(report.judgements, console)


def _tell(service: Service, report: Report, console: Console) -> None:
    figures = {
        "records": service.records,
        "blobs": service.blobs,
        "record_bytes": service.record_bytes,
        "compression": service.compression,
    }
    report.services.append(figures)
    console.print(
        f"{service.records:,} records of {service.record_bytes:,} bytes in {service.blobs:,} blobs,"
        f" compressed {service.compression} times; {report.cores} cores, load {report.load_before:.1f}"
    )


def measure(
    contenders: Sequence[Contender], service: Service, *, runs: int, warm_ups: int, prefix: str = ""
) -> list[Row]:
    """Every contender `runs` times, taking turns, after so many turns that do not count.

    Raises: CommandFailed: one failed, or did not deliver every record once.
    """
    rows = [Row(prefix + contender.name, service.records) for contender in contenders]
    for turn in range(warm_ups + runs):
        for contender, row in zip(contenders, rows, strict=True):
            start = _run(contender, service.empty, records=0)
            cost = _run(contender, service.full, records=service.records)
            if turn >= warm_ups:
                row.starts.append(start)
                row.costs.append(cost)
    return rows


def _run(contender: Contender, source: dict[str, Any], *, records: int) -> Cost:
    """The cost of a run that delivered `records` different records, each once.

    They are counted by another process, so that this one stays small: a child's peak memory
    begins with its parent's.
    """
    with tempfile.TemporaryDirectory(prefix="m365watch-bench-") as name:
        directory = Path(name)
        cost = run_measured(contender.command(source, directory))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as counting:
            delivered = counting.submit(contender.count, directory).result()
    if not delivered.records == delivered.ids == records:
        what = f"{delivered.records} records with {delivered.ids} ids, not {records}"
        raise CommandFailed(f"{contender.name} delivered {what}")
    return cost


def _count(text: str) -> int:
    """A number; 2M is two million."""
    return int(float(text[:-1]) * 1e6) if text[-1:] in "mM" else int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--records", type=_count, default=JUDGED_RECORDS, help="served by the service")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each contender")
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=[contender.name for contender in CONTENDERS]
    )
    parser.add_argument("--quick", action="store_true", help="few records, no warm-up, nothing judged")
    parser.add_argument("--senders", action="store_true", help="what sends to Devo, and nothing else")
    parser.add_argument("--detect", action="store_true", help="200 rules over the records, and nothing else")
    parser.add_argument("--dedup", action="store_true", help="the store of identities, and nothing else")
    parser.add_argument(
        "--board", action="store_true", help="the board's pages over 20 million records, nothing else"
    )
    parser.add_argument("--lake", type=Path, metavar="FOLDER", help="where the board's lake is, or is made")
    parser.add_argument("--page", action="append", metavar="NAME", help="of the board's pages only these")
    parser.add_argument("--ids", type=int, default=50_000_000, help="identities that it holds then")
    parser.add_argument(
        "--tenants",
        type=int,
        nargs="?",
        const=500,
        metavar="N",
        help="many tenants in one process, nothing else",
    )
    parser.add_argument("--seconds", type=float, default=150.0, help="how long they are looked at, twice")
    parser.add_argument("--growth", action="store_true", help="files and lake with ten times as many, too")
    parser.add_argument("--parts", action="store_true", help="the house's parts alone, too")
    parser.add_argument("--json", action="store_true", help="everything as JSON on stdout, tables on stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
