"""A file that the collector refuses, or has not yet: the pages say what runs, why, and what to do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from promises import guarantee

from asking import view_of
from configured import YAML, Configured, write
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages.health.issues import needs
from m365watch.common.clock import SystemClock
from m365watch.health.config_status import MEMORY, ConfigurationNote, places_of
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.writer.table_writer import OpenTable
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.outputs.lake.lake_output import app_id_of

WHY = "the ledger has delivered batch 32 here, but the lake ends with batch 0"
CURE = "rename the output in the configuration"


@pytest.fixture
def it(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


@pytest.fixture
def ledger(it: Configured) -> Iterator[SqliteLedger]:
    """That of a collector that runs."""
    state = it.sources.settings.state_directory
    with closing(SqliteLedger(state, outputs=frozenset({"lake"}), now=SystemClock().now())) as held:
        yield held


def deliver(it: Configured, count: int) -> None:
    """The ledger has delivered so many batches to the lake."""
    file = it.sources.settings.state_directory / LEDGER_FILE
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO output VALUES ('lake', ?, '')", (count,))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('batch', ?)", (count,))


def moved_to(folder: str) -> dict[str, object]:
    return write("outputs", "lake", f"type: lake\nconfig:\n  directory: {folder}\n")


@pytest.mark.usefixtures("ledger")
def test_a_lake_that_would_be_refused_elsewhere_is_told_before(it: Configured) -> None:
    """Another folder for a lake that has batches: the line, what a start says, its cure; not made."""
    deliver(it, 32)

    shown = it.review(moved_to("lake2"))

    [mistake] = shown["mistakes"]
    assert (shown["can"], mistake["line"]) == (False, 3)
    assert mistake["says"].startswith(f"outputs.lake.config.directory: {WHY}; ")
    assert CURE in mistake["says"]
    assert it.post("/collectors/apply", moved_to("lake2")).status == 422
    assert it.text() == YAML


@pytest.mark.usefixtures("ledger")
def test_a_lake_in_step_may_be_named_elsewhere(it: Configured, tmp_path: Path) -> None:
    """One that was moved there before, one of a new name, and any while nothing was delivered."""
    assert it.review(moved_to("lake2"))["can"]
    deliver(it, 32)
    new = write("outputs", "lake_2", "type: lake\nconfig:\n  directory: lake2\n", is_new=True)
    assert it.review(new)["can"]
    assert it.review(write("outputs", "lake", "type: lake\nconfig: {directory: ./lake}\n"))["mistakes"] == []

    app_id = app_id_of("lake", it.sources.settings.collector_name)
    OpenTable(tmp_path / "lake2", AUDIT_TABLE).commit([], numbers={app_id: 32})

    assert it.review(moved_to("lake2"))["can"]


def refuse(it: Configured, ledger: SqliteLedger) -> None:
    """The collector has refused the file, and goes on with what it has."""
    now_s = SystemClock().now().timestamp() + 60
    places = places_of(it.sources.settings)
    note = ConfigurationNote(now_s, "m.yaml", now_s, [WHY], fix=CURE, outputs=places)
    ledger.remember(MEMORY, note.body())


@guarantee(31)
def test_a_refused_file_stands_with_its_cure(it: Configured, ledger: SqliteLedger) -> None:
    """On Collectors, and on Health, where something is wrong then; not for a tenant's own people."""
    assert WHY not in it.get("/panel/health/needs").text
    refuse(it, ledger)

    collectors = it.get("/panel/collectors/inputs").text
    [row] = [one for one in asyncio.run(needs(view_of(), it.sources)).rows if "refuses" in one.text]

    assert WHY in collectors
    assert "Rename the output in the configuration." in collectors
    assert WHY in row.text
    scoped = view_of(access=Access("bob", Role.VIEWER, frozenset({"x"})))
    assert not [one for one in asyncio.run(needs(scoped, it.sources)).rows if "refuses" in one.text]
    assert (row.note, row.tone) == ("Rename the output in the configuration.", "critical")


def test_an_output_stands_as_the_collector_has_it(it: Configured, ledger: SqliteLedger) -> None:
    """Moved or new in a file that was not taken up: it says so, and what goes on; the others are in order."""
    refuse(it, ledger)
    before = it.get("/panel/collectors/outputs").text
    it.file.write_text(YAML.replace("{type: lake}", "{type: lake, config: {directory: lake2}}"))
    moved = it.get("/panel/collectors/outputs").text
    it.file.write_text(YAML.replace("  lake: {type: lake}", "  files: {type: files}"))
    renamed = it.get("/panel/collectors/outputs").text

    assert before.count("in order") == 2
    assert (moved.count("in order"), moved.count("in the file")) == (1, 1)
    assert "Rename" not in moved  # as what is wrong may be of another output
    assert f"goes on with the lake in {it.file.parent / 'lake'}" in moved
    assert (renamed.count("in order"), renamed.count("in the file")) == (1, 1)
    assert "lake, which the file names no more" in renamed
