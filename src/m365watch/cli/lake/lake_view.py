"""What the commands of `m365watch lake` show: progress, pages, documents."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import count, whole_line
from m365watch.cli.terminal.json_output import as_json, missing_document
from m365watch.common.clock import Clock
from m365watch.common.missing_files import recovery_of
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.lake.maintenance.compaction import Compacted
    from m365watch.lake.maintenance.integrity_check import Checked
    from m365watch.lake.maintenance.retention import Retained
    from m365watch.lake.maintenance.vacuum import Vacuumed
    from m365watch.runtime.lake_maintenance import Looked
    from m365watch.runtime.lake_repair import Repaired

SCHEMA = 1
LINES_MAX = 40
"""Tables and days shown to a person; JSON has all."""
_SHOW_AFTER_S = 1.0
_ON_TERMINAL_EVERY_S = 0.2
_IN_FILE_EVERY_S = 15.0
_CLEAR_LINE = "\r\x1b[K"


class ProgressLine:
    """Says on stderr how far work is: a line that changes on a terminal, lines now and then elsewhere."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is said in the first second."""
        self._clock = clock
        self._is_terminal = sys.stderr.isatty()
        self._next_at_s = clock.monotonic_s() + _SHOW_AFTER_S
        self._is_shown = False

    def __enter__(self) -> Self:
        """Be called for as long as the work lasts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line to others."""
        if self._is_shown and self._is_terminal:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()

    def __call__(self, what: str, done: int, total: int) -> None:
        """`done` of `total`."""
        now_s = self._clock.monotonic_s()
        if now_s < self._next_at_s:
            return
        self._is_shown = True
        line = f"{what}: {done:,} of {total:,}" if total > 1 else what
        sys.stderr.write(f"{_CLEAR_LINE}{line} ..." if self._is_terminal else f"{line}\n")
        sys.stderr.flush()
        self._next_at_s = now_s + (_ON_TERMINAL_EVERY_S if self._is_terminal else _IN_FILE_EVERY_S)


def megabytes(size_bytes: int) -> str:
    """`12.3 MB`; a small size is in kB."""
    return f"{size_bytes / 1e6:,.1f} MB" if abs(size_bytes) >= 1e6 else f"{size_bytes / 1e3:,.0f} kB"


def records_table(records: Mapping[tuple[str, date], int]) -> RenderableType:
    """A line for each table and its days: how many records."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("table", overflow="fold")
    table.add_column("days", no_wrap=True)
    table.add_column("records", justify="right", no_wrap=True)
    by_table: dict[str, list[tuple[date, int]]] = {}
    for (name, day), number in sorted(records.items()):
        by_table.setdefault(name, []).append((day, number))
    for name, days in list(by_table.items())[:LINES_MAX]:
        first, last = days[0][0].isoformat(), days[-1][0].isoformat()
        span = first if first == last else f"{first}..{last}"
        table.add_row(plain(name), span, f"{sum(number for _, number in days):,}")
    more = [Text(f"and {len(by_table) - LINES_MAX:,} more tables")] if len(by_table) > LINES_MAX else []
    return Group(table, *more)


def retained_page(found: Retained, *, dry_run: bool) -> RenderableType:
    """What went, or would go."""
    total = sum(found.records.values())
    if not total and not found.files_removed:
        return Text("nothing is older or more than the settings say")
    verb = "would go" if dry_run else "went"
    line = (
        f"{count(total, 'record')} {verb}: {count(found.files_removed, 'file')} taken out,"
        f" {found.files_rewritten:,} written anew"
    )
    if not dry_run:
        line += f"; {megabytes(found.bytes_removed)} less"
    left = [] if found.complete else [Text("something is left to do: repeat the command")]
    return Group(records_table(found.records), Text(line), *left)


def retained_document(found: Retained, *, dry_run: bool) -> str:
    """The same as JSON."""
    return as_json(
        {
            "schema": SCHEMA,
            "dry_run": dry_run,
            "complete": found.complete,
            "records": sum(found.records.values()),
            "files_removed": found.files_removed,
            "files_rewritten": found.files_rewritten,
            "bytes_removed": found.bytes_removed,
            "removed": _by_table_and_day(found.records),
        }
    )


def compacted_page(found: Iterable[Compacted]) -> RenderableType:
    """A line for each table."""
    return Group(
        *(
            Text(
                f"{one.table}: {count(one.merges, 'merge')}, {count(one.files_before, 'file')}"
                f" ({megabytes(one.bytes_before)}) became {one.files_after:,} ({megabytes(one.bytes_after)})"
                if one.merges
                else f"{one.table}: nothing to merge in {count(one.files_before, 'file')}"
            )
            for one in found
        )
    )


def compacted_document(found: Iterable[Compacted]) -> str:
    """The same as JSON."""
    return as_json(
        {
            "schema": SCHEMA,
            "tables": [
                {
                    "table": one.table,
                    "merges": one.merges,
                    "files_before": one.files_before,
                    "files_after": one.files_after,
                    "bytes_before": one.bytes_before,
                    "bytes_after": one.bytes_after,
                }
                for one in found
            ],
        }
    )


def vacuumed_page(found: Iterable[Vacuumed], *, keep_hours: int, dry_run: bool) -> RenderableType:
    """A line for each table."""
    verb = "would be removed" if dry_run else "removed"
    lines = [
        Text(f"{one.table}: {count(one.files, 'file')} {verb}, {megabytes(one.size_bytes)}") for one in found
    ]
    if keep_hours:
        lines.append(Text(f"kept: what was replaced less than {count(keep_hours, 'hour')} ago", style="dim"))
    return Group(*lines)


def vacuumed_document(found: Iterable[Vacuumed], *, keep_hours: int, dry_run: bool) -> str:
    """The same as JSON."""
    tables = [{"table": one.table, "files": one.files, "bytes": one.size_bytes} for one in found]
    return as_json({"schema": SCHEMA, "dry_run": dry_run, "keep_hours": keep_hours, "tables": tables})


def checked_page(found: Checked) -> RenderableType:
    """A line for each table, and one for each problem."""
    lines = []
    for one in found.tables:
        records = f"{count(one.files, 'file')}, {count(one.records, 'record')}"
        lines.append(Text(f"{one.table}: {records}, {megabytes(one.size_bytes)}"))
        if one.unnamed_files:
            replaced = count(one.unnamed_files, "replaced file")
            lines.append(Text(f"  {replaced} still on disk, {megabytes(one.unnamed_bytes)}"))
    shown = [whole_line(f"problem: {plain(problem)}") for problem in found.problems[:LINES_MAX]]
    hidden = found.problem_count - len(shown)
    more = [Text(f"and {hidden:,} more problems; --json names {len(found.problems):,}")] if hidden else []
    end = Text("nothing is wrong" if not found.problem_count else count(found.problem_count, "problem"))
    return Group(*lines, *shown, *more, end)


def checked_document(found: Checked) -> str:
    """The same as JSON."""
    return as_json(
        {
            "schema": SCHEMA,
            "problem_count": found.problem_count,
            "problems": found.problems,
            "tables": [
                {
                    "table": one.table,
                    "version": one.version,
                    "files": one.files,
                    "records": one.records,
                    "bytes": one.size_bytes,
                    "unnamed_files": one.unnamed_files,
                    "unnamed_bytes": one.unnamed_bytes,
                }
                for one in found.tables
            ],
        }
    )


def repaired_page(found: Repaired | None, output: str) -> RenderableType:
    """What is fetched again, and what needs a recovery."""
    if found is None:
        return Text("nothing is missing")
    pending, missing = found.pending, found.missing
    records = f"{count(missing.records, 'record')} of {missing.days}"
    lines = []
    if missing.files:
        files = count(missing.files, "missing file")
        lines.append(whole_line(f"{files} removed from the table: {records}"))
    if pending.blobs_pending:
        blobs = count(pending.blobs_pending, "blob")
        lines.append(whole_line(f"{blobs} to be fetched again for output {output}: start `m365watch run`"))
    if found.unserved:
        unserved = count(found.unserved, "record")
        lines.append(whole_line(f"error: the feed of Microsoft does not serve {unserved} of them any more"))
        lines.append(whole_line(f"hint: `{recovery_of(output, missing)}` fetches them from the audit search"))
    return Group(*lines)


def repaired_document(found: Repaired | None) -> str:
    """The same as JSON."""
    return as_json(
        {
            "schema": SCHEMA,
            "missing": missing_document(None if found is None else found.missing),
            "blobs_pending": found.pending.blobs_pending if found else 0,
            "records_pending": found.pending.records_pending if found else 0,
            "records_unserved": found.unserved if found else 0,
        }
    )


def found_page(found: Looked) -> RenderableType:
    """What there is to erase."""
    beside = _beside(asdict(found.detections), found.notifications, verb="to erase")
    lake = found.lake
    if not lake.total:
        return Group(Text(f"no record in {count(lake.files_read, 'file')} is the person's"), *beside)
    line = f"{count(lake.total, 'record')} in {lake.files:,} of {count(lake.files_read, 'file')}"
    return Group(records_table(lake.records), Text(line), *beside)


def _beside(detections: Mapping[str, int], notifications: int, *, verb: str) -> list[RenderableType]:
    """What of the person is not in the lake."""
    lines: list[RenderableType] = []
    if detections["alerts"] or detections["matches"]:
        matches = count(detections["matches"], "match", "matches")
        lines.append(
            whole_line(f"{count(detections['alerts'], 'alert')} and {matches} {verb} from the detections")
        )
    if detections["reasons"]:
        whose = count(detections["reasons"], "other alert")
        lines.append(whole_line(f"the reason given for {whose} {verb} with them"))
    if notifications:
        places = count(notifications, "place")
        lines.append(whole_line(f"{places} {verb} from what is to be told, or was, of alerts"))
    return lines


def found_document(found: Looked) -> str:
    """The same as JSON."""
    lake = found.lake
    return as_json(
        {
            "schema": SCHEMA,
            "dry_run": True,
            "records": lake.total,
            "files": lake.files,
            "files_read": lake.files_read,
            "records_read": lake.rows_read,
            "found": _by_table_and_day(lake.records),
            "detections": asdict(found.detections),
            "notifications": found.notifications,
        }
    )


def erased_page(report: Mapping[str, Any], path: Path) -> RenderableType:
    """What was erased, what was verified, and what is left elsewhere."""
    verified = report["verification"]
    erased = {(one["table"], date.fromisoformat(one["day"])): one["records"] for one in report["erased"]}
    clean = "none is left" if verified["clean"] else "NOT ALL ARE GONE"
    lines: list[RenderableType] = [
        whole_line(
            f"{count(report['records_erased'], 'record')} erased from"
            f" {count(report['files_replaced'], 'file')};"
            f" {clean} in {count(verified['records_read'], 'record')} read again"
        )
    ]
    lines += _beside(report["detections_erased"], report["notifications_erased"], verb="erased")
    if verified["records_remaining"] or verified["older_files_remaining"]:
        lines.append(whole_line("records remain: repeat the command"))
    if waiting := verified["records_waiting_for_the_lake"]:
        waits = count(waiting, "record")
        lines.append(
            whole_line(f"{waits} of the person on the way to it: repeat it when they were delivered")
        )
    if verified["young_files_remaining"]:
        lines.append(whole_line("a crash left files that are too young to remove: repeat it in two hours"))
    if verified["records_arrived_since"]:
        arrived = count(verified["records_arrived_since"], "record")
        lines.append(
            whole_line(f"{arrived} of the person arrived meanwhile and stay: repeat it to erase them")
        )
    if report["records_erased"]:
        marks = report["marks"]
        lines.append(whole_line(f"none comes back to this lake; marks until {marks['kept_until']} in"))
        lines.append(whole_line(f"  {plain(marks['folder'])}"))
    lines.append(whole_line("elsewhere:", style="dim"))
    for one in report["elsewhere"]:
        named = sum(file["records"] > 0 for file in one["files"])
        number = "" if one["records"] is None else f"{one['records']:,} found"
        number += f" in {count(named, 'file')}; " if named else "; " if number else ""
        says = "" if number and one["says"] == "none" else one["says"]
        lines += [
            whole_line(f"  {plain(one['place'])}"),
            Padding(Text((number + says).removesuffix("; ")), (0, 0, 0, 4), expand=False),
        ]
    return Group(records_table(erased), *lines, whole_line(f"report: {path}"))


def _by_table_and_day(records: Mapping[tuple[str, date], int]) -> list[dict[str, Any]]:
    return [
        {"table": table, "day": day.isoformat(), "records": number}
        for (table, day), number in sorted(records.items())
    ]
