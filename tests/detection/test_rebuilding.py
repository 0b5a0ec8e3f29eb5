"""A file of detections that was lost is made anew: the same alerts, in the state in which they were."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.config.models.retention import Retention, TableRetention
from m365watch.detection.alert_store_rebuild import Rebuild, RebuildAsked, Rebuilt, is_rebuilding
from m365watch.detection.alerts.lake_sync import Shelving
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import AlertsAsked, list_alerts, read_figures
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.alert_table import AlertShelf
from m365watch.detection.store.database_recovery import RebuildStopped, partial_of
from m365watch.detection.store.detection_store import DetectionState
from m365watch.lake.delta.table_files import silently
from m365watch.lake.maintenance.retention import retain
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.records.headers import headers_of
from m365watch_testing.batches import TENANT, make_batch, make_part
from m365watch_testing.clock import FakeClock
from rules import load_good, record, rule_text
from test_any_order import KNOWLEDGE, NOW, load_rules, make_records


class Site:
    """A state directory and a lake, filled by a run."""

    def __init__(self, folder: Path, rules: Sequence[Rule]) -> None:
        self.path = folder / FILE_NAME
        self.lake = folder / "lake"
        self.rules = rules
        self.now = NOW
        self.numbers = iter(range(1, 10_000))

    def collect(self, records: Sequence[bytes], *, cut: int = 23) -> None:
        """Records come, in batches, into the lake and past the rules; the alerts lie in the lake then."""
        writer = AuditWriter(self.lake, app_id="test")
        with_state = DetectionState(self.path, survives_power_cuts=False)
        engine = Engine(self.rules, with_state, knowledge=KNOWLEDGE)
        for start in range(0, len(records), cut):
            batch, number = records[start : start + cut], next(self.numbers)
            part = replace(make_part(batch, outputs=["lake"]), received_at=self.now)
            writer.append(make_batch(number, [part]))
            portion = Portion(TENANT, self.now, batch, headers_of(batch))
            engine.take([portion], number=number, now=self.now)
        engine.look(now=self.now)
        self.bring(with_state)
        with_state.close()

    def bring(self, state: DetectionState) -> None:
        shelf = AlertShelf("lake", self.lake, writer="w", clock=FakeClock(self.now), takes=lambda _: True)
        assert Shelving(state, [shelf]).bring().is_done

    def decide(self, dice: random.Random) -> None:
        """An analyst has looked at some of the alerts."""
        state = DetectionState(self.path)
        with state.transaction():
            for kept in state.alerts.list():
                wanted = dice.choice([*AlertState])
                said = f"it is {dice.random()}"
                if wanted is not AlertState.OPEN:
                    state.alerts.set_state(kept.alert.id, wanted, reason=said, by="ann", at_ms=1_000)
        self.bring(state)
        state.close()

    def alerts(self) -> list[KeptAlert]:
        """What there is to see, without the order of former ids."""
        state = DetectionState(self.path)
        found = state.alerts.list()
        for kept in found:
            for former in kept.alert.formerly:
                assert state.alerts.find(former) == kept
        state.close()
        return [
            replace(
                one, alert=replace(one.alert, formerly=tuple(sorted(one.alert.formerly))), is_put_back=False
            )
            for one in found
        ]

    def rebuild(self, *, stops_after: int | None = None) -> Rebuilt:
        left = [stops_after]

        def is_stopping() -> bool:
            if left[0] is not None:
                left[0] -= 1
            return left[0] is not None and left[0] < 0

        asked = RebuildAsked(self.path, (self.lake,), self.rules, "same", knowledge=KNOWLEDGE)
        clock = FakeClock(self.now)
        return Rebuild(asked, clock=clock, progress=lambda *_: None, is_stopping=is_stopping).run()

    def lose(self) -> None:
        for path in self.path.parent.glob(f"{FILE_NAME}*"):
            path.unlink()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A rule that finds A, each user by itself."""
    rules = load_good(tmp_path, rule_text({"s": {"Operation": "A"}, "condition": "s"})).rules
    return Site(tmp_path, rules)


@guarantee(37)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_lost_file_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Rules of every kind, records in any order, alerts in any state, and a crash now and then."""
    dice = random.Random(seed)
    place = Site(tmp_path_factory.mktemp("site"), load_rules(tmp_path_factory.getbasetemp()))
    records = make_records(dice, 100)
    dice.shuffle(records)
    place.collect(records)
    place.decide(dice)
    before = place.alerts()
    place.lose()

    for stops_after in (*dice.sample(range(3), 2), None):
        try:
            place.rebuild(stops_after=stops_after)
        except RebuildStopped:
            assert is_rebuilding(place.path)
            assert not place.path.exists()
        if place.path.exists():
            break

    assert place.alerts() == before
    assert {kept.state for kept in before} == {*AlertState}
    assert not is_rebuilding(place.path)
    assert [path.name for path in place.path.parent.glob("detections*")] == [FILE_NAME]


@guarantee(37)
@pytest.mark.slow
def test_a_run_goes_on_with_the_new_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What comes later gives what it would have given: no memory is lost."""
    rules = load_rules(tmp_path_factory.getbasetemp())
    lost, kept = (Site(tmp_path_factory.mktemp("site"), rules) for _ in range(2))
    records = make_records(random.Random(7), 160)
    for place in (lost, kept):
        place.collect(records[:80])
    lost.lose()
    lost.rebuild()
    for place in (lost, kept):
        place.collect(records[80:])

    assert lost.alerts() == kept.alerts()


@guarantee(37)
def test_alerts_outlive_their_records(site: Site) -> None:
    """The lake keeps records for less long than alerts: those come back as they were."""
    site.collect([record(0, Operation="A", UserId="old@contoso.example"), record(2 * 86_400, Operation="A")])
    site.decide(random.Random(2))
    before = site.alerts()
    tables = {"cloud.office365.alerts": TableRetention(days=365)}
    retain(site.lake, Retention(days=2, tables=tables), clock=FakeClock(site.now), progress=silently)
    site.lose()

    told = site.rebuild()

    assert (told.records, told.restored, told.put_back) == (1, 2, 1)
    assert site.alerts() == before


def test_an_alert_older_than_what_is_looked_at_is_taken_from_the_lake(site: Site) -> None:
    """Up to 90 days back, as the file itself keeps them; no alert is made of half of its records."""
    rules = load_good(site.path.parent, rule_text(
        {"s": {"Operation": "A"}, "condition": "s"},
        m365watch={"first_seen": {"key": ["UserId"], "period": "3d", "learn": "1h"}},
    )).rules  # fmt: skip
    site.rules = rules
    site.collect([record(0), record(86_400, Operation="A")])
    before = site.alerts()
    site.lose()
    site.now = NOW + timedelta(days=30)
    site.rebuild()
    assert (len(before), site.alerts()) == (1, before)

    site.lose()
    site.now = NOW + timedelta(days=91)
    site.rebuild()
    assert site.alerts() == []


def test_the_file_that_is_there_is_kept(site: Site) -> None:
    """Until the new one is complete it stays in its place, and then lies beside it."""
    site.collect([record(0, Operation="A")])
    before = site.path.read_bytes()
    with pytest.raises(RebuildStopped):
        site.rebuild(stops_after=0)
    assert site.path.read_bytes() == before
    site.rebuild()

    [kept] = site.path.parent.glob("detections-*.replaced.sqlite")
    assert kept.read_bytes() == before


def test_whoever_asks_meanwhile_is_told_how_far_it_is(site: Site) -> None:
    """Commands on alerts, and `status`."""
    site.collect([record(0, Operation="A"), record(3 * 86_400, Operation="A")])
    site.lose()
    with pytest.raises(RebuildStopped):
        site.rebuild(stops_after=1)

    figures = read_figures(site.path)
    assert figures is not None
    assert figures.rebuilt_percent is not None
    assert 50 < figures.rebuilt_percent < 100
    with pytest.raises(OutputUnusable, match=f"made anew.* {figures.rebuilt_percent} % is done"):
        list_alerts(site.path, AlertsAsked())


def test_other_rules_begin_it_anew(site: Site) -> None:
    """Half of the days by one set of rules and half by another would be neither."""
    site.collect([record(0, Operation="A"), record(86_400, Operation="B")])
    with pytest.raises(RebuildStopped):
        site.rebuild(stops_after=1)
    rules = load_good(site.path.parent, rule_text({"s": {"Operation": "B"}, "condition": "s"})).rules
    asked = RebuildAsked(site.path, (site.lake,), rules, "other", knowledge=KNOWLEDGE)
    told = Rebuild(asked, clock=FakeClock(site.now), progress=lambda *_: None).run()

    assert told.records == 2


def test_a_crash_before_the_new_name_costs_nothing(site: Site) -> None:
    """A complete file waits for its place, and no record is looked at again."""
    site.collect([record(0, Operation="A")])
    before = site.alerts()
    site.lose()
    site.rebuild()
    site.path.rename(partial_of(site.path))

    assert site.rebuild().records == 0
    assert site.alerts() == before


def test_a_lake_that_cannot_be_read_is_told_and_asked_again(site: Site) -> None:
    """The next try goes on."""
    site.collect([record(0, Operation="A")])
    site.lose()
    [path] = (site.lake / "audit").glob("*/*.parquet")
    body = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(OutputUnavailable, match="the lake cannot be read"):
        site.rebuild()
    path.write_bytes(body)

    assert site.rebuild().alerts == 1
