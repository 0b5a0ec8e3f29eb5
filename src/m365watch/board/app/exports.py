"""Files that are taken along: panels as rows for a spreadsheet, lines of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
from starlette.responses import PlainTextResponse, Response

from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import instant_text
from m365watch.board.widgets.labels import visible
from m365watch.board.widgets.widget_types import (
    Case,
    Chart,
    Configured,
    Drawn,
    Editor,
    Grid,
    Heat,
    Hits,
    Instances,
    Lanes,
    Listing,
    Matrix,
    Past,
    Queue,
    Ranking,
    Records,
    Several,
    Shape,
    Tiles,
    Trial,
    Waiting,
    WorldMap,
)
from m365watch.common.csv_export import csv_lines, without_formula
from m365watch.common.errors import CollectorError
from m365watch.lake.search.record_search import Hit


def rows_of(shape: Instances | Editor | Past | Trial) -> Iterator[list[str]]:
    """What the shape shows, the headings first."""
    match shape:
        case Instances(rows=instances):
            yield ["kind", "name", "about", "state", "wrong", "cure", "services"]
            for one in instances:
                services = "; ".join(f"{service.name} {service.state}" for service in one.services)
                yield [one.kind, one.name, one.about, one.state, one.says, one.fix, services]
        case Editor(name=name, text=text):
            yield ["name", "parameters"]
            yield [name, text]
        case Past(rows=past):
            yield ["number", "when", "by", "what", "difference"]
            for change in past:
                difference = "\n".join(line for _, line in change.lines)
                yield [str(change.number), change.at, change.by, change.what, difference]
        case Trial(says=says):
            yield ["preflight"]
            yield [says]


_ALERT = (
    *("alert", "severity", "title", "state", "about", "records"),
    *("first", "last", "techniques", "note"),
)


def refuse_unread(view: View) -> Response | None:
    """The refusal of a file whose URL asks for what cannot be meant: it has no heading that could say so."""
    if not view.unread:
        return None
    return PlainTextResponse(f"{'; '.join(view.unread)}\n", status_code=400)


def csv_of(shape: Shape) -> str:
    """Every part of the panel, one below the other, each with its headings."""
    rows = rows_of(shape) if isinstance(shape, Configured) else _rows_of(shape)
    return csv_lines([_safe(one) for one in row] for row in rows)


def _rows_of(shape: Drawn) -> Iterator[list[str]]:
    match shape:
        case Several(parts=parts):
            for number, part in enumerate(parts):
                if number:
                    yield []
                yield from _rows_of(part)
        case Grid(headings=headings, rows=rows):
            yield [one.text for one in headings]
            yield from ([cell.text for cell in row] for row in rows)
        case Ranking(title=title, rows=ranked):
            yield [title or "name", "count", "note"]
            yield from ([one.label, str(one.count), one.note] for one in ranked)
        case Chart(at_s=instants, lines=lines):
            yield ["time", *(line.name for line in lines)]
            for place, at_s in enumerate(instants):
                yield [instant_text(at_s), *(f"{line.values[place]:g}" for line in lines)]
        case Tiles(tiles=tiles):
            yield ["figure", "value", "note"]
            yield from ([one.label, one.value, one.note] for one in tiles)
        case Heat():
            yield from _heat_rows(shape)
        case _:
            yield from _case_rows(shape)


def _case_rows(
    shape: Queue | Case | Listing | Records | Matrix | Lanes | WorldMap | Hits,
) -> Iterator[list[str]]:
    """What alerts, investigations and searches are made of."""
    match shape:
        case Queue(rows=alerts):
            yield list(_ALERT)
            yield from (_alert_row(one) for one in alerts)
        case Case(alert=alert, explanation=explanation, facts=facts):
            yield list(_ALERT)
            yield _alert_row(alert)
            yield ["explanation", explanation]
            yield from ([name, value] for name, value in facts)
        case Listing(rows=said):
            yield ["what", "when", "note", "commands"]
            yield from ([one.text, one.at, one.note, "\n".join(one.commands)] for one in said)
        case WorldMap(spots=spots):
            yield ["latitude", "longitude", "what"]
            yield from ([f"{one.latitude:g}", f"{one.longitude:g}", one.says] for one in spots)
        case Hits(headings=headings, rows=hits):
            yield [one.text for one in headings]
            yield from ([cell.text for cell in one.cells] for one in hits)
        case Records(rows=records):
            yield ["time", "id", "what", "who", "says", "record"]
            yield from ([one.at, one.id, one.title, one.who, one.says, one.raw] for one in records)
        case Matrix(columns=columns):
            yield ["tactic", "technique", "name", "rules", "alerts"]
            yield from (
                [tactic, met.id, met.name, str(met.rules), str(met.alerts)]
                for tactic, column in columns
                for met in column
            )
        case Lanes(start_s=start_s, step_s=step_s, steps=steps, groups=groups):
            instants = [instant_text(start_s + number * step_s) for number in range(steps)]
            yield ["kind", "name", "total", *instants]
            for title, lanes in groups:
                yield from ([title, one.label, str(one.total), *map(str, one.values)] for one in lanes)


def _alert_row(alert: Waiting) -> list[str]:
    entities = "; ".join(f"{one.kind} {one.text}" for one in alert.entities)
    techniques = " ".join(one.text for one in alert.techniques)
    words = (alert.id, alert.severity, alert.title, alert.state, entities, str(alert.count))
    return [*words, alert.first, alert.last, techniques, alert.note]


def _heat_rows(heat: Heat) -> Iterator[list[str]]:
    yield ["time", *(row.label for row in heat.rows)]
    for place, cells in enumerate(zip(*(row.cells for row in heat.rows), strict=True)):
        yield [instant_text(heat.start_s + place * heat.step_s), *(cell.says for cell in cells)]


def csv_line(cells: Sequence[str]) -> str:
    """One row, as text that hides nothing and that no spreadsheet calculates."""
    return csv_lines([[_safe(one) for one in cells]])


def json_line(document: object) -> bytes:
    """One line of NDJSON."""
    return msgspec.json.encode(document) + b"\n"


def _safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula, and of which nothing hides or turns round a part."""
    return without_formula(visible(text))


async def raw_lines(chunks: AsyncIterator[list[tuple[Hit, bytes]]], *, what: str) -> AsyncIterator[bytes]:
    """Each record as it was sent, a line each; where reading ends early, a last line says that of `what`."""
    try:
        async for hits in chunks:
            yield b"".join(raw + b"\n" for _, raw in hits)
    except CollectorError as error:
        yield json_line({"error": f"the {what} ends here, and is not whole: {error}"})
