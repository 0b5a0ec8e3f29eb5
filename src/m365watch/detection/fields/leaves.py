"""Every plain value inside a property, with the keys that lead to it, JSON in texts included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from m365watch.detection.fields.record_view import STEPS_MAX, VALUES_MAX, open_json, text_of

Leaf = tuple[tuple[str, ...], str]


def leaves_with_paths(value: Any) -> Iterator[Leaf]:
    """Each value after its path, in order, at most `VALUES_MAX`; elements of a list have that of the list."""
    left: list[tuple[tuple[str, ...], Any]] = [((), value)]
    count = 0
    while left and count < VALUES_MAX:
        path, one = left.pop()
        opened = open_json(one)
        inside: list[tuple[tuple[str, ...], Any]] = []
        if isinstance(opened, Mapping):
            inside = [((*path, str(key)), inner) for key, inner in opened.items()]
        elif isinstance(opened, list):
            inside = [(path, inner) for inner in opened]
        elif opened is not None:
            count += 1
            yield path, text_of(opened)
        if len(path) < STEPS_MAX:
            left += reversed(inside[:VALUES_MAX])
