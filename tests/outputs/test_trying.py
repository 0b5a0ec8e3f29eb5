"""Outputs tried before a run: each failure has its cure, and no receiver gets a record."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import made_outputs
import pyarrow as pa
import pytest
import structlog
from deltalake import DeltaTable
from made_outputs import console, devo_http_to, lake_in, syslog_to
from ports import kept_port
from promises import guarantee

from devo_places import devo_settings
from m365watch.common.clock import SystemClock
from m365watch.health.checks.output_checks import check_context, check_output
from m365watch.http.client import open_session
from m365watch.lake.integrity_errors import Cause, back_fix
from m365watch.lake.maintenance import integrity_check as trying_lakes
from m365watch.lake.schema import (
    ALERT_TABLE,
    AUDIT,
    AUDIT_TABLE,
    NOTICE_TABLE,
    TABLES,
    TRAIL_TABLE,
    TableShape,
)
from m365watch.lake.writer.parquet_files import FRESH, write_part
from m365watch.lake.writer.table_writer import OpenTable
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.outputs.devo_http.spec import DevoHttpSection
from m365watch.outputs.files.spec import FilesSection
from m365watch.outputs.lake.lake_output import app_id_of
from m365watch.registry.checks import Check, Checked, Verdict
from m365watch.registry.output_specs import OutputSettings
from m365watch_testing.loopback import LoopbackServer, Received, Reply
from wire_places import QUICK, Papers, changed

OK, NOTE, BROKEN = Verdict.OK, Verdict.NOTE, Verdict.BROKEN
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def tried(settings: OutputSettings, *, ledger: Path | None = None) -> list[Checked]:
    async def main() -> list[Checked]:
        return await trying(settings, ledger=ledger)

    return asyncio.run(main())


async def trying(
    settings: OutputSettings, *, limit_s: float = 10.0, ledger: Path | None = None
) -> list[Checked]:
    async with open_session(stall_s=5, total_s=5) as session:
        context = check_context(SystemClock(), session, limit_s=limit_s, ledger=ledger, collector="here")
        return list(await check_output(context, settings))


def files_in(folder: Path) -> FilesSection:
    return made_outputs.files_in(folder, "out")


def test_folders_that_are_not_there_yet_are_not_made(tmp_path: Path) -> None:
    """Lake and files are looked at and never opened: they may belong to a collector that runs."""
    [files] = tried(files_in(tmp_path / "out"))
    [lake] = tried(lake_in(tmp_path / "lake"))

    assert (files.verdict, lake.verdict) == (OK, OK)
    assert "no table there yet" in lake.seen
    assert list(tmp_path.iterdir()) == []


@guarantee(29)
def test_a_lake_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    """Its version, and how many files it has."""
    OpenTable(tmp_path, AUDIT_TABLE)
    before = sorted(tmp_path.rglob("*"))
    [step] = tried(lake_in(tmp_path))

    assert (step.verdict, "its table can be read (version 0, 0 files)" in step.seen) == (OK, True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_lake_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    """With what to do about it."""
    OpenTable(tmp_path, AUDIT_TABLE)
    for path in (tmp_path / "audit" / "_delta_log").glob("*.json"):
        path.write_text("{ no log")
    [step] = tried(lake_in(tmp_path))

    assert (step.check, step.verdict) == (Check.OUTPUT, BROKEN)
    assert "put it back from a copy of the lake" in str(step.fix)


def lake_of_all_tables(folder: Path) -> Path:
    """A lake with every table, each with a file of one row in it."""
    for shape in TABLES:
        table = OpenTable(folder, shape)
        day = date(2026, 11, 17)
        rows = pa.Table.from_pylist([dict.fromkeys(shape.file_schema.names)], schema=shape.file_schema)
        part = write_part(table.store, shape, day=day, name="one", chunks=[rows], compression=FRESH)
        table.commit([part], numbers={"somebody": 1})
    return folder


@guarantee(29)
@pytest.mark.parametrize("shape", TABLES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("kind", ["log", "cut short", "gone"])
def test_every_damaged_table_of_a_lake_is_a_step_with_its_cure(
    tmp_path: Path, shape: TableShape, kind: str
) -> None:
    """A start tells of `audit` alone; of the others the log of a run did, while alerts came to no lake."""
    lake = lake_of_all_tables(tmp_path)
    [path] = (lake / shape.name).glob("_delta_log/*0.json" if kind == "log" else "day=*/*.parquet")
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30])

    steps = tried(lake_in(lake))
    [damaged] = [step for step in steps if step.verdict is not OK]

    assert (damaged.check, damaged.verdict, damaged.subject) == (Check.OUTPUT, BROKEN, "lake")
    assert f"{path.relative_to(lake)} " in damaged.seen
    can_repair = (shape.name, kind) == (AUDIT, "gone")
    assert damaged.fix == back_fix(shape.name) or can_repair
    assert ("lake repair" in (damaged.fix or "")) is can_repair
    assert len(steps) == (1 if shape.name == AUDIT else 2)


@pytest.mark.parametrize("shape", TABLES, ids=lambda shape: shape.name)
def test_what_a_power_cut_tore_is_a_note_with_who_mends_it(tmp_path: Path, shape: TableShape) -> None:
    """No run is kept from working by it: its start moves it aside, and that of the board what is its own."""
    for one in TABLES:
        OpenTable(tmp_path, one)
    for commit in (tmp_path / shape.name / "_delta_log").iterdir():
        commit.write_bytes(b"")

    [torn] = [step for step in tried(lake_in(tmp_path)) if step.verdict is not OK]
    OpenTable(tmp_path, shape)

    command = "board" if shape is TRAIL_TABLE else "run"
    assert torn.verdict is NOTE
    assert f"a power cut has torn {shape.name}/_delta_log/" in torn.seen
    assert torn.fix == f"nothing hangs on it: the next start of `m365watch {command}` moves it aside"
    assert [step.verdict for step in tried(lake_in(tmp_path))] == [OK]


@guarantee(29)
def test_each_of_several_damaged_tables_is_told(tmp_path: Path) -> None:
    """One hides no other; and a table with other columns, or with hidden rows, is told as such."""
    lake = lake_of_all_tables(tmp_path)
    assert [step.verdict for step in tried(lake_in(lake))] == [OK]

    for shape in (AUDIT_TABLE, ALERT_TABLE):
        [path] = (lake / shape.name).glob("day=*/*.parquet")
        path.unlink()
    for shape in (NOTICE_TABLE, TRAIL_TABLE):
        shutil.rmtree(lake / shape.name)
    DeltaTable.create(lake / NOTICE_TABLE.name, pa.schema([("other", pa.string())]))
    hidden = {"delta.enableDeletionVectors": "true"}
    DeltaTable.create(lake / TRAIL_TABLE.name, TRAIL_TABLE.schema, configuration=hidden)
    steps = tried(lake_in(lake))

    assert [step.verdict for step in steps] == [BROKEN] * 4
    assert [
        (shape.name, said in step.seen)
        for shape, said, step in zip(
            (AUDIT_TABLE, NOTICE_TABLE, ALERT_TABLE, TRAIL_TABLE),
            (
                "audit/day=2026-11-17/",
                "`collectors_out` there has other columns",
                "alerts/day=",
                "not all rows",
            ),
            steps,
            strict=True,
        )
    ] == [("audit", True), ("collectors_out", True), ("alerts", True), ("board_trail", True)]


def test_what_an_erasure_takes_away_meanwhile_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes files that the log named when it was read; looked at again, nothing is wrong."""
    lake = lake_of_all_tables(tmp_path)
    seen = {shape.name: [Cause("a file is missing", "nothing"), None] for shape in TABLES}
    monkeypatch.setattr(trying_lakes, "find_fault", lambda _, shapes: seen[shapes[0].name].pop(0))

    assert [step.verdict for step in tried(lake_in(lake))] == [OK]
    assert seen == {shape.name: [] for shape in TABLES}


@pytest.mark.parametrize("kind", ["lake", "files"])
def test_a_place_that_is_no_directory_is_found(tmp_path: Path, kind: str) -> None:
    """For an administrator as for anybody."""
    (tmp_path / "taken").write_text("")
    place = tmp_path / "taken" / "below"
    [step] = tried(files_in(place) if kind == "files" else lake_in(place))

    assert step.verdict is BROKEN
    assert "cannot be written" in step.seen
    assert "another `directory`" in str(step.fix)


@guarantee(29)
def test_devo_is_shaken_hands_with_and_gets_no_line(papers: Papers) -> None:
    """TLS with the client certificate, the verdict on it, and an end in order."""
    with papers.serve() as server:
        steps = tried(devo_settings(papers, server.port))
        server.wait_until_over()

    assert [step.verdict for step in steps] == [OK]
    assert "takes connections in TLS with the client certificate" in steps[0].seen
    assert (server.lines, server.received_bytes) == ([], 0)
    assert len(server.connections) == 1


def test_a_client_certificate_that_ends_soon_is_a_note(papers: Papers) -> None:
    """From 30 days before its end on."""
    with papers.serve() as server:
        tls = papers.tls_of(lasts=timedelta(days=5))
        steps = tried(devo_settings(papers, server.port, tls=tls))

    assert [step.verdict for step in steps] == [OK, NOTE]
    assert "the client certificate ends at" in steps[1].seen


def test_a_client_certificate_of_another_authority_is_refused(papers: Papers, tmp_path: Path) -> None:
    """The receiver's own word for it, and what to do."""
    other = Papers(tmp_path)
    tls = replace(papers.tls, cert=other.client.cert, key=other.client.key)
    with papers.serve() as server:
        [step] = tried(devo_settings(papers, server.port, tls=tls))

    assert step.verdict is BROKEN
    assert "refused the client certificate" in step.seen
    assert "`cert` and `key`" in str(step.fix)


def test_a_server_of_another_authority_is_not_trusted(papers: Papers, tmp_path: Path) -> None:
    """The key to mend is named."""
    with Papers(tmp_path).serve() as server:
        [step] = tried(devo_settings(papers, server.port))

    assert (step.verdict, "`chain`" in str(step.fix)) == (BROKEN, True)


def test_a_key_of_another_certificate_is_found_without_a_connection(papers: Papers) -> None:
    """The files come first."""
    tls = replace(papers.tls, key=papers.authority.issue("other").key)
    [step] = tried(devo_settings(papers, 1, tls=tls))

    assert "does not belong to cert" in step.seen


def test_a_receiver_that_is_away_is_broken_though_a_run_would_start(papers: Papers) -> None:
    """What it cannot send waits in its queue, and the hint says so."""
    with kept_port() as port:
        [step] = tried(syslog_to("localhost", port, **vars(QUICK)))

    assert (step.verdict, "refused" in step.seen) == (BROKEN, True)
    assert "queue" in str(step.fix)


def test_datagrams_cannot_be_tried() -> None:
    """Only the name can; that nobody tells is a note."""
    [known] = tried(syslog_to("localhost", 514, transport="udp"))
    [unknown] = tried(syslog_to("receiver.invalid", 514, transport="udp"))

    assert (known.verdict, unknown.verdict) == (NOTE, BROKEN)


def test_the_console_is_always_there() -> None:
    """It is the run's own."""
    assert [step.verdict for step in tried(console())] == [OK]


@pytest.mark.parametrize(
    ("status", "verdict", "text"), [(200, OK, "takes the token"), (401, BROKEN, "the token is refused")]
)
def test_devos_token_shows_by_one_notice(status: int, verdict: object, text: str) -> None:
    """The same that a run posts at its start, and no record; the token is told nowhere."""
    posts: list[Received] = []

    def answer(received: Received) -> Reply:
        if received.target != "/":
            posts.append(received)
        return Reply(status)

    async def main() -> list[Checked]:
        async with LoopbackServer(answer) as server:
            return await trying(http_to(server.url))

    [step] = asyncio.run(main())

    assert (step.verdict, text in step.seen) == (verdict, True)
    assert ["devo.collectors.out" in post.target for post in posts] == [True]
    assert TOKEN not in str(step)


def test_without_notices_the_token_is_not_tried() -> None:
    """Nothing that is no record may be sent then."""

    async def main() -> tuple[list[Checked], list[str]]:
        targets: list[str] = []

        def answer(received: Received) -> Reply:
            targets.append(received.target)
            return Reply()

        async with LoopbackServer(answer) as server:
            return await trying(http_to(server.url).with_options(collectors_out=False)), targets

    steps, targets = asyncio.run(main())

    assert ([step.verdict for step in steps], targets) == ([NOTE], ["/"])


def test_an_output_that_hangs_is_waited_for_so_long(papers: Papers) -> None:
    """As --timeout says."""
    import socket

    async def main(port: int) -> list[Checked]:
        settings = devo_settings(papers, port, wire=changed(QUICK, sending_timeout=9.0))
        return await trying(settings, limit_s=0.2)

    with socket.create_server(("127.0.0.1", 0)) as silent, suppress(OSError):
        [step] = asyncio.run(main(silent.getsockname()[1]))

    assert (step.verdict, step.seen) == (BROKEN, "no answer in time")


def http_to(url: str) -> DevoHttpSection:
    return devo_http_to(url, TOKEN, hostname=f"host-{os.getpid()}", timeout_secs=5.0)


def test_a_lake_that_a_start_would_refuse_is_found(tmp_path: Path) -> None:
    """One put back from an older copy can be read, and is a batch behind its ledger."""
    app_id = app_id_of("lake", "here")
    OpenTable(tmp_path / "lake", AUDIT_TABLE).commit([], numbers={app_id: 1})

    def step(last: int, newest: int) -> Checked:
        folder = tmp_path / f"{last}-{newest}"
        SqliteLedger(folder, outputs=frozenset({"lake"}), now=SystemClock().now()).close()
        with closing(sqlite3.connect(folder / LEDGER_FILE)) as ledger, ledger:
            ledger.execute("INSERT OR REPLACE INTO output VALUES ('lake', ?, '')", (last,))
            ledger.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('batch', ?)", (newest,))
        [found] = tried(lake_in(tmp_path / "lake"), ledger=folder / LEDGER_FILE)
        return found

    assert [step(1, 1).verdict, step(0, 1).verdict] == [OK, OK]
    behind = step(2, 2)
    assert (behind.check, behind.verdict) == (Check.OUTPUT, BROKEN)
    assert behind.seen == "the ledger has delivered batch 2 here, but the lake ends with batch 1"
    assert "put back the lake that belongs to this state directory" in str(behind.fix)

    OpenTable(tmp_path / "lake", AUDIT_TABLE).commit([], numbers={app_id: 3})
    assert step(1, 2).seen == "the lake ends with batch 3, but the ledger knows only of batch 1"
    assert step(1, 3).verdict is OK
