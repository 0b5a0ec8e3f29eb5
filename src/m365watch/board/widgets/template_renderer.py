"""Templates: escaped throughout, strict about what they are not given, with the words of the pages."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from m365watch.board.pages.page_registry import PAGES
from m365watch.board.pages.page_types import keys_of
from m365watch.board.pages.sql import EXAMPLES
from m365watch.board.query.query_context import MENTIONS, View
from m365watch.board.query.time_range import DAY_S, PRESETS, instant_words
from m365watch.board.widgets.labels import (
    DIMENSION_WORDS,
    brief,
    brief_entities,
    dimension_words,
    short,
    value_words,
    visible,
)
from m365watch.board.widgets.map_outline import HEIGHT, LAND, WIDTH, place_on
from m365watch.board.widgets.widget_types import Cell, Chart, Grid, Heading, Lane, Lanes, Shape, Track

NARROWEST = 0.35
"""In percent of the lane: what happened once in a long time is still seen."""


def bars_of(lane: Lane, moments: Sequence[str]) -> Markup:
    """A bar for each step in which something happened, darker the more it was; `moments` name the steps."""
    steps = len(moments)
    most = max(lane.values, default=0) or 1
    width = max(90 / steps, NARROWEST) if steps else NARROWEST
    before, after = f'<rect class="fill-{escape(lane.colour)}" x="', f'%" width="{width:.3f}%" height="100%"'
    return Markup(  # noqa: S704 - every text in it is escaped
        "".join(
            f'{before}{place / steps * 100:.3f}{after} fill-opacity="{depth_of(value, most):.2f}">'
            f"<title>{escape(moments[place])}: {value:,}</title></rect>"
            for place, value in enumerate(lane.values)
            if value
        )
    )


def depth_of(value: int, most: int) -> float:
    """How deep the colour of one value among others is: 0.25 for the least, 1 for the most."""
    return 0.25 + 0.75 * math.sqrt(value / most)


LONG_FROM = 17
"""Characters of a text that may be cut, and has a title therefore."""
SHOWN_KEPT_MAX = 8_192
"""Texts whose HTML is kept: a table says the same few operations, people and addresses row after row."""
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")


def parted(text: str) -> Markup:
    """A name that is written in one, with places at which a line of it may end: before its capitals."""
    return Markup("<wbr>").join(_HUMP.split(visible(text)))


def rows_of(shape: Grid, view: View, path: str, *, many: bool) -> Markup:
    """All rows; with `many` columns, each cell has the name of its own, which stands beside it on a phone."""
    named = [_shown(one.text) for one in shape.headings]
    rows = (
        "".join(
            _cell(cell, heading, view, path, name if many and cell.text else "")
            for cell, heading, name in zip(row, shape.headings, named, strict=False)
        )
        for row in shape.rows
    )
    return Markup("".join(f"<tr>\n{row}</tr>\n" for row in rows))  # noqa: S704 - every text in it is escaped


def _cell(cell: Cell, heading: Heading, view: View, path: str, name: str) -> str:
    shown = _shown(cell.text)
    is_long = len(visible(cell.text)) >= LONG_FROM
    if heading.numeric:
        kind = ' class="numeric"'
    elif heading.wide:
        kind = ' class="wide"'
    elif is_long:
        kind = ' class="fit"' if "@" in cell.text else ' class="fit whole"'
    else:
        kind = ""
    sorts = "" if cell.sorts is None else f' data-value="{_shown(str(cell.sorts))}"'
    title = f' title="{shown}"' if is_long else ""
    of = f' data-of="{name}"' if name else ""
    return f"<td{kind}{sorts}{title}{of}>{_inside(cell, shown, view, path, is_long=is_long)}</td>\n"


def _inside(cell: Cell, shown: str, view: View, path: str, *, is_long: bool) -> str:
    if cell.url:
        text = shown if cell.tone else _shown(brief(cell.text))
        inside = f'<a class="value" href="{_shown(cell.url)}">{text}</a>'
    elif cell.narrows:
        of, value = cell.narrows
        text = str(parted(cell.text)) if of == "operation" and is_long else shown
        inside = f'<a class="value" href="{_shown(view.narrowed_url(path, of, value))}">{text}</a>'
    elif cell.tone:
        inside = shown
    else:
        return f'<span class="plain">{shown}</span>'
    return f'<span class="tone {_shown(cell.tone)}">{inside}</span>' if cell.tone else inside


@lru_cache(SHOWN_KEPT_MAX)
def _shown(text: str) -> str:
    """As it stands in HTML: escaped, and with nothing hidden in it."""
    return str(escape(visible(text)))


HERE = Path(__file__).parents[1]
STATIC = HERE / "static"
SPARK_HEIGHT = 24
SPARK_STEP = 4


class Templates:
    """Renders the pages."""

    def __init__(self) -> None:
        """Read nothing but the static files, whose contents name their version."""
        self.version = _version_of(STATIC)
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalise,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        filters: dict[str, Any] = {
            "short": short,
            "brief": brief,
            "rows": rows_of,
            "visible": visible,
            "brief_ways": lambda ways: brief_entities([(one.kind, one.text) for one in ways]),
            "keys": keys_of,
            "chart_json": chart_json,
            "spark": spark_points,
            "bars": bars_of,
            "moments": moments_of,
            "on_map": lambda spot: place_on(spot.latitude, spot.longitude),
            "arc": arc_of,
        }
        self._environment.filters.update(filters)
        self._environment.globals |= {
            "dimensions": DIMENSION_WORDS,
            "dimension_words": dimension_words,
            "pages": PAGES,
            "presets": PRESETS,
            "value_words": value_words,
            "examples": EXAMPLES,
            "mentions": MENTIONS,
            "land": LAND,
            "map_size": (WIDTH, HEIGHT),
            "static": f"/static/{self.version}",
        }

    def render(self, template: str, **values: Any) -> str:
        """The template with the values."""
        return self._environment.get_template(template).render(**values)

    def render_shape(self, shape: Shape, *, view: View, path: str, title: str) -> str:
        """The body of the panel of that title."""
        return self.render("panel.html", shape=shape, view=view, path=path, panel_title=title)


def _finalise(value: object) -> object:
    """What a template prints of a value: markup as it is, texts with nothing hidden in them."""
    return visible(value) if type(value) is str else value


def chart_json(chart: Chart) -> str:
    """What the chart's script reads; it goes into an attribute, where the template escapes it."""
    return json.dumps(
        {
            "at": list(chart.at_s),
            "step": chart.step_s,
            "stacked": chart.stacked,
            "lines": [
                {"name": visible(line.name), "colour": line.colour, "values": list(line.values)}
                for line in chart.lines
            ],
        },
        separators=(",", ":"),
    )


def spark_points(values: Sequence[int]) -> str:
    """The points of a spark's line, left to right, in a picture of `SPARK_HEIGHT` units."""
    most = max(values, default=0) or 1
    room = SPARK_HEIGHT - 2
    return " ".join(
        f"{place * SPARK_STEP},{1 + room - value / most * room:.1f}" for place, value in enumerate(values)
    )


def arc_of(track: Track) -> str:
    """The path of a journey, bent upwards, so that two places that are often left have several lines."""
    (x1, y1), (x2, y2) = place_on(*track.start), place_on(*track.end)
    height = min(y1, y2) - abs(x2 - x1) / 5 - 4
    return f"M{x1:.1f} {y1:.1f}Q{(x1 + x2) / 2:.1f} {height:.1f} {x2:.1f} {y2:.1f}"


def moments_of(lanes: Lanes) -> list[str]:
    """When each step of lanes begins, as people read it; where steps are days, the day alone."""
    words = [instant_words(lanes.start_s + step * lanes.step_s) for step in range(lanes.steps)]
    return [one.removesuffix(" 00:00") for one in words] if lanes.step_s % DAY_S == 0 else words


def _version_of(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
