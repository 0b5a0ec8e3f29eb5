"""Health shows what is amiss, with its cure, and nothing of tenants that somebody may not see."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from channels_configured import slack
from deltalake import DeltaTable
from promises import guarantee

from asking import ask, ask_sql, board_of, document_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.exports import csv_of
from m365watch.board.app.live_updates import tell_news
from m365watch.board.pages import collectors, overview
from m365watch.board.pages.health import delivery_health as health_delivery
from m365watch.board.pages.health import detection_health as health_detecting
from m365watch.board.pages.health import feed_health as health
from m365watch.board.pages.health import hourly_completeness as health_hours
from m365watch.board.pages.health import issues as health_needs
from m365watch.board.pages.health.health_cells import days_words
from m365watch.board.query import ledger_queries as ledger_reader
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.widget_types import Chart, Empty, Grid, Heat, Instances, Ranking, Tiles
from m365watch.common.errors import LakeMissing, NeedsOperator, OutputUnavailable, OutputUnusable
from m365watch.common.missing_files import MissingFiles, body_of, memory_name
from m365watch.common.model import BlobRef, ContentType, Feed, Window
from m365watch.detection.detection_output import FILE_NAME as ALERTS_FILE
from m365watch.health.collector_status import feeds_of, read_latency, read_status
from m365watch.health.expiry.credential_expiry import Judged
from m365watch.health.expiry.expiry_text import life_text
from m365watch.lake.delta.transaction_log import commit_name
from m365watch.lake.sql_sandbox import confinement
from m365watch.ledger.lock import hold_ledger
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.notifications.notification_database import FILE_NAME, NotificationFile
from m365watch.outputs.lake.spec import LakeSection
from m365watch.pipeline.latency import Step
from m365watch.registry.credential_specs import CredentialEnd
from m365watch.sources.throttling import MEMORY, ThrottlingBook

HOUR = timedelta(hours=1)
STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))


@pytest.fixture
def troubled(sources: Sources, tmp_path: Path) -> Sources:
    """The same collector after a day on which one feed went badly."""
    shutil.copytree(sources.settings.state_directory, tmp_path / "state")
    now = sources.clock.now()
    feed = feed_of(sources)
    state = tmp_path / "state"
    ledger = SqliteLedger(state, outputs=frozenset(sources.settings.receivers), now=now)
    at = (now - 5 * HOUR).replace(minute=30)
    refs = [BlobRef(feed, name, at, at + timedelta(days=7)) for name in ("lost", "kept", "slow")]
    ledger.commit_listing(feed, Window(at, at + HOUR), refs, complete=True, at=now)
    keys = {
        one.ref.content_id: one.key
        for one in ledger.due_blobs(feed, now=now, besides=frozenset(), count_max=10)
    }
    ledger.commit_lost(keys["lost"], "AF20051: expired", at=now)
    ledger.quarantine(keys["kept"], b"<html>", "not a JSON array", whole=True, at=now)
    ledger.postpone(keys["slow"], attempts=3, next_try_at=now + HOUR, error="HTTP 503")
    ledger.note_error(feed, NeedsOperator("HTTP 403", where=str(feed), fix="grant consent"), at=now)
    ledger.note_output_error("lake", NeedsOperator("the disk is full", fix="free some space"), at=now)
    ledger.close()
    return replace(sources, settings=replace(sources.settings, state_directory=state))


def feed_of(sources: Sources) -> Feed:
    return feeds_of(sources.settings)[0]


@contextmanager
def running(sources: Sources) -> Iterator[None]:
    """While a collector holds the ledger."""
    lock = hold_ledger(sources.settings.state_directory / LEDGER_FILE)
    yield
    lock.release()


async def dot_of(sources: Sources) -> str:
    """What is said beside the live dot of a collector that does not run."""
    async with aclosing(tell_news(view_of(), sources)) as news:
        said = (await anext(news)).decode()
    return str(json.loads(said.removeprefix("data: "))["stopped"])


def texts(grid: object) -> list[list[str]]:
    assert isinstance(grid, Grid)
    return [[cell.text for cell in row] for row in grid.rows]


def test_every_blob_of_the_ledger_is_in_an_hour(sources: Sources) -> None:
    """All feeds are rows, and nothing that arrived is left out of the map."""
    progress = read_status(sources.settings, now=sources.clock.now())

    heat = asyncio.run(health_hours.hours(view_of("range=30d"), sources))

    assert isinstance(heat, Heat)
    listed = [one for one in progress.feeds if one.watermark is not None]
    assert {row.label for row in heat.rows} <= {str(one.feed.content_type) for one in listed}
    assert {row.figure for row in heat.rows} == {"100 %"}
    assert all(len(row.cells) == heat.steps for row in heat.rows)
    assert "all delivered" in csv_of(heat)


def test_a_lost_blob_is_seen_in_its_hour(troubled: Sources) -> None:
    """The hour is marked, the row comes first, and its share is no longer all."""
    heat = asyncio.run(health_hours.hours(view_of("range=24h"), troubled))

    assert isinstance(heat, Heat)
    worst = heat.rows[0]
    assert worst.label == str(feed_of(troubled).content_type)
    assert worst.figure != "100 %"
    lost = next(one for one in worst.cells if one.tone == "critical")
    assert lost.says.split(": ")[1].startswith("1 lost of")


def test_every_trouble_stands_there_with_its_cure(troubled: Sources) -> None:
    """Of the feed, the output, the blob that fails, and the piece in quarantine."""
    view = view_of("range=24h")

    listing = asyncio.run(health_needs.needs(view, troubled))
    outputs = texts(asyncio.run(health_delivery.outputs(view, troubled)))
    waiting = texts(asyncio.run(health_delivery.waiting(view, troubled)))
    kept = texts(asyncio.run(health_delivery.quarantine(view, troubled)))
    tiles = asyncio.run(health.figures(view, troubled))

    said = {one.text: (one.note, one.tone) for one in listing.rows}
    assert said[f"{feed_of(troubled).content_type}: HTTP 403."] == ("Grant consent.", "critical")
    note, tone = said["Output lake: The disk is full."]
    assert tone == "critical"
    assert note.startswith("Free some space; no record is lost before 2026-")
    assert any(text.startswith("1 piece in quarantine") for text in said)
    assert outputs[0][1:] == ["refuses", "0", "0"]
    assert [row[1:] for row in waiting] == [["3", "in 60 min", "HTTP 503."]]
    assert [row[-1] for row in kept] == ["not a JSON array"]
    assert isinstance(tiles, Tiles)
    assert {one.label: one.tone for one in tiles.tiles}["Lost"] == "critical"


@pytest.mark.parametrize("listed_days_ago", [1, 8])
def test_an_output_says_until_when_no_record_is_lost(troubled: Sources, listed_days_ago: int) -> None:
    """A blob that is known bounds it, and so does what could not be listed yet; never a time that is over."""
    now = troubled.clock.now()
    state = troubled.settings.state_directory
    ledger = SqliteLedger(state, outputs=frozenset(troubled.settings.receivers), now=now)
    ledger.note_output_error("lake", OutputUnavailable("the disk is full", fix="make room"), at=now)
    feed = Feed(feed_of(troubled).tenant_id, ContentType.DLP)
    start = now - timedelta(days=listed_days_ago)
    late = BlobRef(feed, "late", start, start + timedelta(days=7))
    with sqlite3.connect(state / LEDGER_FILE) as connection:
        connection.execute("DELETE FROM coverage")
        connection.execute("DELETE FROM blob")
    ledger.commit_listing(feed, Window(start, start + HOUR), [late], complete=True, at=now)
    ledger.close()

    progress = read_status(troubled.settings, now=now)
    [output] = [one for one in progress.outputs if one.last_error]
    [said] = [
        one
        for one in asyncio.run(health_needs.needs(view_of("range=24h"), troubled)).rows
        if "disk" in one.text
    ]

    assert not output.needs_operator
    assert output.safe_until == start + timedelta(days=7)
    assert said.tone == "medium"
    assert ("no record is lost before" if listed_days_ago < 7 else "records may be lost since") in str(
        said.note
    )


@guarantee(15)
def test_missing_files_of_the_lake_stand_there_with_their_fix(troubled: Sources) -> None:
    """Where the output has no error of its own, its state is that."""
    now, day = troubled.clock.now(), date(2026, 11, 24)
    missing = MissingFiles(1, 312, day, day, ("audit/day=2026-11-24/1.parquet",), now - HOUR, None, None)
    outputs = frozenset(troubled.settings.receivers)
    ledger = SqliteLedger(troubled.settings.state_directory, outputs=outputs, now=now)
    ledger.note_output_error("lake", None, at=now)
    ledger.remember(memory_name("lake"), body_of(missing))
    ledger.close()

    rows = asyncio.run(health_needs.needs(view_of("range=24h"), troubled)).rows
    states = texts(asyncio.run(health_delivery.outputs(view_of("range=24h"), troubled)))

    [said] = [one for one in rows if "1.parquet" in one.text]
    assert "lacks 312 records of 2026-11-24" in said.text
    assert "m365watch lake repair --output lake" in str(said.note)
    assert said.tone == "critical"
    assert states[0][1] == "files missing"


def test_health_says_what_confines_sql(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile names what holds; where the kernel lacks some of it, that is among the issues."""
    shape = asyncio.run(health.figures(view_of(), sources))
    assert isinstance(shape, Tiles)
    [tile] = [one for one in shape.tiles if one.label == "SQL confinement"]
    assert tile.note == confinement.probe().held

    monkeypatch.setattr(confinement, "_LANDLOCK_CREATE", 999)
    rows = asyncio.run(health_needs.needs(view_of(), sources)).rows
    assert [one.tone for one in rows if "missing: Landlock" in one.text] == ["low"]


def test_where_nothing_is_wrong_nothing_is_told(sources: Sources) -> None:
    """A collector that runs, and has just listed all, leaves nothing to do."""
    with running(sources):
        listing = asyncio.run(health_needs.needs(view_of(), sources))

    assert listing.empty == Empty("Nothing is wrong.", "What goes wrong stands here, with its cure.")


def test_a_collector_that_has_ended_is_said_to_have_ended(sources: Sources) -> None:
    """The dot, the tiles, the feeds and the services ask the same: whether somebody holds the ledger."""

    def told() -> dict[str, str]:
        later = view_of("range=24h", now=sources.clock.now() + timedelta(minutes=26))
        tiles = asyncio.run(overview.figures(later, sources))
        inputs = asyncio.run(collectors.inputs(later, sources))
        assert isinstance(tiles, Tiles)
        assert isinstance(inputs, Instances)
        return {
            "dot": asyncio.run(dot_of(sources)),
            "needs": " ".join(one.text for one in asyncio.run(health_needs.needs(later, sources)).rows),
            "tile": " ".join(one.note for one in tiles.tiles if one.label == "Feeds in order"),
            "overview": texts(asyncio.run(overview.health(later, sources)))[0][1],
            "health": texts(asyncio.run(health.feeds(later, sources)))[0][1],
            "services": " ".join(service.state for one in inputs.rows for service in one.services),
        }

    with running(sources):
        live = told()
    ended = told()

    assert live["dot"] == live["needs"] == ""
    assert live["overview"] == live["health"] == "in order"
    assert "running" in live["services"]
    assert "not running" not in live["services"]
    assert ended["dot"].startswith("no collector runs, last seen ")
    assert ended["needs"].startswith("No collector runs, last seen ")
    assert ended["tile"].startswith("no collector runs, last seen ")
    assert ended["overview"] == ended["health"] == "not running"
    assert "not running" in ended["services"]


@pytest.fixture
def crowded(sources: Sources, tmp_path: Path) -> Sources:
    """A state directory in which SQLite can put nothing beside the ledger and the alerts."""
    shutil.copytree(sources.settings.state_directory, tmp_path / "state")
    for name in (LEDGER_FILE, ALERTS_FILE):
        for suffix in ("-wal", "-shm"):
            (tmp_path / "state" / f"{name}{suffix}").unlink(missing_ok=True)
        (tmp_path / "state" / f"{name}-shm").symlink_to("/dev/full")
    return replace(sources, settings=replace(sources.settings, state_directory=tmp_path / "state"))


def test_a_full_disk_hides_no_alert_and_no_feed(sources: Sources, crowded: Sources) -> None:
    """While nothing waits in their journals, both files are read as they lie there."""
    view = view_of("range=30d")

    there, crammed = (asyncio.run(one.list_alerts(view)) for one in (sources, crowded))

    assert there
    assert crammed is not None
    assert [one.alert.id for one in crammed] == [one.alert.id for one in there]
    feeds, known = (asyncio.run(one.list_feeds(view)) for one in (crowded, sources))
    assert feeds
    assert feeds == known


def test_alerts_that_cannot_be_read_are_said_to_be_unreadable(crowded: Sources) -> None:
    """The page, the figures, Health, the dot and /readyz say why; nobody says that none were looked for."""
    path = crowded.settings.state_directory / ALERTS_FILE
    path.with_name(f"{ALERTS_FILE}-wal").write_bytes(b"what a crash has left")
    board = board_of(crowded)

    for url in ("/panel/alerts/queue", "/panel/overview/alerts", "/panel/overview/figures"):
        text = asyncio.run(ask(board, url)).text
        assert "the file of detections cannot be used: unable to open database file" in text, url
        assert "has had its detections on" not in text
    said = [one.text for one in asyncio.run(health_needs.needs(view_of(), crowded)).rows]
    assert "The file of detections cannot be used: unable to open database file." in said
    ready = asyncio.run(ask(board, "/readyz"))
    assert (ready.status, document_of(ready)["parts"][-1]["code"]) == (503, "output_unusable")
    assert asyncio.run(ask(board, "/api/v1/alerts")).status == 503


def test_a_credential_is_named_by_the_input_whose_it_is(sources: Sources) -> None:
    """It is what the configuration calls it, beside which the sentence about it has room."""
    rows = texts(asyncio.run(health_delivery.credentials(view_of(), sources)))

    [[name, left, cure]] = rows
    assert (name, left) == ("client secret of office365", "unknown")
    assert cure.endswith("Set client_secret_expires_at in inputs.office365.credentials to be warned in time.")


def test_a_credentials_days_are_those_of_the_sentence_beside_them() -> None:
    """179 days and 20 hours are 179 days in both."""
    left = timedelta(days=179, hours=20)
    judged = Judged(1, CredentialEnd("client_secret"), datetime(2027, 5, 1, tzinfo=UTC), left, None, 0)

    assert health_delivery._left_cell(judged).text == "179 d"
    assert (days_words(179.83), days_words(1.6), days_words(0.4)) == ("179 d", "38 h", "10 h")
    assert "in 179 days" in life_text(judged)


def test_a_lake_that_is_gone_is_no_new_installation(sources: Sources, tmp_path: Path) -> None:
    """Health and every page say it, and no page has a nought; the path is for who may see all of it."""
    gone = replace(sources, facts=FactsReader(tmp_path / "lake"))
    viewer = view_of("", Access("vera", Role.VIEWER, tenants=None))

    with running(gone):
        [said] = asyncio.run(health_needs.needs(view_of(), gone)).rows
        [told] = asyncio.run(health_needs.needs(viewer, gone)).rows

    assert said.tone == "critical"
    assert said.text.startswith(f"The lake at {tmp_path / 'lake'} is gone")
    assert told.text.startswith("The lake is gone")
    board = board_of(gone)
    pages = ("overview/figures", "search/hits", "investigate/figures?user=x@y.z")
    for url in (f"/panel/{one}" for one in pages):
        assert "the lake is gone" in asyncio.run(ask(board, url)).text.lower(), url
    assert "the lake is gone" in asyncio.run(ask_sql(board, "/panel/sql/answer", "SELECT 1")).text.lower()
    assert asyncio.run(ask(board, "/api/v1/overview/figures")).status == 503


@guarantee(15)
def test_a_lake_whose_log_is_gone_is_called_so(sources: Sources, tmp_path: Path) -> None:
    """And not moved; an emptied folder of the log was called a lake without records."""
    (tmp_path / "lake" / "audit" / "_delta_log").mkdir(parents=True)
    folder = tmp_path / "lake" / "audit" / "day=2026-11-17"
    folder.mkdir()
    (folder / "merged-1.parquet").write_bytes(b"")
    gone = replace(sources, facts=FactsReader(tmp_path / "lake"))

    with running(gone):
        [said] = asyncio.run(health_needs.needs(view_of(), gone)).rows
        empty = asyncio.run(no_records(view_of(), gone))

    assert said.text == empty.why == "audit/_delta_log has no commit, but files of records lie beside it."
    assert str(said.note) == empty.then


@guarantee(15)
@pytest.mark.parametrize("which", ["middle", "last"])
def test_a_lake_that_lacks_a_batch_is_called_so(sources: Sources, tmp_path: Path, which: str) -> None:
    """No page said that it counts a part, and who looked was sent to a start that is refused."""
    lake = tmp_path / "lake"
    shutil.copytree(str(sources.settings.lake_directory), lake)
    outputs = tuple(
        one.into(lake) if isinstance(one, LakeSection) else one for one in sources.settings.outputs
    )
    other = replace(sources, settings=replace(sources.settings, outputs=outputs), facts=FactsReader(lake))
    last = DeltaTable(lake / "audit").version()
    asked = health_needs.needs(view_of(), other)
    (lake / "audit" / commit_name(last if which == "last" else last // 2)).write_bytes(b"")

    rows = asyncio.run(asked).rows

    [said] = [one for one in rows if "is not whole" in one.text]
    assert said.tone == "critical"
    assert said.text.startswith(
        f"The lake at {lake} is not whole, so that pages lack records or count some twice: "
    )
    assert said.text.endswith(
        f"but the lake ends with batch {last - 1}."
        if which == "last"
        else f"{last // 2:020}.json is empty, and no commit holds batch {last // 2}."
    )
    assert str(said.note).startswith("Put back the lake" if which == "last" else "Put it back from a copy")
    [stopped] = [one for one in rows if one.commands]
    assert str(stopped.note).startswith("Mend the lake first, as no start goes on without; then start it: ")


def test_a_lake_that_goes_while_it_is_read_is_told_too(sources: Sources, tmp_path: Path) -> None:
    """What was opened before is no answer either."""
    shutil.copytree(str(sources.settings.lake_directory), tmp_path / "lake")
    facts = FactsReader(tmp_path / "lake")
    assert asyncio.run(facts.snapshot()).days

    (tmp_path / "lake").rename(tmp_path / "elsewhere")
    with pytest.raises(LakeMissing):
        asyncio.run(facts.snapshot())
    (tmp_path / "elsewhere").rename(tmp_path / "lake")

    assert asyncio.run(facts.snapshot()).days
    facts.close()


def test_the_spread_counts_what_status_counts(sources: Sources) -> None:
    """Every blob that was delivered in these two days is in one bar, however many outputs have it."""
    book = [(key, one) for key, one in read_latency(sources.settings) if key.step is Step.ALL]
    by_output = Counter[str]()
    for key, one in book:
        by_output[key.output] += one.ever.count

    spread = asyncio.run(health_delivery.spread(view_of(), sources))
    steps = asyncio.run(health_delivery.latency(view_of(), sources))

    assert isinstance(spread, Ranking)
    assert isinstance(steps, Grid)
    assert len(by_output) == 2
    assert sum(one.count for one in spread.rows) == spread.total == max(by_output.values()) > 0
    [exchange] = [row for row in steps.rows if row[0].text.startswith("The whole way of Exchange")]
    assert exchange[-1].sorts in {
        sum(one.ever.count for key, one in book if (key.workload, key.output) == ("Exchange", output))
        for output in by_output
    }


def test_whose_scope_is_narrow_sees_no_output(troubled: Sources) -> None:
    """An output's error may speak of any tenant; so may a piece whose blob is forgotten."""
    tenant = feed_of(troubled).tenant_id
    own = Access("ann", Role.VIEWER, frozenset({tenant.lower()}))
    other = Access("bob", Role.VIEWER, frozenset({"00000000-0000-4000-8000-000000000000"}))

    for access, pieces in ((own, 1), (other, 0)):
        view = view_of("", access)
        assert texts(asyncio.run(health_delivery.outputs(view, troubled))) == []
        assert not any("disk" in one.text for one in asyncio.run(health_needs.needs(view, troubled)).rows)
        assert len(texts(asyncio.run(health_delivery.quarantine(view, troubled)))) == pieces
        assert len(texts(asyncio.run(health_delivery.waiting(view, troubled)))) == pieces


def test_of_very_many_feeds_it_is_told_which_were_looked_at(sources: Sources) -> None:
    """No map says that it shows the least complete of feeds that nobody has looked at."""
    cut = health_hours._cut

    assert cut(5, 5) == ""
    assert cut(40, 24) == "the 24 least complete of 40 feeds"
    assert cut(1_000, 24).endswith("of 200 feeds; 800 feeds of tenants in better order were not looked at")
    assert asyncio.run(ledger_reader.feeds_listed(view_of(), sources)) != []


def test_without_a_ledger_every_panel_says_what_to_do(sources: Sources, tmp_path: Path) -> None:
    """None is broken, and none is blank."""
    bare = replace(sources, settings=replace(sources.settings, state_directory=tmp_path))
    board = board_of(bare)
    assert not (tmp_path / LEDGER_FILE).exists()

    files = (("--config", tmp_path / "m365watch.yaml"),)
    told = asyncio.run(overview.health(view_of(), replace(bare, files=files)))
    assert told.empty is not None
    assert told.empty.then == f"This starts one: m365watch run --config {tmp_path / 'm365watch.yaml'}"
    for panel in health.PAGE.panels:
        text = asyncio.run(ask(board, f"/panel/health/{panel.name}")).text
        assert "m365watch run" in text or "detections.notifications" in text, panel.name
        assert "trouble" not in text


def test_throttling_is_seen_over_time(troubled: Sources) -> None:
    """Each throttled answer is in its hour, and somebody of another tenant sees none."""
    now, feed = troubled.clock.now(), feed_of(troubled)
    book = ThrottlingBook()
    for hours in (1, 1, 30):
        book.note(feed.tenant_id, now - hours * HOUR)
    ledger = SqliteLedger(
        troubled.settings.state_directory, outputs=frozenset(troubled.settings.receivers), now=now
    )
    ledger.remember(MEMORY, book.body())
    ledger.close()

    day, week = (
        asyncio.run(health_detecting.throttling(view_of(f"range={one}"), troubled)) for one in ("24h", "7d")
    )
    none = asyncio.run(health_detecting.throttling(view_of("range=7d", STRANGER), troubled))

    assert isinstance(day, Chart)
    assert isinstance(week, Chart)
    assert [sum(sum(line.values) for line in one.lines) for one in (day, week)] == [2, 3]
    assert none.empty


def test_detections_say_what_they_have_judged(sources: Sources) -> None:
    """As many records as the ledger has delivered; nothing waits, and no rule is left out."""
    delivered = sum(
        one.records_delivered for one in read_status(sources.settings, now=sources.clock.now()).feeds
    )

    rows = {row[0]: row[1] for row in texts(asyncio.run(health_detecting.detections(view_of(), sources)))}

    assert rows["Records judged"] == f"{delivered:,}"
    assert rows["Behind"] == rows["Rules left out"] == "0"
    assert int(rows["Rules in force"]) > 100
    assert rows["Second process"] == "in order"


def test_targets_say_whom_nothing_reaches(sources: Sources, tmp_path: Path) -> None:
    """A target that fails says why; one that no run has known says so."""
    targets = {name: slack(name).section for name in ("chat", "other")}
    detections = sources.settings.detections.model_copy(update={"notifications": targets})
    settings = replace(sources.settings, state_directory=tmp_path, detections=detections)
    file = NotificationFile(tmp_path / FILE_NAME)
    with file.transaction():
        file.run("INSERT INTO target (name, since, tries, trouble) VALUES ('chat', 1, 3, 'HTTP 500')")
    file.close()

    grid = texts(asyncio.run(health_detecting.notifications(view_of(), replace(sources, settings=settings))))
    nobody = asyncio.run(health_detecting.notifications(view_of(), sources))

    assert [row[:2] for row in grid] == [["chat", "fails"], ["other", "no run yet"]]
    assert "HTTP 500." in grid[0]
    assert nobody.empty


def test_a_damaged_file_of_notifications_is_what_is_wrong(sources: Sources, tmp_path: Path) -> None:
    """Nobody is told of alerts, and who looks at the board is to know; the panel of targets says so too."""
    targets = {"chat": slack("chat").section}
    state = tmp_path / "state"
    shutil.copytree(sources.settings.state_directory, state)
    (state / FILE_NAME).write_bytes(b"no database at all " * 300)
    detections = sources.settings.detections.model_copy(update={"notifications": targets})
    damaged = replace(
        sources, settings=replace(sources.settings, state_directory=state, detections=detections)
    )
    quiet = replace(sources, settings=replace(sources.settings, state_directory=state))

    def told(of: Sources) -> list[str]:
        said = asyncio.run(health_needs.needs(view_of(), of)).rows
        return [f"{one.text} {one.note}" for one in said if "notifications" in one.text]

    [line] = told(damaged)
    assert line.startswith("The file of notifications cannot be used: ")
    assert "Move it away" in line
    assert told(quiet) == []
    with pytest.raises(OutputUnusable, match="the file of notifications cannot be used"):
        asyncio.run(health_detecting.notifications(view_of(), damaged))
