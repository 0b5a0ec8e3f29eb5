"""Health's panels of the way to the outputs: latency, outputs, what failed or was set aside, credentials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from m365watch.board.pages.health.health_cells import (
    ago_cell,
    counted_cell,
    cut_words,
    days_words,
    feed_words,
    names_of,
    no_ledger,
    sentence,
)
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.ledger_queries import (
    list_applications,
    list_latency,
    list_outputs,
    list_pieces,
    list_waiting,
    sees_every_tenant,
)
from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import span_words, workload_words
from m365watch.board.widgets.widget_types import Cell, Empty, Grid, Heading, Ranked, Ranking, Shape
from m365watch.common.progress import OutputProgress
from m365watch.config.models.detections import DETECTIONS
from m365watch.config.models.settings import Settings
from m365watch.health.expiry.credential_expiry import Judged, judge
from m365watch.health.expiry.expiry_store import KnownApplication
from m365watch.health.expiry.expiry_text import cure_of, life_text, spec_of, unknown_cure
from m365watch.pipeline.latency import BOUNDS_S, Histogram, SeriesKey, Step
from m365watch.registry.credential_specs import Source

ROWS_MAX = 50
WORKLOADS_MAX = 10
_STEPS = {
    Step.PUBLISHED: "Happened to published",
    Step.LISTED: "Published to listed",
    Step.FETCHED: "Listed to fetched",
    Step.DELIVERED: "Fetched to delivered",
    Step.ALL: "The whole way",
}
_HALF, _MOST = 0.5, 0.95

_LONG_S = 12 * 3_600.0
_CAUGHT_UP = (
    "A first run, and one after a pause, brings what was published up to 7 days before; that wait counts."
)


async def latency(view: View, sources: Sources) -> Shape:
    """How long each step takes, and the whole way by workload."""
    found = await list_latency(view, sources)
    if not found:
        return Grid((), (), empty=_no_latency(view, sources, is_new=found is None))
    steps = _merged(found, lambda key: f"{_STEPS[key.step]}{f' by {key.output}' if key.output else ''}")
    names = [name for words in _STEPS.values() for name in sorted(steps) if name.startswith(words)]
    output, ways = _whole(found)
    workloads = _merged(ways, lambda key: workload_words(key.workload) or key.content_type)
    busiest = sorted(workloads.items(), key=lambda one: (-one[1].count, one[0]))[:WORKLOADS_MAX]
    headings = ("Step", "Median", "95 %", "Longest", "Counted")
    rows = [(name, steps[name]) for name in names]
    rows += [(f"The whole way of {name} by {output}", one) for name, one in busiest]
    return Grid(
        [Heading(one, numeric=place > 0) for place, one in enumerate(headings)],
        [_span_row(name, one) for name, one in rows],
        cut=_CAUGHT_UP if any((one.quantile(_HALF) or 0) > _LONG_S for _, one in rows) else "",
    )


async def spread(view: View, sources: Sources) -> Shape:
    """How many took how long on the whole way, from the first bucket that has any to the last."""
    known = await list_latency(view, sources)
    output, found = _whole(known or {})
    if not found:
        return Ranking("", (), 0, empty=_no_latency(view, sources, is_new=known is None))
    histogram = _merged(found, lambda _: "")[""]
    full = [place for place, count in enumerate(histogram.counts) if count]
    rows = [
        Ranked(
            f"up to {_lasting(BOUNDS_S[place])}" if place < len(BOUNDS_S) else "longer",
            histogram.counts[place],
        )
        for place in range(full[0], full[-1] + 1)
    ]
    return Ranking(f"by {output}", rows, histogram.count)


def _no_latency(view: View, sources: Sources, *, is_new: bool) -> Empty:
    then = "A running collector counts what it delivers, and remembers it every few minutes."
    return no_ledger(view, sources) if is_new else Empty("Nothing was delivered today or yesterday.", then)


def _whole(found: Mapping[SeriesKey, Histogram]) -> tuple[str, dict[SeriesKey, Histogram]]:
    """The output that got the most blobs, and their whole way to it: others got the same ones again."""
    ways = {key: one for key, one in found.items() if key.step is Step.ALL}
    counts = Counter[str]()
    for key, one in ways.items():
        counts[key.output] += one.count
    most = min(counts, key=lambda name: (-counts[name], name == DETECTIONS, name), default="")
    return most, {key: one for key, one in ways.items() if key.output == most}


def _merged(
    found: Mapping[SeriesKey, Histogram], name_of: Callable[[SeriesKey], str]
) -> dict[str, Histogram]:
    merged: dict[str, Histogram] = {}
    for key, one in found.items():
        merged.setdefault(name_of(key), Histogram()).merge(one)
    return merged


def _span_row(name: str, one: Histogram) -> list[Cell]:
    return [
        Cell(name),
        _span_cell(one.quantile(_HALF)),
        _span_cell(one.quantile(_MOST)),
        _span_cell(one.max_s),
        Cell(f"{one.count:,}", sorts=one.count, tone="muted"),
    ]


def _span_cell(seconds: float | None) -> Cell:
    return Cell(_lasting(seconds), sorts=seconds or 0)


def _lasting(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else span_words(seconds)


async def outputs(view: View, sources: Sources) -> Shape:
    """Each output: whether it takes what it is given, and what waits for it."""
    if not sees_every_tenant(view):
        empty = Empty("Outputs serve all tenants together, and your role sees some of them.")
        return Grid((), (), empty=empty)
    found = await list_outputs(sources)
    if found is None:
        return Grid((), (), empty=no_ledger(view, sources))
    headings = (
        Heading("Output"),
        Heading("State"),
        Heading("In queue", numeric=True),
        Heading("To refetch", numeric=True),
    )
    kinds = dict.fromkeys(found, "not in the configuration") | _kinds(sources.settings)
    rows = [
        _output_row(name, kind, found.get(name) or OutputProgress(name, 0, 0)) for name, kind in kinds.items()
    ]
    return Grid(headings, rows, empty=None if rows else Empty("The configuration has no output."))


def _kinds(settings: Settings) -> dict[str, str]:
    """What each receiver is."""
    kinds = {one.name: one.type for one in settings.outputs}
    return kinds | ({DETECTIONS: "rules"} if DETECTIONS in settings.receivers else {})


def _output_row(name: str, kind: str, one: OutputProgress) -> list[Cell]:
    if one.last_error:
        state = Cell(
            "refuses" if one.needs_operator else "fails",
            tone="critical" if one.needs_operator else "high",
            sorts=0,
        )
    elif one.missing_files is not None:
        state = Cell("files missing", tone="critical", sorts=0)
    elif one.blobs_missing:
        state = Cell("behind", tone="medium", sorts=1)
    else:
        state = Cell("in order", tone="ok", sorts=2)
    return [
        Cell(name if name == kind.lower() else f"{name} ({kind})"),
        state,
        counted_cell(one.blobs_queued, "medium"),
        counted_cell(one.blobs_missing - one.blobs_queued, "medium"),
    ]


async def credentials(view: View, sources: Sources) -> Shape:
    """How much longer each credential works, the one that ends first on top."""
    found = await list_applications(view, sources)
    if found is None:
        return Grid((), (), empty=no_ledger(view, sources))
    rows = [(known, one) for known in found for one in judge(known.credentials, view.now)]
    rows.sort(key=lambda pair: (pair[1].days_left is None, pair[1].days_left or 0, pair[0].key))
    headings = (
        Heading("Credential"),
        Heading("Left", numeric=True),
        Heading("What to do", wide=True),
    )
    why = "Nothing is known of the credentials yet."
    empty = Empty(why, "A collector that has run once with them has looked when they end.")
    more = len(rows) - ROWS_MAX
    return Grid(
        headings,
        [_credential_row(*pair) for pair in rows[:ROWS_MAX]],
        empty=None if rows else empty,
        cut=f"and {more:,} more, which end later" if more > 0 else "",
    )


def _credential_row(known: KnownApplication, one: Judged) -> list[Cell]:
    cure = cure_of(known, one) if one.threshold is not None else ""
    if one.end.source is Source.UNKNOWN:
        cure = unknown_cure(known, one)
    return [
        Cell(f"{spec_of(one).label} of {known.input_name}"),
        _left_cell(one),
        Cell(f"{sentence(life_text(one))} {sentence(cure.replace('`', ''))}".strip()),
    ]


def _left_cell(one: Judged) -> Cell:
    if one.days_left is None:
        is_renewed = one.end.source is Source.RENEWED
        return Cell("renewed" if is_renewed else "unknown", tone="ok" if is_renewed else "medium", sorts=1e9)
    if one.days_left <= 0:
        return Cell("ended", tone="critical", sorts=one.days_left)
    tone = "ok" if one.threshold is None else "high"
    return Cell(days_words(one.days_left), tone=tone, sorts=one.days_left)


async def waiting(view: View, sources: Sources) -> Shape:
    """Blobs whose fetch failed, and when they are tried again."""
    found = await list_waiting(view, sources)
    if found is None:
        return Grid((), (), empty=no_ledger(view, sources))
    named = await names_of(view, sources, (one.feed for one in found))
    headings = (
        Heading("Feed"),
        Heading("Tries", numeric=True),
        Heading("Next try", numeric=True),
        Heading("Why", wide=True),
    )
    rows = []
    for one in found[:ROWS_MAX]:
        left = (one.next_try_at - view.now).total_seconds()
        rows.append(
            [
                Cell(feed_words(one.feed, named=named)),
                Cell(f"{one.attempts:,}", sorts=one.attempts),
                Cell(f"in {span_words(left)}" if left > 0 else "due", sorts=left),
                Cell(sentence(cut_words(one.last_error))),
            ]
        )
    empty = Empty("No blob waits after a failed try.", "Those that were never tried are counted above.")
    more = len(found) - ROWS_MAX
    cut = f"and {more:,} more: m365watch blobs --state waiting names them" if more > 0 else ""
    return Grid(headings, rows, empty=None if rows else empty, cut=cut)


async def quarantine(view: View, sources: Sources) -> Shape:
    """The newest pieces that could not go on, without their bytes."""
    found = await list_pieces(view, sources)
    if found is None:
        return Grid((), (), empty=no_ledger(view, sources))
    named = await names_of(view, sources, (one.feed for one in found if one.feed is not None))
    headings = (
        Heading("Piece", numeric=True),
        Heading("Since", numeric=True),
        Heading("From"),
        Heading("Why", wide=True),
    )
    rows = [
        [
            Cell(f"{one.number}", sorts=one.number),
            ago_cell(one.quarantined_at, view.now),
            Cell(feed_words(one.feed, named=named) if one.feed else "a blob that is forgotten"),
            Cell(cut_words(f"{f'{one.output} refused it: ' if one.output else ''}{one.reason}")),
        ]
        for one in found[:ROWS_MAX]
    ]
    cut = "m365watch quarantine show PIECE writes its bytes, and retry has its blob fetched again"
    empty = Empty("Nothing is in quarantine.", "Every record could go on.")
    return Grid(headings, rows, empty=None if rows else empty, cut=cut if rows else "")
