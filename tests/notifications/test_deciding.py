"""What a target is to be told, decided from what it was told and what is."""

from __future__ import annotations

from itertools import product

import pytest
from channels_configured import URL, channel_of, wanting
from promises import guarantee

from m365watch.config.models.notifications import ChannelSection
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import Manner, Standing, Tiding, Told
from m365watch.notifications.notification_policy import (
    FORGOTTEN_MS,
    GATHER_MS,
    MINUTE_MS,
    Due,
    Move,
    Waiting,
    choose,
    decide,
    wants,
)
from notify_scene import START_MS, TENANT, make_alert

NOW = START_MS + 1_000
TELLS_CLOSED = channel_of("webhook", "soc", webhook_url=URL).section
ALERT = make_alert()
OPEN = Standing(ALERT)
GROWN = Standing(make_alert(count=9))
WORSE = Standing(make_alert(severity=Severity.CRITICAL, count=9))
TOLD = Told(ALERT.id, Manner.ALONE, START_MS, AlertState.OPEN, Severity.HIGH, OPEN.mark)
IN_DIGEST = Told(ALERT.id, Manner.IN_DIGEST, START_MS, AlertState.OPEN, Severity.HIGH, OPEN.mark)


def closed(standing: Standing, state: AlertState = AlertState.CLOSED) -> Standing:
    return Standing(standing.alert, state, "a drill", "bob", NOW)


@pytest.mark.parametrize(
    ("told", "now", "section", "due"),
    [
        (None, OPEN, wanting(), Due(Tiding.NEW, NOW)),
        (None, OPEN, wanting(min_severity="critical"), None),
        (None, closed(OPEN), wanting(), None),
        (None, closed(OPEN), TELLS_CLOSED, Due(Tiding.NEW, NOW)),
        (None, closed(OPEN, AlertState.ACKNOWLEDGED), wanting(), Due(Tiding.NEW, NOW)),
        (None, Standing(ALERT, is_gone=True), wanting(), None),
        (TOLD, OPEN, wanting(), None),
        (TOLD, GROWN, wanting(), Due(Tiding.UPDATED, START_MS + 3_600_000)),
        (TOLD, GROWN, wanting(update_interval_secs=0), None),
        (TOLD, WORSE, wanting(), Due(Tiding.UPDATED, NOW)),
        (TOLD, WORSE, wanting(update_interval_secs=0), Due(Tiding.UPDATED, NOW)),
        (TOLD, closed(OPEN), wanting(), Due(Tiding.CLOSED, NOW)),
        (TOLD, closed(OPEN, AlertState.ACKNOWLEDGED), wanting(), Due(Tiding.ACKNOWLEDGED, NOW)),
        (TOLD, closed(OPEN), wanting(resolved=False), None),
        (TOLD, closed(GROWN), wanting(resolved=False), None),
        (TOLD, Standing(ALERT, is_gone=True), wanting(), Due(Tiding.WITHDRAWN, NOW)),
        (IN_DIGEST, GROWN, wanting(), None),
        (IN_DIGEST, closed(OPEN), wanting(), None),
        (IN_DIGEST, WORSE, wanting(), Due(Tiding.NEW, NOW)),
    ],
)
def test_what_is_told_follows_from_what_was_told_and_what_is(
    told: Told | None, now: Standing, section: ChannelSection, due: Due | None
) -> None:
    """Nothing else has a say, so that a crash in between or a repeat cannot."""
    assert decide(told, now, section, now_ms=NOW) == due


def test_an_alert_that_is_opened_again_is_told() -> None:
    """And one that was closed and has grown is not: whoever closed it knows what it is."""
    was_closed = Told(ALERT.id, Manner.ALONE, START_MS, AlertState.CLOSED, Severity.HIGH, OPEN.mark)

    assert decide(was_closed, OPEN, wanting(), now_ms=NOW) == Due(Tiding.REOPENED, NOW)
    assert decide(was_closed, closed(GROWN), wanting(), now_ms=NOW) is None


@guarantee(35)
@pytest.mark.parametrize("manner", [*Manner])
@pytest.mark.parametrize("state", [AlertState.OPEN, AlertState.CLOSED])
@pytest.mark.parametrize("section", [wanting(), wanting(resolved=False, update_interval_secs=0)])
def test_what_more_has_come_to_since_it_was_closed_is_told_at_once(
    manner: Manner, state: AlertState, section: ChannelSection
) -> None:
    """Also where the closing was never told, and where states are not: else nobody would look."""
    told = Told(ALERT.id, manner, START_MS, state, Severity.HIGH, OPEN.mark)
    again = Standing(GROWN.alert, AlertState.OPEN, "8 more records have come", "m365watch", NOW)
    after = Told(ALERT.id, manner, NOW, AlertState.OPEN, Severity.HIGH, GROWN.mark)

    due = decide(told, again, section, now_ms=NOW)
    assert due == Due(Tiding.REOPENED if section.resolved else Tiding.UPDATED, NOW)
    assert decide(after, again, section, now_ms=NOW) is None


def test_an_alert_that_was_forgotten_is_not_withdrawn() -> None:
    """After 90 days the file lets go of it: nothing has been shown to be wrong."""
    gone = Standing(ALERT, is_gone=True)

    assert decide(TOLD, gone, wanting(), now_ms=START_MS + FORGOTTEN_MS + 1) is None


@pytest.mark.parametrize(
    ("section", "wanted"),
    [
        (wanting(rules=("b08",)), True),
        (wanting(rules=("b09",)), False),
        (wanting(rules=("forwards to",)), True),
        (wanting(rules=(ALERT.rule_id,)), True),
        (wanting(tenants=[TENANT]), True),
        (wanting(tenants=["11111111-2222-4333-8444-555555555555"]), False),
        (wanting(min_severity="high"), True),
        (wanting(min_severity="critical"), False),
    ],
)
def test_a_target_hears_of_what_it_wants(section: ChannelSection, *, wanted: bool) -> None:
    """By severity, rule and tenant."""
    assert wants(section, ALERT) is wanted


def test_the_worst_come_alone_and_the_rest_in_a_digest() -> None:
    """The last turn of a minute is for all that would not get one."""
    section = wanting(rate_limit_per_minute=3, digest_after=5)
    flood, few = Waiting(9, 9, 0), Waiting(4, 4, 0)
    one, two, three = [NOW - 2], [NOW - 2, NOW - 1], [NOW - 3, NOW - 2, NOW - 1]

    assert [choose(flood, sent, section, now_ms=NOW) for sent in ([], one, two)] == [
        (Move.ALONE, 0),
        (Move.ALONE, 0),
        (Move.DIGEST, 0),
    ]
    assert choose(few, two, section, now_ms=NOW) == (Move.ALONE, 0)
    assert choose(flood, three, section, now_ms=NOW) == (Move.NOTHING, NOW - 3 + MINUTE_MS)
    assert choose(Waiting(0, 0, 0), [], section, now_ms=NOW) == (Move.NOTHING, 0)
    assert choose(Waiting(0, 0, 7), [], section, now_ms=NOW) == (Move.DIGEST, 0)


@guarantee(41)
def test_what_is_critical_waits_for_no_minute_to_pass() -> None:
    """As many again may be told of those; then they wait too, and the last turn is a digest."""
    section = wanting(rate_limit_per_minute=3, digest_after=5)
    spent = [NOW - 3, NOW - 2, NOW - 1]
    few, flood = Waiting(4, 4, 0, critical_due=1), Waiting(9, 9, 0, critical_due=8)

    assert choose(few, spent, section, now_ms=NOW) == (Move.ALONE, 0)
    assert choose(flood, [*spent, NOW, NOW], section, now_ms=NOW) == (Move.DIGEST, 0)
    assert choose(few, [*spent, *spent], section, now_ms=NOW) == (Move.NOTHING, NOW - 3 + MINUTE_MS)


def test_what_comes_after_a_silence_is_gathered() -> None:
    """So that the first to come do not spend the rate; what is critical, or has no rate, is told at once."""
    section = wanting(rate_limit_per_minute=3)
    fresh = Waiting(1, 1, 0, oldest_ms=NOW - 500)

    assert choose(fresh, [], section, now_ms=NOW) == (Move.NOTHING, NOW - 500 + GATHER_MS)
    assert choose(fresh, [NOW - 9], section, now_ms=NOW) == (Move.ALONE, 0)
    assert choose(fresh, [], section, now_ms=NOW - 500 + GATHER_MS) == (Move.ALONE, 0)
    assert choose(fresh, [], wanting(), now_ms=NOW) == (Move.ALONE, 0)
    assert choose(Waiting(1, 1, 0, 1, NOW), [], section, now_ms=NOW) == (Move.ALONE, 0)


@guarantee(41)
def test_the_rate_is_never_exceeded() -> None:
    """In no span of a minute, whatever waits."""
    for rate, digest_after, waiting in product((1, 2, 5), (1, 3, 50), (1, 4, 60)):
        section = wanting(rate_limit_per_minute=rate, digest_after=digest_after)
        sent: list[int] = []
        for now_ms in range(NOW, NOW + 5 * MINUTE_MS, 500):
            if choose(Waiting(waiting, waiting, 0), sent, section, now_ms=now_ms)[0] is not Move.NOTHING:
                sent.append(now_ms)
        spans = [sum(at <= other < at + MINUTE_MS for other in sent) for at in sent]

        assert max(spans) == rate
