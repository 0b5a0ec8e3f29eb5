"""Files shared and taken."""

from __future__ import annotations

import asyncio
from typing import Any

from asking import view_of
from m365watch.board.pages.sharepoint import _sharing_row, sharing
from m365watch.board.shapes import Several
from m365watch.board.sources import Sources


def shared(target: str, kind: str, operation: str = "SharingSet") -> tuple[str, str]:
    """With whom a record says that something was shared, and how much it stands out."""
    raw = f'{{"TargetUserOrGroupName":"{target}","TargetUserOrGroupType":"{kind}"}}'
    row: tuple[Any, ...] = (0, operation, "ann@x", "", "ok", "https://x/sites/a", raw)
    cell = _sharing_row(row)[3]
    return cell.text, cell.tone


def test_who_is_outside_stands_out() -> None:
    """Guests by their kind and by their name, and links for anybody by both of their records."""
    assert shared("bob@x", "Member") == ("bob@x", "")
    assert shared("eve@y", "Guest") == ("eve@y", "medium")
    assert shared("eve_y#EXT#@x", "Member")[1] == "medium"
    assert shared("SharingLinks.1.AnonymousEdit.2", "SharePointGroup") == ("anybody with the link", "high")
    assert shared("", "", "AnonymousLinkUsed") == ("anybody with the link", "high")


def test_what_stays_inside_is_shown_when_asked_for(sources: Sources) -> None:
    """Sharing outside is a part of all sharing."""
    outside = asyncio.run(sharing(view_of("range=30d"), sources))
    everything = asyncio.run(sharing(view_of("range=30d&by=everybody"), sources))

    assert isinstance(outside, Several)
    assert isinstance(everything, Several)
    assert 0 < len(rows_of(outside)) < len(rows_of(everything))
    assert all(row[3].tone for row in rows_of(outside))


def rows_of(shape: Several) -> Any:
    [grid] = shape.parts
    return getattr(grid, "rows", ())
