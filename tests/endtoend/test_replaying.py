"""Records of the lake delivered again: all of them once, in the order of time, in nobody's way."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from commands import command
from hurry import HurriedClock, run_hurried
from m365watch.common.clock import system_random
from m365watch.common.errors import LedgerHeld, SettingsRefused
from m365watch.common.model import ContentType, Window
from m365watch.lake.record_scan import LakeScan, ScanAsked
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.runtime.replay_run import Replay, ReplayOutcome, find_tenants
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from place import BOTH, LAKE, Place, records_in_files, records_in_lake

FILES_TOO = {"files2": {"type": "files", "config": {"directory": "again", "compression": "none"}}, **BOTH}
SETTINGS_OF_TWO_DAYS = SimulationSettings(seed=5, days=2, records_per_day=100, page_size=50, live=False)
SETTINGS = SimulationSettings(seed=5, days=6, records_per_day=300, page_size=50, live=False)


class Replays:
    """A lake that was collected, and replays of it."""

    def __init__(self, folder: Path, settings: SimulationSettings = SETTINGS) -> None:
        self._settings = settings
        self.place = Place(folder)
        self.clock = HurriedClock()
        self.document: dict[str, Any] = {}
        run_hurried(self._collect())
        self.period = Window(self.clock.now() - timedelta(days=8), self.clock.now())

    async def _collect(self) -> None:
        async with simulator_running(self._settings, clock=self.clock) as running:
            self.document = running.configuration(outputs=BOTH)
            outcome = await self.place.collector(self.document, self.clock).run(
                once=True, stop=asyncio.Event()
            )
            assert outcome.exit_code == 0

    @property
    def lake(self) -> list[bytes]:
        return records_in_lake(self.place.folder / "lake")

    @property
    def state(self) -> Path:
        return self.place.settings(self.document).state_directory

    def replay(
        self,
        output: str = "files2",
        *,
        outputs: Mapping[str, Any] = FILES_TOO,
        inputs: Mapping[str, Any] | None = None,
        **asked: Any,
    ) -> Replay:
        document = self.document | {"outputs": dict(outputs), "inputs": inputs or self.document["inputs"]}
        settings = self.place.settings(document)
        wanted = ScanAsked(asked.pop("period", self.period), **asked)
        return Replay(settings, wanted, output, clock=self.clock, random=system_random(1))

    def run(self, one: Replay, stop: asyncio.Event | None = None) -> ReplayOutcome:
        return run_hurried(one.run(stop or asyncio.Event()))


@pytest.fixture(scope="module")
def replays(tmp_path_factory: pytest.TempPathFactory) -> Replays:
    """One lake for all tests of this page: none of them changes it."""
    return Replays(tmp_path_factory.mktemp("replay"))


def held(one: Replay) -> list[bytes]:
    assert one.directory is not None
    return records_in_files(one.directory)


@guarantee(8)
@pytest.mark.slow
def test_every_record_of_the_period_is_delivered_once(replays: Replays) -> None:
    """Byte for byte, into a folder of the replay's own; the same command does not do it twice."""
    one = replays.replay()
    outcome = replays.run(one)

    assert (outcome.exit_code, outcome.is_done, outcome.problems) == (0, True, ())
    assert Counter(held(one)) == Counter(replays.lake)
    assert outcome.records == len(replays.lake)
    assert one.was_done
    assert replays.run(one).records == outcome.records
    assert Counter(held(one)) == Counter(replays.lake)


@pytest.mark.slow
def test_a_replay_that_begins_anew_delivers_all_again(replays: Replays) -> None:
    """What the earlier one had written is gone, so that nothing is there twice."""
    one = replays.replay(content_types=frozenset({ContentType.SHAREPOINT}))
    first = replays.run(one)
    one.forget()

    assert not one.was_done
    assert replays.run(one).records == first.records == len(held(one)) > 0


def test_a_table_that_the_lake_does_not_have_is_refused(replays: Replays) -> None:
    """With those near by; one that has no record in the period is none of that."""
    with pytest.raises(
        SettingsRefused, match="--table exchang: the lake has no such table; near are exchange"
    ):
        replays.run(replays.replay(table="exchang"))
    with pytest.raises(SettingsRefused, match=r"there are .*exchange"):
        replays.run(replays.replay(table="bogus"))
    early = Window(replays.period.start - timedelta(days=9), replays.period.start - timedelta(days=8))
    outcome = replays.run(replays.replay(table="exchange", period=early))

    assert (outcome.exit_code, outcome.records) == (0, 0)


@guarantee(8)
def test_it_disturbs_no_collector(replays: Replays) -> None:
    """It runs while the ledger is held, and the ledger is afterwards what it was."""

    def rows() -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(replays.state / LEDGER_FILE)) as connection:
            tables = ("output", "batch", "feed", "memory")
            return [row for name in tables for row in connection.execute(f"SELECT * FROM {name}")]

    before, files = rows(), records_in_files(replays.place.folder / "out")
    holder = SqliteLedger(replays.state, outputs=frozenset({"files", "lake"}), now=replays.clock.now())
    try:
        one = replays.replay("files", outputs=BOTH)
        assert replays.run(one).exit_code == 0
    finally:
        holder.close()

    assert Counter(held(one)) == Counter(replays.lake)
    assert (rows(), records_in_files(replays.place.folder / "out")) == (before, files)


@guarantee(8)
def test_it_disturbs_no_collector_that_is_at_work(tmp_path: Path) -> None:
    """While older days are collected, what is there is delivered again: each whole, and nothing twice."""
    replays = Replays(tmp_path, SETTINGS_OF_TWO_DAYS)
    first = Counter(replays.lake)

    async def both() -> tuple[int, int]:
        longer = replace(SETTINGS_OF_TWO_DAYS, days=4)
        async with simulator_running(longer, clock=replays.clock) as running:
            document = running.configuration(outputs=BOTH)
            collector = replays.place.collector(document, replays.clock)
            collected = asyncio.create_task(collector.run(once=True, stop=asyncio.Event()))
            replayed = await one.run(asyncio.Event())
            return (await collected).exit_code, replayed.exit_code

    one = replays.replay()
    assert run_hurried(both()) == (0, 0)

    holdings = {name: Counter(records) for name, records in replays.place.holdings().items()}
    assert holdings["files"] == holdings["lake"]
    assert holdings["lake"] > first
    assert first <= Counter(held(one)) <= holdings["lake"]


@guarantee(8)
def test_a_replay_raises_no_alert(replays: Replays) -> None:
    """The records went past the rules when they came: the detections stay as they are."""
    live = replays.state / "detections.sqlite"
    before = [path.read_bytes() for path in sorted(replays.state.glob("detections.sqlite*"))]
    one = replays.replay(content_types=frozenset({ContentType.EXCHANGE}), outputs=FILES_TOO)
    assert replays.run(one).exit_code == 0

    assert live.is_file()
    assert [path.read_bytes() for path in sorted(replays.state.glob("detections.sqlite*"))] == before
    assert list((replays.state / "replays").rglob("detections*")) == []


def test_the_same_replay_does_not_run_twice_at_once(replays: Replays) -> None:
    """The second one says who runs."""
    one = replays.replay(content_types=frozenset({ContentType.DLP}))
    replays.run(one)
    name = one.directory.name if one.directory else ""
    other = SqliteLedger(
        replays.state / "replays" / name, outputs=frozenset({"files2"}), now=replays.clock.now()
    )
    try:
        with pytest.raises(LedgerHeld):
            replays.run(one)
        with pytest.raises(LedgerHeld):
            one.forget()
    finally:
        other.close()


@guarantee(8)
def test_a_stopped_replay_goes_on_and_nothing_is_there_twice(replays: Replays) -> None:
    """A second start with the same arguments delivers the rest."""
    period = Window(replays.period.start, replays.period.end - timedelta(hours=1))
    one = replays.replay(period=period)

    async def stopped() -> ReplayOutcome:
        stop = asyncio.Event()
        running = asyncio.create_task(one.run(stop))
        while one.collector.progress().caught_up is False and not _delivered(one):
            await asyncio.sleep(0.01)
        stop.set()
        return await running

    first = run_hurried(stopped())
    second = replays.run(one)

    assert first.records < second.records
    assert (first.exit_code, first.is_done) == (1, False)
    assert (second.exit_code, second.went_on, second.is_done) == (0, True, True)
    assert max(Counter(held(one)).values()) == 1
    assert len(held(one)) == second.records


def _delivered(one: Replay) -> bool:
    return any(feed.records_delivered for feed in one.collector.progress().feeds)


def test_the_order_is_that_of_time(replays: Replays) -> None:
    """Slice by slice, and in a slice feed by feed."""
    scan = LakeScan(replays.place.folder / "lake", ScanAsked(replays.period))
    spans = list(scan.spans(replays.period.start))
    feed = scan.feeds()[1]
    found = [
        json.loads(record)["CreationTime"]
        for span in spans
        for record in scan.read(span, bounded=True).get(feed, [])
    ]

    assert found == sorted(found)
    assert all(one.end <= after.start for one, after in pairwise(spans))


@pytest.mark.slow
def test_only_what_is_asked_for_is_delivered(replays: Replays) -> None:
    """By service, by table in full or in part, by period."""
    half = Window(replays.period.start, replays.period.end - timedelta(days=3))
    for asked in (
        {"content_types": frozenset({ContentType.EXCHANGE})},
        {"table": "exchange"},
        {"table": "cloud.office365.management.exchange"},
        {"period": half},
    ):
        one = replays.replay(**asked)
        outcome = replays.run(one)
        assert 0 < outcome.records == len(held(one)) < len(replays.lake)
        assert set(held(one)) < set(replays.lake)


def test_only_the_tenant_that_is_asked_for_is_delivered(replays: Replays) -> None:
    """By id or by input; its replay is another than that of all, and one that is unknown is refused."""
    settings = replays.place.settings(replays.document)
    [mine] = {tenant.tenant_id for tenant in settings.tenants}
    nobody = "99999999-9999-4999-8999-999999999999"

    assert find_tenants(settings, ["Office365"]) == find_tenants(settings, [mine.upper()]) == {mine}
    with pytest.raises(SettingsRefused, match="--tenant bogus: is no GUID and no input; there are office365"):
        find_tenants(settings, ["bogus"])
    everybody, one = replays.replay(), replays.replay(tenant_ids=frozenset({mine}))
    assert everybody.directory != one.directory
    assert replays.run(one).records == len(held(one)) == len(replays.lake)
    with pytest.raises(SettingsRefused, match=f"no record of it; it has those of {mine}"):
        replays.run(replays.replay(tenant_ids=find_tenants(settings, [nobody])))


def test_a_tenant_whose_records_do_not_go_to_the_output_is_refused(replays: Replays) -> None:
    """Another customer's output is no place for them, asked for or not."""
    [(name, section)] = replays.document["inputs"].items()
    [tenant] = replays.place.settings(replays.document).tenants
    other = deepcopy(section) | {"outputs": ["lake"]}

    with pytest.raises(SettingsRefused, match="its records do not go to output files2"):
        replays.replay(inputs={name: other}, tenant_ids=frozenset({tenant.tenant_id}))


@pytest.mark.parametrize("who", ["excluded", "left"])
def test_an_output_gets_only_the_records_of_the_tenants_that_have_it(replays: Replays, who: str) -> None:
    """The lake also has those of tenants that have left; another customer's output is no place for them."""
    [(name, section)] = replays.document["inputs"].items()
    outputs = ["lake"] if who == "excluded" else ["lake", "files2"]
    other = deepcopy(section) | {"outputs": outputs}
    if who == "left":
        other["credentials"]["tenant_id"] = "99999999-9999-4999-8999-999999999999"
    period = Window(replays.period.start + timedelta(seconds=len(who)), replays.period.end)

    one = replays.replay(inputs={name: other}, period=period)
    outcome = replays.run(one)

    assert (outcome.exit_code, outcome.records, held(one)) == (0, 0, [])


@guarantee(8)
def test_the_masks_of_today_are_applied(replays: Replays) -> None:
    """A rule that was added after the records had arrived."""
    document = json.loads(json.dumps(replays.document))
    document["inputs"]["office365"]["services"]["exchange"] = {
        "obfuscation_data": [{"name": ["UserId"], "value": "nobody"}]
    }
    settings = replays.place.settings(document | {"outputs": FILES_TOO})
    asked = ScanAsked(replays.period, content_types=frozenset({ContentType.EXCHANGE}), table="exchange")
    one = Replay(settings, asked, "files2", clock=replays.clock, random=system_random(1))

    assert replays.run(one).records == len(held(one)) > 0
    assert {json.loads(record)["UserId"] for record in held(one)} == {"nobody"}


@pytest.mark.parametrize(
    ("output", "outputs", "says"),
    [
        ("lake", BOTH, "is a lake"),
        ("nobody", BOTH, "the configuration has files, lake"),
        ("out", {"out": {"type": "files", "config": {"directory": "out"}}}, "no output is one"),
        ("lake", {"lake": LAKE}, "is a lake"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    replays: Replays, output: str, outputs: Mapping[str, Any], says: str
) -> None:
    """Clearly, and before anything is opened."""
    with pytest.raises(SettingsRefused, match=says):
        replays.replay(output, outputs=outputs)


@guarantee(8)
def test_records_on_stdout_are_in_the_order_of_time(replays: Replays) -> None:
    """And nothing else is there; the account goes to stderr."""
    document = replays.document | {"outputs": {"console": {"type": "console", "config": {}}, **BOTH}}
    file = replays.place.folder / "m365watch.json"
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    # The simulated clock's day lies before the machine's.
    start, end = (f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in (replays.period.start, replays.period.end))
    arguments = ("--from", start, "--to", end, "--output", "console", "--service", "exchange", "--json")

    answer = asyncio.run(command("replay", "--config", str(file), *arguments))

    lines = answer.out.splitlines()
    times = [json.loads(line)["CreationTime"] for line in lines]
    assert (answer.exit_code, times) == (0, sorted(times))
    assert json.loads(answer.err.splitlines()[-1])["records"] == len(lines) > 0
