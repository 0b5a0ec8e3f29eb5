"""The figures of `status` in Prometheus' text format, for a node exporter's text file and for scraping.

Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from m365watch.common.progress import FeedProgress, OutputProgress, RunProgress
from m365watch.health.expiry.credential_expiry import Judged, judge
from m365watch.health.expiry.expiry_store import KnownApplication
from m365watch.pipeline.latency import BOUNDS_S, Histogram, Series, SeriesKey
from m365watch.registry.credential_specs import Source

if TYPE_CHECKING:
    from m365watch.notifications.channel_status import TargetFigures
    from m365watch.registry.checks import Checked

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "m365watch_"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_Rows = Iterable[tuple[Mapping[str, str], float]]


def metrics_text(
    progress: RunProgress,
    book: Iterable[tuple[SeriesKey, Series]],
    applications: Sequence[KnownApplication] = (),
    *,
    now: datetime,
    targets: Sequence[TargetFigures] = (),
    untold: Sequence[str] = (),
    checks: Mapping[str, Sequence[Checked]] | None = None,
) -> str:
    """Every family with its help and type, each line ended; of targets `untold` no figures can be read.

    `checks` has what is broken, by health check.
    """
    lines = [
        *_feed_lines(progress.feeds, now),
        *_output_lines(progress.outputs),
        *_latency_lines(book),
        *_credential_lines(applications, now),
        *_notification_lines(targets, untold, now),
        *family_lines(
            "check_failing",
            "gauge",
            "Whether a health check of this machine finds something broken.",
            [({"check": name}, float(bool(steps))) for name, steps in (checks or {}).items()],
        ),
        *family_lines(
            "read_timestamp_seconds", "gauge", "When these figures were read.", [({}, now.timestamp())]
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _feed_lines(feeds: list[FeedProgress], now: datetime) -> list[str]:
    marks = [(_of(row), row.watermark.timestamp()) for row in feeds if row.watermark]
    lags = [(_of(row), lag_s) for row in feeds if (lag_s := row.lag_s(now)) is not None]
    states = [
        (_of(row) | {"state": state}, float(number))
        for row in feeds
        for state, number in (
            ("waiting", row.blobs_waiting),
            ("delivered", row.blobs_delivered),
            ("quarantined", row.blobs_quarantined),
            ("lost", row.blobs_lost),
        )
    ]
    records = [
        (_of(row) | {"lot": lot}, float(number))
        for row in feeds
        for lot, number in (
            ("delivered", row.records_delivered),
            ("duplicate", row.records_duplicate),
            ("quarantined", row.records_quarantined),
        )
    ]
    listed = [(_of(row), row.listed_at.timestamp()) for row in feeds if row.listed_at]
    return [
        *family_lines(
            "feed_watermark_timestamp_seconds", "gauge", "Every blob created before is known.", marks
        ),
        *family_lines("feed_lag_seconds", "gauge", "Seconds from the watermark to now.", lags),
        *family_lines(
            "feed_listed_timestamp_seconds", "gauge", "When a window was last listed whole.", listed
        ),
        *family_lines("feed_blobs", "gauge", "Blobs that were listed, each in one state.", states),
        *family_lines("feed_records_total", "counter", "Records by what became of them.", records),
        *family_lines(
            "feed_unlisted_seconds_total",
            "counter",
            "Content that was never listed, and is lost.",
            [(_of(row), row.unlisted_s) for row in feeds],
        ),
        *family_lines(
            "feed_failing",
            "gauge",
            "Whether the feed has an error: 1 passes by itself, 2 needs a person.",
            [(_of(row), _trouble(row)) for row in feeds],
        ),
    ]


def _output_lines(outputs: list[OutputProgress]) -> list[str]:
    rows: list[tuple[Mapping[str, str], OutputProgress]] = [({"output": one.name}, one) for one in outputs]
    return [
        *family_lines(
            "output_blobs_missing",
            "gauge",
            "Blobs that an output lacks; one that lacks nothing is not listed.",
            [(labels, float(one.blobs_missing)) for labels, one in rows],
        ),
        *family_lines(
            "output_blobs_queued",
            "gauge",
            "Those of them in its queue on disk.",
            [(labels, float(one.blobs_queued)) for labels, one in rows],
        ),
        *family_lines(
            "output_failing",
            "gauge",
            "Whether the output has an error: 1 passes by itself, 2 needs a person.",
            [(labels, _trouble(one)) for labels, one in rows],
        ),
        *family_lines(
            "lake_files_missing",
            "gauge",
            "Data files that are gone from the lake; a whole lake is not listed.",
            [(labels, float(one.missing_files.files)) for labels, one in rows if one.missing_files],
        ),
        *family_lines(
            "lake_records_missing",
            "gauge",
            "The records in them.",
            [(labels, float(one.missing_files.records)) for labels, one in rows if one.missing_files],
        ),
    ]


def _latency_lines(book: Iterable[tuple[SeriesKey, Series]]) -> list[str]:
    """One histogram for each step, content type, workload and output; tenants are added up."""
    merged: dict[tuple[str, str, str, str], Histogram] = {}
    for key, series in book:
        values = (str(key.step), key.content_type, key.workload, key.output)
        merged.setdefault(values, Histogram()).merge(series.ever)
    names = ("step", "content_type", "workload", "output")
    rows = [(dict(zip(names, values, strict=True)), one) for values, one in merged.items()]
    return histogram_lines("latency_seconds", "How long records take, step by step.", rows)


def _credential_lines(applications: Sequence[KnownApplication], now: datetime) -> list[str]:
    """Each credential by tenant, so that it joins with what else is known of the tenant."""
    rows: list[tuple[Mapping[str, str], Judged]] = [
        (
            {
                "tenant": tenant,
                "input": one.input_name,
                "kind": judged.end.kind,
                "credential": str(judged.number),
            },
            judged,
        )
        for one in applications
        for judged in judge(one.credentials, now)
        for tenant in one.tenants
    ]
    known = [(labels, judged.ends_at.timestamp()) for labels, judged in rows if judged.ends_at is not None]
    unknown = [(labels, float(judged.end.source is Source.UNKNOWN)) for labels, judged in rows]
    left = [(labels, judged.days_left) for labels, judged in rows if judged.days_left is not None]
    return [
        *family_lines(
            "credential_expires_timestamp_seconds", "gauge", "When a secret or certificate expires.", known
        ),
        *family_lines(
            "credential_expires_days", "gauge", "Days until then, below 0 once it has expired.", left
        ),
        *family_lines("credential_expiry_unknown", "gauge", "1 where nobody knows when it expires.", unknown),
    ]


def _notification_lines(targets: Sequence[TargetFigures], untold: Sequence[str], now: datetime) -> list[str]:
    """How the targets of notifications stand."""
    rows: list[tuple[Mapping[str, str], TargetFigures]] = [({"target": one.name}, one) for one in targets]
    since = [
        (labels, now.timestamp() - one.oldest_ms / 1000 if one.oldest_ms else 0.0) for labels, one in rows
    ]
    return [
        *family_lines(
            "notifications_total",
            "counter",
            "Notifications that a target has taken.",
            [(labels, float(one.sent)) for labels, one in rows],
        ),
        *family_lines(
            "notifications_waiting",
            "gauge",
            "Alerts that a target is still to be told of.",
            [(labels, float(one.waiting)) for labels, one in rows],
        ),
        *family_lines("notifications_waiting_seconds", "gauge", "How long the oldest has waited.", since),
        *family_lines(
            "notifications_refused",
            "gauge",
            "Notifications that a target refused, kept aside.",
            [(labels, float(one.aside)) for labels, one in rows],
        ),
        *family_lines(
            "notifications_failing",
            "gauge",
            "Whether the target could not be told when it was last tried.",
            [
                *((labels, float(bool(one.trouble))) for labels, one in rows),
                *(({"target": name}, 1.0) for name in untold),
            ],
        ),
    ]


def family_lines(name: str, kind: str, says: str, rows: _Rows) -> list[str]:
    """A family's lines; none at all where it has no rows."""
    lines = [f"{_PREFIX}{name}{_labels(labels)} {_number(value)}" for labels, value in rows]
    return [f"# HELP {_PREFIX}{name} {says}", f"# TYPE {_PREFIX}{name} {kind}", *lines] if lines else []


def histogram_lines(
    name: str,
    says: str,
    rows: Iterable[tuple[Mapping[str, str], Histogram]],
    *,
    bound_max_s: float = math.inf,
) -> list[str]:
    """A family of histograms, of which bounds above `bound_max_s` are left out; none without rows."""
    ends = [_number(bound_s) for bound_s in BOUNDS_S if bound_s <= bound_max_s]
    full = f"{_PREFIX}{name}"
    lines = []
    for labels, histogram in rows:
        reached = histogram.cumulative()
        for end, count in zip([*ends, "+Inf"], [*reached[: len(ends)], reached[-1]], strict=True):
            lines.append(f"{full}_bucket{_labels({**labels, 'le': end})} {count}")
        lines.append(f"{full}_sum{_labels(labels)} {_number(histogram.sum_s)}")
        lines.append(f"{full}_count{_labels(labels)} {histogram.count}")
    return [f"# HELP {full} {says}", f"# TYPE {full} histogram", *lines] if lines else []


def _of(row: FeedProgress) -> dict[str, str]:
    return {"tenant": row.feed.tenant_id, "content_type": str(row.feed.content_type)}


def _trouble(row: FeedProgress | OutputProgress) -> float:
    if row.last_error is None:
        return 0.0
    return 2.0 if row.needs_operator else 1.0


def _labels(labels: Mapping[str, str]) -> str:
    """`{name="value"}`, the values escaped; empty without any."""
    pairs = ",".join(f'{name}="{_said(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _said(value: str) -> str:
    """A label's value that can neither end its quotes nor its line, and is UTF-8."""
    return value.replace("\r", " ").encode("utf-8", "replace").decode().translate(_ESCAPES)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))
