"""A condition as the detection of a Sigma rule: selections by name, and the words that join them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.rules.condition import (
    Compared,
    ComparedTime,
    Comparison,
    Condition,
    ContainsOneOf,
    Every,
    Exists,
    InNetwork,
    IsNull,
    Like,
    Matches,
    Never,
    OneOf,
    Order,
    SameAs,
    Some,
    Test,
    TimePart,
    Wildcard,
)

_PLACES = {"anywhere": "contains", "start": "startswith", "end": "endswith"}
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,14}")
_SPECIAL = re.compile(r"[*?\\]")
_FLAGGED = re.compile(r"\(\?([ims]+)\)")
_FREE_WORD = re.compile(r"[^A-Za-z0-9_]+")


def write_detection(condition: Condition, selections: Mapping[str, Condition], *, kept: Iterable[str]) -> Any:
    """The key `detection`: selections keep their names where they can, and those in `kept` are always there.

    Raises: Unsayable.
    """
    writer = _Writer(selections)
    joined = writer.join(condition, outer="")
    for name in sorted(kept):
        writer.keep(name)
    return {**writer.made, "condition": joined}


class _Writer:
    """The selections of one rule, as far as they are written."""

    def __init__(self, selections: Mapping[str, Condition]) -> None:
        self._names = {one: name for name, one in reversed(list(selections.items()))}
        self._selections = selections
        self.made: dict[str, Any] = {}

    def join(self, condition: Condition, *, outer: str) -> str:
        """The words that stand for the condition; what is joined by another word than `outer` in brackets."""
        name = self._names.get(condition, "")
        written = _selection(condition)
        if written is not None:
            return self._add(name, condition, written)
        match condition:
            case Never(part):
                return f"not {self.join(part, outer='not')}"
            case Every(parts):
                return self._joined("and", parts, outer)
            case Some(parts):
                return self._joined("or", parts, outer)
        raise Unsayable("a part of its condition is no selection")

    def keep(self, name: str) -> None:
        """Write the selection even if the condition does without; it says when the severity rises."""
        self.made.setdefault(name, _selection(self._selections[name]))

    def _joined(self, word: str, parts: tuple[Condition, ...], outer: str) -> str:
        text = f" {word} ".join(self.join(part, outer=word) for part in parts)
        return text if outer in ("", word) or len(parts) == 1 else f"({text})"

    def _add(self, name: str, condition: Condition, written: Any) -> str:
        for known, other in self.made.items():
            if other == written and (not name or known == name):
                return known
        chosen = name or self._free_name(condition)
        self.made[chosen] = written
        return chosen

    def _free_name(self, condition: Condition) -> str:
        field = condition.field if isinstance(condition, Test) and condition.field else "selection"
        word = _FREE_WORD.sub("_", field).strip("_").lower()
        number = 1
        while (name := f"{word}_{number}") in self.made or name in self._selections:
            number += 1
        return name


def is_selection(condition: Condition) -> bool:
    """Whether the condition can stand under one name. Raises: Unsayable."""
    return _selection(condition) is not None


def _selection(condition: Condition) -> Any:
    """The condition as one selection; None where it takes several."""
    match condition:
        case Test(None, comparison):
            return _keywords(comparison)
        case Test():
            return dict([_pair(condition)])
        case Every(parts) if all(isinstance(part, Test) and part.field is not None for part in parts):
            pairs = [_pair(part) for part in parts if isinstance(part, Test)]
            return dict(pairs) if len(dict(pairs)) == len(pairs) else None
        case Some(parts):
            written = [_selection(part) for part in parts]
            return written if all(isinstance(one, dict) for one in written) else None
    return None


def _keywords(comparison: Comparison) -> list[str]:
    match comparison:
        case OneOf(values):
            return [_text((one,)) for one in sorted(values)]
        case Like(parts, False):
            return [_text(parts)]
    raise Unsayable("a pattern is asked of the whole record")


def _pair(test: Test) -> tuple[str, Any]:
    """The field with its modifiers, and the value or values."""
    field = str(test.field)
    match test.comparison:
        case Like(parts, cased):
            return f"{field}|cased" if cased else field, _value(parts, cased=cased)
        case OneOf(values):
            found = [_value((one,), cased=False) for one in sorted(values)]
            return field, found[0] if len(found) == 1 else found
        case ContainsOneOf(values, place, unless):
            if unless:
                raise Unsayable(f"{field}: one part of a value without another has no word in Sigma")
            return f"{field}|{_PLACES[place]}", [_text((one,)) for one in sorted(values)]
        case Matches(pattern):
            return _expression(field, pattern)
        case comparison:
            return _other_pair(field, comparison)


def _other_pair(field: str, comparison: Comparison) -> tuple[str, Any]:
    match comparison:
        case Compared(order, number) if order not in (Order.EQUAL, Order.OTHER):
            return f"{field}|{order}", int(number) if number == int(number) else number
        case ComparedTime(part, order, number):
            return _time(field, part, order), int(number)
        case InNetwork(network):
            return f"{field}|cidr", str(network)
        case Exists(wanted):
            return f"{field}|exists", wanted
        case IsNull():
            return field, None
        case SameAs(other, place):
            return f"{field}|fieldref" + ("" if place == "whole" else f"|{_PLACES[place]}"), other
    raise Unsayable(f"a comparison of the kind {type(comparison).__name__} has no word in Sigma")


def _expression(field: str, pattern: str) -> tuple[str, str]:
    flags = _FLAGGED.match(pattern)
    if flags is None:
        return f"{field}|re", pattern
    return f"{field}|re|{'|'.join(flags[1])}", pattern[flags.end() :]


def _time(field: str, part: TimePart, order: Order) -> str:
    return f"{field}|{part}" + ("" if order is Order.EQUAL else f"|{order}")


def _value(parts: tuple[str | Wildcard, ...], *, cased: bool) -> str | int:
    """A text, or the number that it spells: products compare numbers with numbers."""
    match parts:
        case (str() as word,) if not cased and _NUMBER.fullmatch(word):
            return int(word)
    return _text(parts)


def _text(parts: tuple[str | Wildcard, ...]) -> str:
    """A text in which wildcards are wildcards, and stars of the text itself are none."""
    return "".join(
        part.value if isinstance(part, Wildcard) else _SPECIAL.sub(lambda one: f"\\{one[0]}", part)
        for part in parts
    )
