from __future__ import annotations

from datetime import timedelta
from random import Random
from statistics import median

from caller import START
from m365watch_simulator.feed.lateness import HOUR, Calendar, Part, whole_hour
from m365watch_simulator.service.scenario import Behaviour, Incident

HOURS = [whole_hour(START) - number * HOUR for number in range(24, 2000)]


def calendar(*, live: bool = True, incident: Incident | None = None) -> Calendar:
    return Calendar(seed="5/tenant", epoch=START, behaviour=Behaviour(incident=incident), live=live)


def test_most_records_come_half_an_hour_to_an_hour_late() -> None:
    """Contract 7.6: the median lies between 30 and 60 minutes."""
    plan, random = calendar(), Random(1)
    late_s = sorted(
        (plan.created_at(plan.releases(hour)[0], happened_at=hour, random=random) - hour).total_seconds()
        for hour in HOURS
    )
    assert 1800 < median(late_s) < 3600
    assert late_s[0] >= 300


def test_some_records_come_one_to_three_days_late() -> None:
    """Contract 7.6: a tail of 24 to 72 h."""
    late = [
        release.earliest - hour
        for hour in HOURS
        for release in calendar().releases(hour)
        if release.part is Part.STRAGGLERS
    ]
    assert len(late) > 50
    assert timedelta(hours=24) < min(late) < timedelta(hours=30)
    assert timedelta(hours=66) < max(late) <= timedelta(hours=73)


def test_some_records_come_again_days_later() -> None:
    """Contract 7.6: duplicates in blobs days apart; none where the switch is off."""
    again = [
        release.earliest - hour
        for hour in HOURS
        for release in calendar().releases(hour)
        if release.part is Part.ECHO
    ]
    assert max(again) > timedelta(days=3)
    assert min(again) > timedelta(hours=4)


def test_an_incident_holds_everything_until_its_end() -> None:
    """Contract 7.6: what happened in it comes out together, and again after that."""
    plan = calendar(incident=Incident(began_h_ago=96, hours=24, released_h_ago=40))
    during = [hour for hour in HOURS if START - 96 * HOUR <= hour < START - 72 * HOUR]
    releases = [plan.releases(hour) for hour in during]
    assert {release[0].earliest for release in releases} == {START - 40 * HOUR}
    assert all(release[-1].part is Part.ECHO for release in releases)


def test_a_plan_contains_every_blob_it_leads_to() -> None:
    """Listings make only the hours whose plan says so: a blob outside its release would be missed."""
    random = Random(2)
    for live in (True, False):
        plan = calendar(live=live, incident=Incident(began_h_ago=50, hours=5, released_h_ago=10))
        for hour in [START - number * HOUR / 2 for number in range(1, 200)]:
            for release in plan.releases(whole_hour(hour)):
                created_at = plan.created_at(release, happened_at=hour, random=random)
                assert release.overlaps(created_at, created_at + timedelta(milliseconds=1))
                assert created_at >= hour


def test_a_frozen_plan_ends_at_the_start() -> None:
    """`live=False`: every blob is out by then."""
    plan, random = calendar(live=False), Random(3)
    for hour in [START - number * HOUR / 4 for number in range(1, 400)]:
        for release in plan.releases(whole_hour(hour)):
            assert plan.created_at(release, happened_at=hour, random=random) <= START
