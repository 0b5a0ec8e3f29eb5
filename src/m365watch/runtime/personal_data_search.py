"""What outside a lake may still hold a person's records, place by place.

What m365watch itself filled and can read is searched, wherever in a record a name stands and whenever the
record is from; everything else is named. Nothing is changed.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_plus

import msgspec
import zstandard

from m365watch.common.errors import LakeUnusable, LedgerUnusable, OutputUnusable
from m365watch.config.models.settings import Settings
from m365watch.detection.detection_output import FILE_NAME as DETECTIONS_FILE
from m365watch.detection.store.detection_erasure import Naming, find_named
from m365watch.lake.audit_trail_table import count_deeds
from m365watch.lake.delta.table_files import Progress
from m365watch.lake.erasure.person_matching import Person
from m365watch.lake.schema import BOARD_TRAIL, OUTBOX_FILE
from m365watch.ledger.queries import ledger_for_reading, quarantined_bodies
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.notifications.notification_database import FILE_NAME as NOTIFICATIONS_FILE
from m365watch.notifications.notification_erasure import count_told
from m365watch.outputs.lake.spec import LakeSection
from m365watch.pipeline.disk_queue import QUEUES_FOLDER, records_in_file
from m365watch.registry.channel_specs import CHANNELS
from m365watch.registry.output_specs import LAKE, OUTPUTS, OutputSettings
from m365watch.response.journal import FILE_NAME as RESPONSES_FILE
from m365watch.runtime.replay_run import FOLDER as REPLAYS_FOLDER
from m365watch.runtime.replay_run import replays_beside
from m365watch.sources.page_spool import FOLDER as PAGES_FOLDER
from m365watch.storage.database import (
    COMPANIONS,
    FAILURES,
    DatabaseError,
    connect,
    is_database,
    read_rows,
)

LINE_BYTES_MAX = 16 << 20
"""A longer line is looked at in pieces; the service's records are far shorter."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Traces:
    """What one file has of a person."""

    path: Path
    records: int
    """Records, or kept pieces, that name the person."""
    is_whole: bool
    """Whether all of the file could be read."""


def in_lines(path: Path, person: Person) -> Traces:
    """Of a file of lines, plain or compressed, whatever its name."""
    found = 0
    try:
        with path.open("rb") as file, _inflated(file) as text:
            while line := text.readline(LINE_BYTES_MAX):
                found += person.is_mentioned(line)
    except FileNotFoundError:
        # A collector has published it, or a shipper has taken it away.
        return Traces(path, 0, is_whole=True)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        return Traces(path, found, is_whole=False)
    return Traces(path, found, is_whole=True)


def _inflated(file: io.BufferedReader) -> io.BufferedReader:
    begin = file.peek(4)
    if begin.startswith(_GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    if begin.startswith(_ZSTD):
        frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(frames)
    return file


def in_queue_file(path: Path, person: Person) -> Traces:
    """Of a batch that waits in a queue on disk."""
    records = records_in_file(path)
    return Traces(path, _count(records or (), person), is_whole=records is not None)


def in_page(path: Path, person: Person) -> Traces:
    """Of a page that a recovery has kept."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return Traces(path, 0, is_whole=True)
    except OSError:
        return Traces(path, 0, is_whole=False)
    try:
        records = [bytes(one) for one in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A kill cut it short, or it is no page: a name is found in it all the same.
        records = [body]
    return Traces(path, _count(records, person), is_whole=True)


def in_ledger_copy(path: Path, person: Person) -> Traces:
    """Of the quarantine in a ledger that is in use no more, of whatever version, perhaps damaged."""
    # Without a log beside it nothing is made beside it either.
    has_log, found = Path(f"{path}-wal").exists(), 0
    try:
        with closing(connect(path, mode="ro" if has_log else "immutable")) as connection:
            for body in quarantined_bodies(connection):
                found += person.is_mentioned(body)
    except DatabaseError:
        return Traces(path, found, is_whole=False)
    return Traces(path, found, is_whole=True)


def in_detections(path: Path, person: Person) -> Traces:
    """Of the alerts, and what is kept of records, in a file of detections."""
    try:
        found = find_named(path, Naming(person.is_mentioned))
    except DatabaseError:
        return Traces(path, 0, is_whole=False)
    return Traces(path, found.alerts + found.matches + found.reasons, is_whole=True)


def in_notifications(path: Path, person: Person) -> Traces:
    """Of the alerts that somebody was told of, or is to be."""
    try:
        return Traces(path, count_told(path, person.is_mentioned), is_whole=True)
    except (DatabaseError, OutputUnusable):
        return Traces(path, 0, is_whole=False)


_TRAIL_LINES = "SELECT CAST(line AS TEXT) FROM trail_outbox"
_RESPONSES = "SELECT CAST(line AS TEXT) FROM response"
_SEARCHES = "SELECT owner || char(10) || name || char(10) || url FROM search"


def in_texts(path: Path, statement: str, person: Person) -> Traces:
    """Of the texts that a statement finds in a database; they may have URLs in them."""
    try:
        texts = (f"{text}\n{unquote_plus(text)}" for (text,) in read_rows(path, statement))
        return Traces(path, _count(texts, person), is_whole=True)
    except FAILURES:
        return Traces(path, 0, is_whole=False)


def _count(pieces: Iterable[str | bytes], person: Person) -> int:
    return sum(person.is_mentioned(piece) for piece in pieces)


_DETECTIONS = Path(DETECTIONS_FILE).stem
_NOTIFICATIONS = Path(NOTIFICATIONS_FILE).stem


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What outside the lake may hold a person's records, of one place."""

    place: str
    kind: str
    searched: bool
    """Whether all of it could be searched."""
    records: int | None
    """How many records, or kept pieces, name the person; None where nobody looked."""
    says: str
    """What it means, and what to do."""
    files: tuple[Traces, ...] = ()
    """The files there that name the person, or that cannot be read in full."""


def search_elsewhere(
    settings: Settings, besides: LakeSection, person: Person, *, progress: Progress
) -> list[Elsewhere]:
    """Every place but the lake `besides`, which was searched already."""
    state = settings.state_directory
    found = [_in_quarantine(state, person)]
    found += [_in_copy(path, person) for path in _ledger_copies(state)]
    found.append(_other_copies())
    found.append(_in_trail(besides.folder, person))
    found += _in_detection_files(state, person)
    found += _in_board_files(state, person)
    found += _in_queues(state, person, progress)
    if (pages := state / PAGES_FOLDER).is_dir():
        says = "fetched by `recover` and not final; erase once more when the next run has delivered them"
        found.append(_in_folder(pages, "recovered", says, in_page, person, progress))
    for replay in _folders_in(state / REPLAYS_FOLDER):
        found.append(_in_replay(replay, person, progress))
    for output in settings.outputs:
        if output.name != besides.name:
            found += _at_output(output, person, progress)
    return found + [
        Elsewhere(f"channel {one.name}", f"channel_{one.type}", searched=False, records=None, says=says)
        for one in settings.detections.channels
        if (says := CHANNELS.by_name[one.type].erasure)
    ]


def _in_quarantine(state: Path, person: Person) -> Elsewhere:
    path = state / LEDGER_FILE
    says = "look at them with `m365watch quarantine`; they are kept in the ledger until they are dropped"
    try:
        with ledger_for_reading(path) as connection:
            count = sum(person.is_mentioned(body) for body in quarantined_bodies(connection))
    except LedgerUnusable as error:
        return Elsewhere(str(path), "quarantine", searched=False, records=None, says=error.what)
    return Elsewhere(str(path), "quarantine", searched=True, records=count, says=says if count else "none")


def _ledger_copies(state: Path) -> list[Path]:
    """Ledgers that were set aside or replaced, and backups that lie beside them."""
    return [
        path
        for path in sorted(state.glob("*"))
        if path.is_file()
        and path.name != LEDGER_FILE
        and not path.name.startswith((_DETECTIONS, _NOTIFICATIONS, "board", "responses"))
        and not path.name.endswith(COMPANIONS)
        and (path.suffix == ".sqlite" or is_database(path))
    ]


def _in_copy(path: Path, person: Person) -> Elsewhere:
    traces = in_ledger_copy(path, person)
    says = "quarantined pieces in a ledger no longer in use; remove the file, and any -wal beside it"
    return _told(str(path), "ledger_copy", says, [traces])


def _in_detection_files(state: Path, person: Person) -> Iterator[Elsewhere]:
    """The file of detections, others that were set aside, and what was done about alerts."""
    for path in sorted(state.glob(f"{_DETECTIONS}*.sqlite")):
        if path.name == DETECTIONS_FILE:
            says = "what the alerts say is erased with the records of the lake; erase once more"
            yield _told(str(path), "detections", says, [in_detections(path, person)])
        else:
            says = "detections that are in use no more; remove the file, and any -wal beside it"
            yield _told(str(path), "detections_copy", says, [in_detections(path, person)])
    if (told := state / NOTIFICATIONS_FILE).exists():
        says = "alerts that somebody is told of are erased with the records of the lake; erase once more"
        yield _told(str(told), "notifications", says, [in_notifications(told, person)])
    if (journal := state / RESPONSES_FILE).exists():
        says = "who did what about which alert; nothing is erased there: see docs/lake.md"
        yield _told(str(journal), "responses", says, [in_texts(journal, _RESPONSES, person)])


def _in_board_files(state: Path, person: Person) -> Iterator[Elsewhere]:
    """The board's database, and others that were set aside."""
    if (board := state / OUTBOX_FILE).exists():
        says = "who looked at what on the board; the trail is kept as long as the lake keeps its records"
        yield _told(str(board), BOARD_TRAIL, says, [in_texts(board, _TRAIL_LINES, person)])
        says = "searches that users keep; their owners remove them on the board's page Search"
        yield _told(str(board), "board_searches", says, [in_texts(board, _SEARCHES, person)])
    for path in sorted(state.glob("board-*.damaged.sqlite")):
        says = "a board's database that is no longer in use; remove the file, and any -wal beside it"
        traces = [in_texts(path, one, person) for one in (_TRAIL_LINES, _SEARCHES)]
        yield _told(str(path), "board_copy", says, traces)


def _in_trail(lake: Path, person: Person) -> Elsewhere:
    """Who looked at the person on the board, and what the person looked at: it is not erased."""
    place, says = (
        str(lake / BOARD_TRAIL),
        "who has looked, kept as long as the lake keeps its records; see docs/lake.md",
    )
    try:
        count = count_deeds(lake, person.is_mentioned)
    except LakeUnusable as error:
        return Elsewhere(place, BOARD_TRAIL, searched=False, records=None, says=error.what)
    return Elsewhere(place, BOARD_TRAIL, searched=True, records=count, says=says if count else "none")


def _other_copies() -> Elsewhere:
    says = "searched only beside the ledger; they hold what was in quarantine: remove those from before"
    place = "copies that `m365watch ledger backup` wrote"
    return Elsewhere(place, "backups", searched=False, records=None, says=says)


def _in_queues(state: Path, person: Person, progress: Progress) -> Iterator[Elsewhere]:
    for folder in _folders_in(state / QUEUES_FOLDER):
        says = f"waiting for output {folder.name}; erase once more when they were delivered"
        yield _in_folder(folder, "queue", says, in_queue_file, person, progress)


def count_waiting(settings: Settings, lake: LakeSection, person: Person) -> int:
    """How many records of the person wait in the queue of `lake` itself, and are in it before long."""
    folder = settings.state_directory / QUEUES_FOLDER / lake.name
    return sum(
        person.is_in(record) for path in _files_below(folder) for record in records_in_file(path) or ()
    )


def _in_replay(folder: Path, person: Person, progress: Progress) -> Elsewhere:
    """The ledger and the queues of a replay's own."""
    traces = [in_ledger_copy(path, person) for path in (folder / LEDGER_FILE,) if path.exists()]
    for queue in _folders_in(folder / QUEUES_FOLDER):
        traces += _search(queue, in_queue_file, person, progress)
    says = "what a replay has in quarantine or has still to deliver; at its end the folder can be removed"
    return _told(str(folder), "replay", says, traces)


def _at_output(output: OutputSettings, person: Person, progress: Progress) -> Iterator[Elsewhere]:
    name, kind = f"output {output.name}: ", OUTPUTS.by_name[output.type].type
    for held in output.personal_data:
        if held.folder is not None:
            yield _in_folder(held.folder, kind, held.advice, in_lines, person, progress, name=name)
        else:
            place = f"{name}{held.place}"
            yield Elsewhere(place, kind, searched=False, records=None, says=held.advice)
    if output.folder is not None and kind != LAKE:
        for folder in _folders_in(replays_beside(output.folder)):
            says = "written by a replay; remove the folder, and look in what was copied from there"
            yield _in_folder(folder, f"replayed_{kind}", says, in_lines, person, progress)


def _in_folder(
    folder: Path,
    kind: str,
    says: str,
    look: Callable[[Path, Person], Traces],
    person: Person,
    progress: Progress,
    *,
    name: str = "",
) -> Elsewhere:
    return _told(f"{name}{folder}", kind, says, _search(folder, look, person, progress))


def _search(
    folder: Path, look: Callable[[Path, Person], Traces], person: Person, progress: Progress
) -> list[Traces]:
    traces = []
    for done, path in enumerate(_files_below(folder), start=1):
        progress(f"searching {folder}", done, 0)
        traces.append(look(path, person))
    return traces


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file, what is hidden first: what a collector publishes meanwhile is met twice, not never."""
    for is_hidden in (True, False):
        try:
            there = sorted(os.scandir(folder), key=lambda one: one.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for one in there:
            if one.name.startswith(".") is not is_hidden:
                continue
            if one.is_dir(follow_symlinks=False):
                yield from _files_below(Path(one.path))
            elif one.is_file(follow_symlinks=False):
                yield Path(one.path)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _told(place: str, kind: str, says: str, traces: Iterable[Traces]) -> Elsewhere:
    """A place that was searched: what was found, and what could not be read of it."""
    worth = tuple(one for one in traces if one.records or not one.is_whole)
    found = sum(one.records for one in worth)
    unreadable = sum(not one.is_whole for one in worth)
    words = [says] if found else [] if unreadable else ["none"]
    if unreadable:
        words.append(f"not all of {unreadable} of its files can be read")
    return Elsewhere(place, kind, searched=not unreadable, records=found, says="; ".join(words), files=worth)
