"""What `gaps` shows: a few lines for each stretch without content."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from m365watch.cli.terminal.formatting import content_name, count, moment, quoted, span, whole_line
from m365watch.cli.terminal.json_output import SCHEMA, instant

if TYPE_CHECKING:
    from m365watch.health.completeness.content_gaps import Gap, GapsFound

KNOWN_MIN = 0.99
"""A feed of which fewer hours of the week are known is still being learned."""


def gaps_page(found: GapsFound) -> Group:
    """Each gap with its reason; then the feeds that are not known well enough to be judged."""
    lines = [line for gap in found.gaps for line in _gap_lines(gap)]
    unusual = sum(gap.is_unusual for gap in found.gaps)
    unknown = [
        f"{content_name(feed)} {share:.0%}" for feed, share in found.known_share.items() if share < KNOWN_MIN
    ]
    if unknown:
        text = f"still learning, with so much of the week known: {', '.join(unknown)}"
        lines.append(Text(text, style="yellow"))
    verdict = f"{count(unusual, 'unusual gap')}; judged up to {moment(found.due_to)}"
    return Group(*lines, Text(verdict, style="bold red" if unusual else "bold"))


def _gap_lines(gap: Gap) -> list[Text]:
    hours = span((gap.end - gap.start).total_seconds())
    mark = "yellow" if gap.is_unusual else "dim"
    head = f"{gap.reason}  {gap.feed}"
    times = f"  {moment(gap.start)} to {moment(gap.end)}, {hours}"
    usual = "" if gap.usual_blobs is None else f"; usually {count(round(gap.usual_blobs), 'blob')}"
    return [whole_line(head, style=mark), whole_line(times + usual), Text(f"  {quoted(gap.text)}")]


def gaps_document(found: GapsFound, *, now: datetime) -> dict[str, Any]:
    """What `gaps --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "judged_to": instant(found.due_to),
        "gaps": [
            {
                "tenant": gap.feed.tenant_id,
                "content_type": str(gap.feed.content_type),
                "from": instant(gap.start),
                "to": instant(gap.end),
                "reason": gap.reason,
                "unusual": gap.is_unusual,
                "usual_blobs": gap.usual_blobs,
                "chance": gap.chance,
                "text": gap.text,
            }
            for gap in found.gaps
        ],
        "feeds": [
            {"tenant": feed.tenant_id, "content_type": str(feed.content_type), "known_share": share}
            for feed, share in found.known_share.items()
        ],
    }
