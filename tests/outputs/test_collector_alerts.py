"""The alerts about the collector: what they ask Devo."""

from __future__ import annotations

from datetime import timedelta

import pytest

from m365watch.detection.export.devo_alert_definitions import Low
from m365watch.health.devo_alerts import collector_alerts

EVERY = timedelta(minutes=5)


def test_a_failing_collector_and_a_dead_one_are_both_watched() -> None:
    """The product page's own query finds what is said; only a low count finds silence."""
    failed, silent = collector_alerts("west", says_every=EVERY, records_after=None)

    assert failed.document()["alertCorrelationContext"]["correlationTrigger"] == {"kind": "each"}
    assert (
        'toktains(msg,"collector failed Connection closed by server."), toktains(collector_image,"office365")'
        in failed.query
    )
    assert "group every 5m by collector_name, job_id" in failed.query
    assert silent.trigger == Low(timedelta(hours=1), threshold=0)
    assert silent.query == 'from devo.collectors.out where collector_name = "west"'


def test_records_are_watched_where_a_span_is_given() -> None:
    """A tenant has quiet nights, so that there is no default."""
    *_, records = collector_alerts("west", says_every=EVERY, records_after=timedelta(hours=12))

    assert records.trigger == Low(timedelta(hours=12))
    assert "12 h" in records.headline


def test_two_collectors_have_alerts_of_their_own() -> None:
    """Names are what Devo tells them apart by."""
    names = [
        {one.name for one in collector_alerts(name, says_every=EVERY, records_after=timedelta(hours=1))}
        for name in ("a", "b")
    ]

    assert not names[0] & names[1]


@pytest.mark.parametrize("name", ['a" or 1=1', "a\\", "a\nb", ""])
def test_a_name_that_could_leave_its_quotation_marks_is_refused(name: str) -> None:
    """A query is put together from it."""
    with pytest.raises(ValueError, match="cannot stand in a query"):
        collector_alerts(name, says_every=EVERY, records_after=None)


def test_a_collector_that_is_set_to_speak_rarely_is_given_its_time() -> None:
    """An alert at each of its quiet hours would be switched off within a day."""
    _, silent = collector_alerts("west", says_every=timedelta(hours=2), records_after=None)

    assert silent.trigger == Low(timedelta(hours=6))
    assert "nothing for 6 h" in silent.headline
