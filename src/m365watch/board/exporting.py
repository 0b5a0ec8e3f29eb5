"""Panels as rows for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from m365watch.board.shapes import Chart, Grid, Heat, Ranking, Several, Shape, Tiles
from m365watch.board.time_range import instant_text

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_of(shape: Shape) -> str:
    """Every part of the panel, one below the other, each with its headings."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    for row in _rows_of(shape):
        writer.writerow([_safe(one) for one in row])
    return sink.getvalue()


def _rows_of(shape: Shape) -> Iterator[list[str]]:
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


def _heat_rows(heat: Heat) -> Iterator[list[str]]:
    yield ["time", *(row.label for row in heat.rows)]
    for place, cells in enumerate(zip(*(row.cells for row in heat.rows), strict=True)):
        yield [instant_text(heat.start_s + place * heat.step_s), *(cell.says for cell in cells)]


def _safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
