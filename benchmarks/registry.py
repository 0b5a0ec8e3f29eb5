"""Every benchmark of the project by its name, as `./dev bench NAME` calls it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.figures import JUDGED_RECORDS, RECORDS
from benchmarks.outcome import Outcome

if TYPE_CHECKING:
    from benchmarks.contenders import Tree

_QUICK_RECORDS = 2_000


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Something that can be measured."""

    says: str
    minutes: float
    """On 2 quiet cores."""
    measure: Callable[[Namespace, Console], Outcome]
    """Given the command line's options. What it needs it loads itself: Devo's sender is not everywhere."""


def _records(options: Namespace, judged: int = JUDGED_RECORDS) -> int:
    return int(options.records or (_QUICK_RECORDS if options.quick else judged))


def _collector(options: Namespace, console: Console) -> Outcome:
    from benchmarks.collector import compare

    return compare(
        records=_records(options, RECORDS),
        runs=options.runs,
        only=options.only,
        console=console,
        against=_against(options),
    )


def _small(options: Namespace, console: Console) -> Outcome:
    from benchmarks.collector import compare

    return compare(
        records=_records(options, RECORDS),
        runs=options.runs,
        only=["plain", "files", "lake", "lake, detections"],
        console=console,
        blob_records=5,
        against=_against(options),
    )


def _start(options: Namespace, console: Console) -> Outcome:
    from benchmarks.start import STARTS, measure_starts

    starts = 1 if options.quick else STARTS * options.runs
    return measure_starts(starts=starts, against=_against(options), console=console)


def _against(options: Namespace) -> Tree | None:
    from benchmarks.contenders import Tree

    return Tree(options.against.resolve()) if options.against else None


def _growth(options: Namespace, console: Console) -> Outcome:
    from benchmarks.growth import RECORDS, show_growth

    sizes = [_QUICK_RECORDS, 10 * _QUICK_RECORDS] if options.quick else RECORDS
    return show_growth(records=sizes, runs=1, console=console)


def _tenants(options: Namespace, console: Console) -> Outcome:
    from benchmarks.growth import TENANTS, show_tenants_growth

    tenants = TENANTS[:2] if options.quick else TENANTS
    return show_tenants_growth(records=_records(options), tenants=tenants, runs=1, console=console)


def _lag(options: Namespace, console: Console) -> Outcome:
    from benchmarks.lag import TENANTS, show_lag

    tenants = 5 if options.quick else TENANTS
    return show_lag(tenants=tenants, seconds=options.seconds, console=console)


def _parts(options: Namespace, console: Console) -> Outcome:
    from benchmarks.parts import IDS, RECORDS, show_parts

    ids = (_QUICK_RECORDS,) if options.quick else IDS
    return show_parts(records=_records(options, RECORDS), ids=ids, console=console)


def _senders(options: Namespace, console: Console) -> Outcome:
    from benchmarks.senders import compare_senders

    return compare_senders(records=_records(options), runs=options.runs, console=console)


def _detect(options: Namespace, console: Console) -> Outcome:
    from benchmarks.detection import show_detection

    return show_detection(records=_records(options), runs=options.runs, console=console)


def _dedup(options: Namespace, console: Console) -> Outcome:
    from benchmarks.dedup import IDS, show_dedup

    return show_dedup(ids=_records(options, IDS), console=console)


def _silence(_options: Namespace, console: Console) -> Outcome:
    from benchmarks.silence import show_silence

    return show_silence(console)


def _upkeep(options: Namespace, console: Console) -> Outcome:
    from benchmarks.upkeep import RECORDS, show_upkeep

    return show_upkeep(records=_records(options, RECORDS), console=console)


def _board(options: Namespace, console: Console) -> Outcome:
    from benchmarks.board import RECORDS, show_board

    return show_board(
        records=_records(options, RECORDS), folder=options.lake, pages=options.page, console=console
    )


BENCHMARKS: Mapping[str, Benchmark] = {
    "collector": Benchmark("whole runs beside a plain downloader and Tenzir", 15, _collector),
    "small": Benchmark("whole runs with blobs of 5 records in place of 100", 60, _small),
    "start": Benchmark("`run` until its first request, and `--help`", 1, _start),
    "growth": Benchmark("whole runs of 100,000 to 10,000,000 records", 9, _growth),
    "tenants": Benchmark("as many records from 1 to 500 tenants", 4, _tenants),
    "lag": Benchmark("500 tenants in one process, one throttled and one poisoned", 7, _lag),
    "parts": Benchmark("the parts of a record's way alone", 1, _parts),
    "senders": Benchmark("what sends to Devo, beside Devo's own sender", 1, _senders),
    "detect": Benchmark("200 rules over the records, beside a naive loop and SQL", 1, _detect),
    "dedup": Benchmark("the store of identities, with 50,000,000 of them", 4, _dedup),
    "silence": Benchmark("how often the silence alarm is wrong in six weeks", 2, _silence),
    "upkeep": Benchmark("each verb that looks after a lake", 4, _upkeep),
    "board": Benchmark("every page over 20,000,000 records; its lake takes 5 GB", 10, _board),
}
