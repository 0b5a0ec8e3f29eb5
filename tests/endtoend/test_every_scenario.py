from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from hurry import PATIENCE_HURRIED_S, HurriedClock, run_hurried
from m365watch.common.model import ContentType
from m365watch.health.checks.check_specs import Surface, trouble_for
from m365watch.registry.checks import Checked
from m365watch.runtime.collector_run import Outcome
from m365watch_simulator.feed.subscriptions import Subscriptions
from m365watch_simulator.service.scenario import Call, Scenario, load_scenario, scenario_names
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Truth, Verdict
from place import BOTH, Place, assert_discreet

REFUSED = {
    "application-disabled": "AADSTS7000112",
    "audit-never-enabled": "auditing was never enabled",
    "no-consent": "AADSTS700016",
    "no-roles": "AF10001",
    "secret-expired": "AADSTS7000222",
}
"""The scenarios in which nothing can be had, and what is said of each."""

UNKNOWN = ("invalid-key", "unknown-blob")
"""Content that the service says it does not know is asked for again before it counts as lost."""

UNSUBSCRIBED = ("subscription-disabled", "subscription-lost")
"""A subscription that the collector has just started cannot be started again for 15 minutes."""

OTHERWISE = (
    *REFUSED,
    *UNKNOWN,
    *UNSUBSCRIBED,
    "expired",
    "late-appearance",
    "notifications-astray",
    "poison",
    "stop-start-limbo",
)
"""The scenarios that have a test of their own; that of the notifications is `test_webhook.py`."""

FLAWLESS = Verdict([], [], [])


@dataclass(frozen=True, slots=True)
class Ran:
    """How the runs against one simulator ended."""

    outcomes: list[Outcome]
    truth: Truth

    @property
    def exit_codes(self) -> list[int]:
        return [outcome.exit_code for outcome in self.outcomes]

    def count(self, name: str) -> int:
        """A figure of all feeds together after the last run."""
        return sum(getattr(feed, name) for feed in self.outcomes[-1].progress.feeds)


async def run_once(
    place: Place, running: RunningSimulator, clock: HurriedClock, outputs: Mapping[str, Any]
) -> Outcome:
    """A run with `--once`; what it said is searched for what must not be said."""
    with capture_logs() as said:
        async with asyncio.timeout(PATIENCE_HURRIED_S):
            collector = place.collector(running.configuration(outputs=outputs), clock)
            outcome = await collector.run(once=True, stop=asyncio.Event())
    text = "\n".join([*map(str, said), *outcome.problems, *map(str, outcome.waiting)])
    identity = running.tenants[0].identity
    records = running.tenants[0].truth().records()
    assert_discreet(text, secrets=[identity.client_secret], records=records)
    return outcome


def settings_of(scenario: Scenario) -> SimulationSettings:
    """A tenant of a day and a hundred records, on pages so small that listings have many."""
    return SimulationSettings(seed=5, days=1, records_per_day=120, page_size=5, scenario=scenario, live=False)


def ran(
    place: Place,
    name: str | None,
    *,
    runs: int = 1,
    skip_s: float = 0.0,
    prepare: Callable[[Subscriptions, datetime], None] | None = None,
    outputs: Mapping[str, Any] = BOTH,
) -> Ran:
    """`runs` runs against the scenario `name`, `skip_s` apart; `prepare` comes before the first."""

    async def run() -> Ran:
        clock = HurriedClock()
        scenario = Scenario() if name is None else load_scenario(name)
        async with simulator_running(settings_of(scenario), clock=clock) as running:
            if prepare is not None:
                prepare(running.tenants[0].subscriptions, clock.now())
            outcomes = [await run_once(place, running, clock, outputs)]
            for _ in range(runs - 1):
                clock.skip(skip_s)
                outcomes.append(await run_once(place, running, clock, outputs))
            check_requests(scenario, running.report)
            return Ran(outcomes, running.tenants[0].truth())

    return run_hurried(run())


def check_requests(scenario: Scenario, report: Mapping[str, Any]) -> None:
    """The run met the scenario's faults, and none of them led a request astray."""
    assert bool(report["faults"]) == any(rule.on != (Call.CONTENT,) for rule in scenario.rules)
    assert report["violations"] == []
    assert report["requests_without_publisher"] == 0


def judged(place: Place, truth: Truth) -> dict[str, Verdict]:
    return {name: truth.judge(records) for name, records in place.holdings().items()}


@pytest.mark.parametrize(("name", "lacking"), [("no-dlp-role", 1), (None, 0)])
def test_a_run_and_its_status_name_a_missing_permission(
    name: str | None, lacking: int, tmp_path: Path
) -> None:
    async def run() -> tuple[list[str], list[Checked]]:
        clock = HurriedClock()
        scenario = Scenario() if name is None else load_scenario(name)
        async with simulator_running(settings_of(scenario), clock=clock) as running:
            document = running.configuration(outputs=BOTH)
            with capture_logs() as said:
                await Place(tmp_path).collector(document, clock).run(once=True, stop=asyncio.Event())
            warned = [one["event"] for one in said if "ActivityFeed.ReadDlp is missing" in one["event"]]
            return warned, trouble_for(Surface.STATUS, Place(tmp_path).settings(document), clock)["roles"]

    warned, shown = run_hurried(run())

    assert len(warned) == len(shown) == lacking
    assert all("ActivityFeed.ReadDlp is missing" in one.seen and one.fix for one in shown)


@guarantee(1, 24)
@pytest.mark.parametrize("name", [name for name in scenario_names() if name not in OTHERWISE])
def test_a_passing_fault_costs_no_record(name: str, tmp_path: Path) -> None:
    """Whatever passes leaves nothing missing, repeated or altered, in files and in the lake."""
    place = Place(tmp_path)
    end = ran(place, name)

    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}
    assert end.exit_codes == [0]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("bom", "files"),
        ("nan", "files"),
        ("truncated", "files"),
        ("lone-surrogate", "lake"),
        ("pretty-array", "lake"),
        ("without-id", "lake"),
    ],
)
def test_a_strange_body_costs_a_lone_output_no_record(name: str, output: str, tmp_path: Path) -> None:
    """To one that is alone, records come as they lie in their blob, where its form allows that."""
    place = Place(tmp_path)
    end = ran(place, name, outputs={output: BOTH[output]})

    assert judged(place, end.truth) == {output: FLAWLESS}
    assert end.exit_codes == [0]
    assert end.outcomes[0].problems == ()
    assert end.count("records_delivered") == end.truth.record_count > 100
    assert end.count("records_quarantined") == end.truth.unreadable == len(place.quarantined())
    assert end.count("blobs_lost") == end.count("blobs_waiting") == 0


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_told_and_costs_nothing(name: str, tmp_path: Path) -> None:
    """Exit code 1, one line that says what to do, and everything is there once it was done."""
    place = Place(tmp_path)
    refused = ran(place, name)
    mended = ran(place, None)

    assert refused.exit_codes == [1]
    assert REFUSED[name] in refused.outcomes[0].problems[0]
    assert len(refused.outcomes[0].problems) == 1
    assert refused.count("blobs_lost") == 0
    assert mended.exit_codes == [0]
    assert judged(place, mended.truth) == {"files": FLAWLESS, "lake": FLAWLESS}


@guarantee(3)
def test_poison_holds_nobody_up_and_is_named(tmp_path: Path) -> None:
    """Blobs that fail for ever wait by name, with exit code 3; everything else is delivered."""
    place = Place(tmp_path)
    end = ran(place, "poison")

    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}
    assert end.exit_codes == [3]
    assert len(end.outcomes[0].waiting) == end.truth.blobs_out_of_reach > 0
    assert all("HTTP 500" in waiting.last_error for waiting in end.outcomes[0].waiting)


@guarantee(3)
def test_expired_content_is_counted_as_lost(tmp_path: Path) -> None:
    """What the service no longer serves is lost in plain sight, and the run is done."""
    place = Place(tmp_path)
    end = ran(place, "expired")

    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}
    assert end.exit_codes == [0]
    assert end.count("blobs_lost") == end.truth.blobs_out_of_reach > 0


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_content_is_asked_for_again_until_it_expires(name: str, tmp_path: Path) -> None:
    """That the service does not know its own blob is not believed, however often it says so."""
    place = Place(tmp_path)
    end = ran(place, name, runs=4)

    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}
    assert end.exit_codes == [3, 3, 3, 3]
    assert end.count("blobs_waiting") == end.truth.blobs_out_of_reach > 0


@guarantee(2)
def test_content_that_appears_late_is_found_by_the_next_run(tmp_path: Path) -> None:
    """The lookback lists again what was listed before."""
    place = Place(tmp_path)
    end = ran(place, "late-appearance", runs=2, skip_s=1_800)

    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}
    assert end.exit_codes == [0, 0]


@guarantee(4)
def test_a_subscription_that_is_disabled_is_started_again(tmp_path: Path) -> None:
    """Within the run, as long as the last start is not too recent."""
    place = Place(tmp_path)
    end = ran(place, "subscription-disabled", prepare=subscribe)

    assert end.exit_codes == [0]
    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSUBSCRIBED)
def test_a_subscription_that_goes_again_and_again_costs_patience_only(name: str, tmp_path: Path) -> None:
    """A run that may not start it yet says so with exit code 1; a later one has every record."""
    place = Place(tmp_path)
    end = ran(place, name, runs=4, skip_s=900)

    assert end.exit_codes[0] == 1
    assert all("AF2002" in problem for problem in end.outcomes[0].problems)
    assert end.exit_codes[-1] == 0
    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}


@guarantee(4)
def test_a_subscription_in_limbo_is_told_and_waited_for(tmp_path: Path) -> None:
    """Stop and start at once leaves a feed dead for a while: the others go on, it catches up."""
    place = Place(tmp_path)
    end = ran(place, "stop-start-limbo", runs=2, skip_s=900, prepare=stop_and_start_exchange)

    assert end.exit_codes == [1, 0]
    assert [problem for problem in end.outcomes[0].problems if "AF20023" in problem] != []
    assert judged(place, end.truth) == {"files": FLAWLESS, "lake": FLAWLESS}


def subscribe(subscriptions: Subscriptions, now: datetime) -> None:
    for content_type in ContentType:
        subscriptions.start(content_type, now)


def stop_and_start_exchange(subscriptions: Subscriptions, now: datetime) -> None:
    subscriptions.start(ContentType.EXCHANGE, now)
    subscriptions.stop(ContentType.EXCHANGE, now)
    subscriptions.start(ContentType.EXCHANGE, now)
