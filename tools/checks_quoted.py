"""The table of health checks in docs/operating.md, out of their specs."""

from __future__ import annotations

from collections.abc import Collection

from m365watch.health.checks.check_specs import Surface, by_rank
from tools.figures_quoted import filled_in

PAGE = "docs/operating.md"
_WORDS = {
    Surface.WHY: "`why`",
    Surface.STATUS: "`status`",
    Surface.HEALTH: "Health",
    Surface.METRICS: "metrics",
}


def render() -> str:
    """The page with a row for each check."""
    rows = [f"| `{one.type}` | {one.text} | {_places(one.shown)} |\n" for one in by_rank()]
    head = "| check | what it looks at | shown as well |\n|---|---|---|\n"
    return filled_in(PAGE, "checks", head + "".join(rows))


def _places(shown: Collection[Surface]) -> str:
    return ", ".join(words for place, words in _WORDS.items() if place in shown)
