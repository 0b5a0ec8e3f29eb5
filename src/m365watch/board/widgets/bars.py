"""The bars of a lane as HTML, made here and by no template: a page of lanes has thousands of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from m365watch.board.widgets.widget_types import Lane

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
