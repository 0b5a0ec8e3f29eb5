"""Templates: escaped throughout, strict about what they are not given, with the words of the pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from m365watch.board.pages.page_registry import PAGES
from m365watch.board.pages.page_types import keys_of
from m365watch.board.pages.sql import EXAMPLES
from m365watch.board.query.query_context import MENTIONS, View
from m365watch.board.query.time_range import DAY_S, PRESETS, instant_words
from m365watch.board.widgets.bars import bars_of
from m365watch.board.widgets.cells import rows_of
from m365watch.board.widgets.dimensions import DIMENSION_WORDS, dimension_words, value_words
from m365watch.board.widgets.labels import brief, brief_entities, short, visible
from m365watch.board.widgets.map_outline import HEIGHT, LAND, WIDTH, place_on
from m365watch.board.widgets.widget_types import Chart, Lanes, Shape, Track

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
