"""`m365watch status --metrics`: what Prometheus' own parser reads, whatever labels hold."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families

from m365watch.common.model import BlobKey, BlobRef, Header, KnownBlob
from m365watch.common.progress import OutputProgress
from m365watch.health.metrics import metrics_text
from m365watch.notifications.channel_status import TargetFigures
from m365watch.pipeline.latency import BOUNDS_S, LatencyBook
from run_figures import EXCHANGE, NOW, TENANT, feed_progress, run_progress

NASTY = 'Ex"change\\\n{} é \x07'


def book_with(workload: str) -> LatencyBook:
    """A blob published an hour after the act and listed an hour later."""
    ref = BlobRef(EXCHANGE, "a$b", NOW - timedelta(hours=1), NOW)
    known = KnownBlob(BlobKey(1), ref, 0, frozenset(), NOW)
    book = LatencyBook()
    book.note_fetched(known, [Header(CreationTime="2026-11-24T10:00:00", Workload=workload)], fetched_at=NOW)
    return book


def samples(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name to labels to value, as Prometheus' parser reads them."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_every_figure_of_a_feed_can_be_read() -> None:
    """Watermark, lag, blobs by state, records, errors."""
    progress = run_progress(feed_progress(blobs_lost=2, last_error="x", needs_operator=True))
    found = samples(metrics_text(progress, LatencyBook(), now=NOW))
    feed = (("content_type", "Audit.Exchange"), ("tenant", TENANT))

    assert found["m365watch_feed_lag_seconds"] == {feed: 300.0}
    assert found["m365watch_feed_blobs"][(feed[0], ("state", "lost"), feed[1])] == 2
    assert found["m365watch_feed_records_total"][(feed[0], ("lot", "delivered"), feed[1])] == 34_567
    assert found["m365watch_feed_failing"] == {feed: 2.0}


def test_an_output_that_lacks_something_can_be_read() -> None:
    """How much, and how much of it is in its queue."""
    progress = run_progress(feed_progress())
    progress.outputs = [OutputProgress("devo", 5, 3, "connection refused", NOW, "open port 443")]
    found = samples(metrics_text(progress, LatencyBook(), now=NOW))

    assert found["m365watch_output_blobs_missing"] == {(("output", "devo"),): 5.0}
    assert found["m365watch_output_blobs_queued"] == {(("output", "devo"),): 3.0}
    assert found["m365watch_output_failing"] == {(("output", "devo"),): 1.0}


def test_a_target_of_notifications_can_be_read() -> None:
    """What it took, what waits and since when, what it refused, and whether it fails."""
    at_ms = round(NOW.timestamp() * 1000)
    pager = TargetFigures("pager", 0, 7, 2, 1, 3, at_ms, at_ms, "no connection", at_ms, at_ms - 60_000)
    found = samples(metrics_text(run_progress(feed_progress()), LatencyBook(), now=NOW, targets=[pager]))
    target = (("target", "pager"),)

    assert found["m365watch_notifications_total"] == {target: 7.0}
    assert found["m365watch_notifications_waiting"] == {target: 2.0}
    assert found["m365watch_notifications_waiting_seconds"] == {target: 60.0}
    assert found["m365watch_notifications_refused"] == {target: 1.0}
    assert found["m365watch_notifications_failing"] == {target: 1.0}


def test_the_histograms_are_prometheus_own() -> None:
    """Buckets add up to the count, and the last one has no bound."""
    found = samples(metrics_text(run_progress(feed_progress()), book_with("Exchange"), now=NOW))
    buckets = [
        (dict(labels)["le"], value)
        for labels, value in found["m365watch_latency_seconds_bucket"].items()
        if dict(labels)["step"] == "listed"
    ]
    by_bound = sorted((float(bound), value) for bound, value in buckets)

    assert [bound for bound, _ in by_bound] == [*BOUNDS_S, float("inf")]
    assert [value for _, value in by_bound] == [0.0 if bound < 3600 else 1.0 for bound, _ in by_bound]
    sums = {dict(labels)["step"]: value for labels, value in found["m365watch_latency_seconds_sum"].items()}
    assert sums == {"published": 3600.0, "listed": 3600.0, "fetched": 0.0}


def test_a_label_can_hold_anything() -> None:
    """A record's Workload is hostile: it ends neither its quotes nor its line."""
    text = metrics_text(run_progress(feed_progress()), book_with(NASTY), now=NOW)
    found = samples(text)

    assert {dict(labels)["workload"] for labels in found["m365watch_latency_seconds_count"]} == {NASTY}


def test_an_empty_ledger_gives_what_there_is() -> None:
    """No family without rows."""
    found = samples(metrics_text(run_progress(), LatencyBook(), now=NOW))

    assert found == {"m365watch_read_timestamp_seconds": {(): NOW.timestamp()}}
