"""Texts of others as a line of ours may have them."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text on one line: a blank for what is not shown, moves a cursor or turns writing."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)
