"""What is well-formed, and can never do what was meant: a rule would be in force with it, and silent.

Sigma leaves it to everybody to add keys of their own to a rule, and the feed gets new fields. So only what is
all but one of the keys that decide what a rule does, or of the fields that every rule asks for, is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache

from m365watch.detection.rules.validation.diagnostics import Fault, Where
from m365watch.detection.rules.validation.field_names import TRUTHS, meant_field

_KEYS = (
    "correlation",
    "detection",
    "filter",
    "level",
    "logsource",
    "m365watch",
    "status",
    "tags",
    "title",
)
"""The keys without which a rule is another one."""
_CLOSE = 0.85
_TECHNIQUE = re.compile(r"attack\.t[0-9]{4}(\.[0-9]{3})?", re.IGNORECASE)
_LIKE_ONE = re.compile(r"attack\.t[0-9]", re.IGNORECASE)
_DEPTH_MAX = 60


def proofread_silent(document: Mapping[str, object]) -> Iterator[Fault]:
    """Every mistake of this kind, whatever kind of document it is."""
    for key in document:
        if isinstance(key, str) and (meant := _meant_key(key)) and document.get(meant) is None:
            yield Fault((key,), f"is no key of a rule; did you mean {meant}?")
    tags = document.get("tags")
    for place, tag in enumerate(tags if isinstance(tags, list) else ()):
        if isinstance(tag, str) and _LIKE_ONE.match(tag) and not _TECHNIQUE.fullmatch(tag):
            yield Fault(("tags", place), f"{tag} is no technique; write it as attack.t1114.003")
    for key in ("detection", "filter"):
        selections = document.get(key)
        for name, one in selections.items() if isinstance(selections, Mapping) else ():
            if name not in ("condition", "rules"):
                yield from _selection(one, (key, str(name)))


@lru_cache(maxsize=1_024)
def _meant_key(key: str) -> str:
    """The key that was meant; every rule has the same few."""
    if key in _KEYS:
        return ""
    letters = sorted(key.lower())
    swapped = next((one for one in _KEYS if sorted(one) == letters), "")
    return swapped or next(iter(get_close_matches(key.lower(), _KEYS, n=1, cutoff=_CLOSE)), "")


def _selection(value: object, where: Where) -> Iterator[Fault]:
    if len(where) > _DEPTH_MAX:
        return
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _line(str(key), one, (*where, str(key)))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _selection(one, (*where, place))


def _line(key: str, value: object, where: Where) -> Iterator[Fault]:
    """The mistakes of a field and its values."""
    field, *modifiers = key.split("|")
    if meant := meant_field(field):
        yield Fault(where, f"no record has this field; did you mean {meant}?")
    if value == []:
        yield Fault(where, "is empty; give a value, or take it out")
    for at, one in _values(value, where):
        if isinstance(one, Mapping):
            inner = next(iter(one), "Name")
            yield Fault(at, f"is a map; what lies deeper is written with a dot, as {field}.{inner}")
        elif not modifiers and field.removeprefix("m365.") in TRUTHS and field.startswith("m365."):
            said = str(one).lower()
            if one is not None and said not in ("true", "false") and not set(said) & set("*?"):
                yield Fault(at, f"is true or false, and never {one}")


def _values(value: object, where: Where) -> Iterator[tuple[Where, object]]:
    if isinstance(value, list):
        yield from (((*where, place), one) for place, one in enumerate(value))
    else:
        yield where, value
