"""The rules that correlations and filters name: whether there are such, and whether they can be used."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from m365watch.detection.rules.validation.diagnostics import Fault, perhaps


def proofread_references(
    document: Mapping[str, Any], names: Iterable[str], broken: Container[str]
) -> Iterator[Fault]:
    """Each rule that a document names and that there is not; `broken` are names of those with mistakes."""
    known = set(names)
    for kind in ("correlation", "filter"):
        part = document.get(kind)
        rules = part.get("rules") if isinstance(part, Mapping) else None
        if isinstance(rules, str):
            rules = [] if kind == "filter" and rules == "any" else [rules]
        for place, name in enumerate(rules if isinstance(rules, list) else ()):
            if str(name) not in known:
                yield Fault((kind, "rules", place), _told(str(name), known, broken))


def _told(name: str, known: AbstractSet[str], broken: Container[str]) -> str:
    if name in broken:
        return f"{name} has mistakes of its own and is left out; mend it first"
    return f"there is no rule {name}{perhaps(name, known) or '; name one by its name or id'}"


def names_in(document: Mapping[str, Any]) -> Iterator[str]:
    """By what other documents may name this one."""
    yield from (str(document[key]) for key in ("id", "name") if document.get(key))
