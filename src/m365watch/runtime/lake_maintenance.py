"""The upkeep of a lake by hand, from the settings: what `m365watch lake` does.

Every verb but the reading ones keeps other upkeep of the same lake out while it works, and works beside a
running collector.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from m365watch.common.atomic_files import put_file
from m365watch.common.clock import Clock
from m365watch.common.errors import (
    LakeUnusable,
    LedgerUnusable,
    OutputUnavailable,
    OutputUnusable,
    SettingsRefused,
)
from m365watch.common.timestamps import ms_of
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts.lake_sync import number_brought
from m365watch.detection.alerts.triage import opened
from m365watch.detection.detection_output import FILE_NAME as DETECTIONS_FILE
from m365watch.detection.store.alert_table import alerts_app_id
from m365watch.detection.store.detection_erasure import FAR_MS, Forgotten, Naming, find_named, forget_named
from m365watch.health.collector_status import acknowledged_in
from m365watch.lake.delta.missing_commits import Standing, standing_of
from m365watch.lake.delta.table_files import (
    WAIT_FOR_LAKE_S,
    Progress,
    hold_lake,
    no_lake,
    require_batches,
    require_lake,
    require_open,
)
from m365watch.lake.erasure.erasure_journal import Asked, unfinished
from m365watch.lake.erasure.person_matching import Person
from m365watch.lake.erasure.record_erasure import Erased, Erasure, Found, Verified
from m365watch.lake.erasure.tombstones import FOLDER as MARKS_FOLDER
from m365watch.lake.erasure.tombstones import KEPT, drop_old_marks
from m365watch.lake.maintenance.compaction import Compacted, compact
from m365watch.lake.maintenance.integrity_check import (
    Account,
    Checked,
    cause_of,
    check_account,
    check_alerts,
    check_lake,
    last_batch_of,
)
from m365watch.lake.maintenance.retention import Retained, retain
from m365watch.lake.maintenance.vacuum import Vacuumed, vacuum
from m365watch.lake.schema import AUDIT
from m365watch.lake.store import table_store
from m365watch.lake.writer.table_writer import WRITE_FAILURES
from m365watch.ledger.queries import ledger_for_reading, output_account
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.notifications.notification_database import FILE_NAME as NOTIFICATIONS_FILE
from m365watch.notifications.notification_erasure import count_told, forget_told
from m365watch.outputs.lake.lake_output import app_id_of
from m365watch.outputs.lake.spec import LakeSection
from m365watch.runtime.personal_data_search import Elsewhere, count_waiting, search_elsewhere
from m365watch.storage.database import DatabaseError

REPORTS_FOLDER = "erasures"
"""Below the lake: a report for each erasure."""
REPORT_SCHEMA = 1


def choose_lake(settings: Settings, name: str | None) -> LakeSection:
    """The lake that is meant: the one there is, or that of the output `name`.

    Raises: SettingsRefused: there is none, or several and none is named.
    """
    lakes = {one.name: one for one in settings.outputs if isinstance(one, LakeSection)}
    if name is None and len(lakes) == 1:
        return next(iter(lakes.values()))
    if name in lakes:
        return lakes[name]
    if not lakes:
        mistake = "no output is a lake"
    elif name is None:
        mistake = "which of the lakes is meant is not clear"
    else:
        is_there = any(one.name == name for one in settings.outputs)
        mistake = f"--output {name}: " + ("is no lake" if is_there else "no output is called so")
    fix = f"name one with --output: {', '.join(lakes)}" if lakes else "add an output of type lake"
    raise SettingsRefused([mistake], where=str(settings.path), fix=fix)


@contextmanager
def holding_lake(settings: Settings, lake: LakeSection, clock: Clock) -> Iterator[Path]:
    """The lake's directory, for this process alone; failures come out as errors that a person can read.

    Raises: LakeMissing; LakeHeld; LakeUnusable: a batch that the ledger knows is missing, for example.
    """
    with _named(lake):
        require_lake(lake.folder)
        acknowledged = acknowledged_in(settings, lake.folder)
        with hold_lake(lake.folder, clock=clock, acknowledged=acknowledged, wait_s=WAIT_FOR_LAKE_S):
            yield lake.folder


@contextmanager
def _named(lake: LakeSection) -> Iterator[None]:
    try:
        yield
    except WRITE_FAILURES as failure:
        cause = cause_of(lake.folder, failure)
        raise LakeUnusable(
            f"it cannot be read or written: {cause.what}",
            fix=f"{cause.fix}; then repeat the command: what was done stays done",
            where=str(lake.folder),
        ) from failure


def compact_lake(
    settings: Settings, lake: LakeSection, *, clock: Clock, progress: Progress
) -> list[Compacted]:
    """Merge all small files. Raises: LakeMissing; LakeHeld; LakeUnusable."""
    with holding_lake(settings, lake, clock) as directory:
        return compact(directory, clock=clock, progress=progress)


def vacuum_lake(
    settings: Settings,
    lake: LakeSection,
    *,
    keep_hours: int,
    dry_run: bool,
    clock: Clock,
    progress: Progress,
) -> list[Vacuumed]:
    """Remove files that were replaced long ago. Raises: LakeMissing; LakeHeld; LakeUnusable."""
    with holding_lake(settings, lake, clock) as directory:
        if not dry_run:
            drop_old_marks(directory, now=clock.now())
        return vacuum(directory, keep_hours=keep_hours, dry_run=dry_run, clock=clock, progress=progress)


def retain_lake(
    settings: Settings, lake: LakeSection, *, dry_run: bool, clock: Clock, progress: Progress
) -> Retained:
    """Take out what the settings say. Raises: LakeMissing; LakeHeld; LakeUnusable."""
    with holding_lake(settings, lake, clock) as directory:
        return retain(directory, lake.config.retention, clock=clock, progress=progress, dry_run=dry_run)


def check_whole_lake(
    settings: Settings, lake: LakeSection, *, reads_all: bool, progress: Progress
) -> Checked:
    """Look whether the lake is whole, and in step with the ledger. Raises: LakeMissing; LakeUnusable.

    One that is gone is a problem like others, and its other tables are looked at.
    """
    app_id = app_id_of(lake.name, settings.collector_name)
    brought = _alerts_brought(settings, lake)
    path = settings.state_directory / LEDGER_FILE
    with _named(lake):
        # The ledger first and last: beside a running collector both only grow, and the lake is ahead.
        require_open(lake.folder)
        before = _account(path, lake.name)
        is_acknowledged = not isinstance(before, LedgerUnusable) and before[0] > 0
        standing = standing_of(table_store(lake.folder, AUDIT), is_acknowledged=is_acknowledged)
        if standing is Standing.NEW:
            raise no_lake(lake.folder)
        in_lake = last_batch_of(lake.folder, app_id)
        after = _account(path, lake.name)
        found = check_lake(
            lake.folder, reads_all=reads_all, progress=progress, is_acknowledged=is_acknowledged
        )
    check_alerts(found, lake.folder, alerts_app_id(lake.name, settings.collector_name), brought=brought)
    if isinstance(before, LedgerUnusable):
        found.add(f"{path}: {before.what}, so that batches were not compared: {before.fix}")
    elif isinstance(after, LedgerUnusable):
        found.add(f"{path}: {after.what}, so that batches were not compared: {after.fix}")
    elif in_lake is not None and standing is Standing.THERE:
        check_account(found, Account(app_id, before[0], after[1]), in_lake=in_lake)
    return found


def _alerts_brought(settings: Settings, lake: LakeSection) -> int:
    try:
        with opened(settings.state_directory / DETECTIONS_FILE) as state:
            return max(number_brought(state, lake.name), 0)
    except OutputUnusable:
        return 0


def _account(path: Path, output: str) -> tuple[int, int] | LedgerUnusable:
    """The last batch that the output has, and the last number ever given; or why nobody can say."""
    try:
        with ledger_for_reading(path) as connection:
            return output_account(connection, output)
    except LedgerUnusable as failure:
        return failure


def asked_before(lake: LakeSection) -> Asked | None:
    """What an interrupted erasure was to erase. Raises: LakeUnusable."""
    note = unfinished(lake.folder)
    return None if note is None else note.opened.asked


@dataclass(frozen=True, slots=True)
class Looked:
    """What there is to erase."""

    lake: Found
    detections: Forgotten
    notifications: int
    """Places of that file which name the person."""


def look_for(
    settings: Settings, lake: LakeSection, asked: Asked, *, clock: Clock, progress: Progress
) -> Looked:
    """What there is to erase; changes nothing.

    Raises: LakeMissing; LakeUnusable; OutputUnavailable; OutputUnusable: a file of alerts is damaged.
    """
    with _named(lake):
        require_lake(lake.folder)
        require_batches(lake.folder, acknowledged_in(settings, lake.folder))
        found = Erasure(lake.folder, asked, clock=clock, progress=progress).look()
    naming = _naming(asked, Person(asked.names, anywhere=True))
    path = settings.state_directory / DETECTIONS_FILE
    try:
        detections = find_named(path, naming)
        path = settings.state_directory / NOTIFICATIONS_FILE
        told = count_told(path, naming.names, low_ms=naming.low_ms, high_ms=naming.high_ms)
    except DatabaseError as error:
        what = f"it cannot be read, to say what of the person is in it: {error}"
        raise OutputUnavailable(what, where=str(path)) from None
    return Looked(found, detections, told)


def erase(
    settings: Settings, lake: LakeSection, asked: Asked, *, clock: Clock, progress: Progress
) -> tuple[dict[str, Any], Path]:
    """Erase a person's records; the report, and where it was written.

    Raises: LakeMissing; LakeHeld; ErasureOpen; LakeUnusable: to be repeated; so is it after OutputUnusable.
    """
    with holding_lake(settings, lake, clock) as directory:
        person = Person(asked.names, anywhere=True)
        # First, while the lake is held: what is gone here is brought there no more.
        naming = _naming(asked, person)
        told = forget_told(
            settings.state_directory / NOTIFICATIONS_FILE,
            naming.names,
            low_ms=naming.low_ms,
            high_ms=naming.high_ms,
        )
        forgotten = forget_named(settings.state_directory / DETECTIONS_FILE, naming)
        erasure = Erasure(directory, asked, clock=clock, progress=progress)
        erased = erasure.run()
        elsewhere = search_elsewhere(settings, lake, person, progress=progress)
        waiting = count_waiting(settings, lake, Person(asked.names, anywhere=asked.anywhere))
        # Only now: what has left the queue meanwhile is in the lake.
        erasure.look_again(erased)
        report = erasure_report(erased, asked, elsewhere, lake=lake, waiting=waiting)
        report["detections_erased"] = asdict(forgotten)
        report["notifications_erased"] = told
        path = _write_report(directory / REPORTS_FOLDER, report, started_at=erased.started_at)
        erasure.close()
    return report, path


def _naming(asked: Asked, person: Person) -> Naming:
    low_ms = 0 if asked.start is None else ms_of(asked.start)
    high_ms = FAR_MS if asked.end is None else ms_of(asked.end)
    return Naming(person.is_mentioned, low_ms, high_ms)


def erasure_report(
    erased: Erased, asked: Asked, elsewhere: list[Elsewhere], *, lake: LakeSection, waiting: int
) -> dict[str, Any]:
    """What was asked, done, verified and left, without a record; the names are those that were asked for.

    `waiting` records of the person are on their way to the lake.
    """
    return {
        "schema": REPORT_SCHEMA,
        "lake": str(lake.folder),
        "asked": {
            "users": list(asked.names),
            "mentions": asked.anywhere,
            "from": _instant(asked.start),
            "to": _instant(asked.end),
        },
        "started_at": _instant(erased.started_at),
        "finished_at": _instant(erased.finished_at),
        "resumed": erased.was_resumed,
        "records_erased": sum(erased.records.values()),
        "erased": [
            {"table": table, "day": day.isoformat(), "records": count}
            for (table, day), count in sorted(erased.records.items())
        ],
        "files_replaced": erased.files_replaced,
        "files_rewritten": erased.files_rewritten,
        "files_removed_from_disk": erased.files_removed,
        "verification": _verification(erased.verified) | {"records_waiting_for_the_lake": waiting},
        "elsewhere": [
            {
                "place": one.place,
                "kind": one.kind,
                "searched": one.searched,
                "records": one.records,
                "says": one.says,
                "files": [
                    {"path": str(file.path), "records": file.records, "whole": file.is_whole}
                    for file in one.files
                ],
            }
            for one in elsewhere
        ],
        "marks": {
            "folder": str(lake.folder / MARKS_FOLDER),
            "kept_until": (erased.started_at + KEPT).date().isoformat(),
        },
        "coming_back": (
            "a mark of each erased record is kept beside the lake: until then neither `m365watch recover` nor"
            " a run with a lost ledger brings one back to it; with a lost ledger, outputs that cannot be"
            " asked what they have get again what Microsoft still serves; copies of the lake are not marked"
        ),
    }


def _verification(verified: Verified) -> dict[str, Any]:
    return {
        "clean": verified.is_clean,
        "files_read": verified.files_read,
        "records_read": verified.rows_read,
        "records_remaining": verified.remaining,
        "records_arrived_since": verified.arrived,
        "older_files_remaining": verified.old_files,
        "young_files_remaining": verified.young_files,
    }


def _write_report(folder: Path, report: dict[str, Any], *, started_at: datetime) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"erasure-{started_at:%Y%m%dT%H%M%S%fZ}.json"
    put_file(path, (json.dumps(report, ensure_ascii=False, indent=2).encode(), b"\n"))
    return path


def _instant(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
