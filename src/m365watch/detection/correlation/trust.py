"""Devices that are trusted: what they alone have done makes no alert."""

from __future__ import annotations

from collections.abc import Iterable

from m365watch.detection.alerts.alert import Match


def are_trusted(matches: Iterable[Match], field: str) -> bool:
    """Whether the field, of A|B the first that there is, is true of every match; never where it is empty."""
    names = field.split("|")
    return field != "" and all(_first_of(match, names).lower() == "true" for match in matches)


def _first_of(match: Match, names: Iterable[str]) -> str:
    return next(filter(None, map(match.values.get, names)), "")
