"""The table of channels in docs/notifications.md, out of their specs."""

from __future__ import annotations

from m365watch.registry.channel_specs import CHANNELS
from tools.figures_quoted import filled_in

PAGE = "docs/notifications.md"


def render() -> str:
    """The page with a row for each type of target."""
    rows = [f"| `{one.type}` | {one.arrives} | {one.needs} |\n" for one in CHANNELS.specs]
    head = "| type | what arrives | what to set up |\n|---|---|---|\n"
    return filled_in(PAGE, "types", head + "".join(rows))
