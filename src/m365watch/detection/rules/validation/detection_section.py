"""The selections of a rule or filter, line by line, and the condition that joins them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from sigma.exceptions import SigmaError
from sigma.modifiers import modifier_mapping, reverse_modifier_mapping
from sigma.rule import SigmaDetections
from sigma.types import SigmaNull

from m365watch.detection.rules.condition import list_fields
from m365watch.detection.rules.condition_compiler import BadPattern, compile_condition, compile_pattern
from m365watch.detection.rules.sigma_parser import Source, convert_part
from m365watch.detection.rules.validation.diagnostics import Fault, Where, perhaps
from m365watch.detection.rules.validation.field_names import is_unknown, no_such_field
from m365watch.detection.rules.validation.pysigma_errors import MISREAD, reason_of

DEPTH_MAX = 60
_FLAGS = {"i": "i", "ignorecase": "i", "m": "m", "multiline": "m", "s": "s", "dotall": "s"}


def proofread_patterns(value: object, where: Where = ()) -> Iterator[Fault]:
    """Every regular expression that cannot be used, whatever it stands in."""
    if len(where) > DEPTH_MAX:
        return
    if isinstance(value, Mapping):
        for key, one in value.items():
            modifiers = str(key).split("|")[1:]
            if "re" in modifiers:
                yield from _judge(one, modifiers, (*where, str(key)))
            else:
                yield from proofread_patterns(one, (*where, str(key)))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from proofread_patterns(one, (*where, place))


def _judge(value: object, modifiers: list[str], where: Where) -> Iterator[Fault]:
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _judge(one, modifiers, (*where, place))
    elif not isinstance(value, str):
        yield Fault(where, f"{value!r} is no text, and so no regular expression; put it in quotation marks")
    elif "expand" not in modifiers:
        # With a list inside, it is tried once for each of its texts.
        flags = "".join(sorted({_FLAGS[one] for one in modifiers if one in _FLAGS}))
        try:
            compile_pattern(f"(?{flags})" + value if flags else value)
        except BadPattern as error:
            yield Fault(where, str(error))


_WORD = re.compile(r"[\w*-]+")
_JOINING = frozenset(["and", "or", "not", "of", "all", "any", "them", "near", "by"])
_UNFIT = re.compile(r"Modifier (\w+) incompatible to value type of (.*)", re.DOTALL)
_NULL = f"'<{SigmaNull.__module__}.{SigmaNull.__qualname__} "
"""How the only value begins there that has no words of its own."""
_TAKES = dict.fromkeys(("lt", "lte", "gt", "gte"), "a number") | {
    "exists": "true or false",
    "cidr": "a network such as 192.0.2.0/24",
}
_FIRST = "give at least one selection, such as `selection: {Operation: New-InboxRule}`"


def proofread_detections(
    value: object, where: Where, source: Source, *, others: Sequence[str] = ()
) -> Iterator[Fault]:
    """Every mistake of a detection or filter; `others` are its keys that are no selections."""
    if not isinstance(value, Mapping):
        yield Fault(where, "is no map of keys and values; give selections and a condition")
        return
    names = [str(name) for name in value if name not in ("condition", *others)]
    if not names:
        yield Fault(where, f"has no selection; {_FIRST}")
        return
    for name in names:
        yield from _selection(value.get(name), (*where, name), source)
    yield from _conditions(value.get("condition"), names, (*where, "condition"))


def _selection(value: object, where: Where, source: Source) -> Iterator[Fault]:
    if len(where) > DEPTH_MAX:
        yield Fault(where, "is nested too deeply; take a level out")
    elif isinstance(value, Mapping):
        if not value:
            yield Fault(where, "is empty; name a field and a value, or take it out")
        for key, one in value.items():
            yield from _part(str(key), one, (*where, str(key)), source)
    elif isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        for place, one in enumerate(value):
            yield from _selection(one, (*where, place), source)
    elif value in (None, []):
        yield Fault(where, "is empty; name a field and a value, or take it out")
    else:
        yield from _part(None, value, where, source)


def _part(key: str | None, value: object, where: Where, source: Source) -> Iterator[Fault]:
    """The mistakes of one line: its field, its modifiers, and each of its values."""
    if key and any(isinstance(one, Mapping) for one in (value if isinstance(value, list) else [value])):
        return  # Told as what can never do what was meant.
    field, *modifiers = (key or "").split("|")
    found = [
        *([no_such_field(field, where)] if is_unknown(field) else ()),
        *(
            Fault(where, f"there is no modifier {one}{_instead(one)}")
            for one in modifiers
            if one not in modifier_mapping
        ),
    ] or [*proofread_patterns({key: value} if key else value, where[:-1] if key else where)]
    yield from found or _values(key, value, where, source)


_MODIFIERS = "; the usual ones are contains, startswith, endswith, all, re and cidr"


def _instead(modifier: str) -> str:
    """What to write in place of a modifier that there is not."""
    # Sigma has two names for it, and the nearest one is that of the other order of bytes.
    if modifier == "utf16le":
        return "; it is called wide"
    return perhaps(modifier, modifier_mapping) or _MODIFIERS


def _values(key: str | None, value: object, where: Where, source: Source) -> Iterator[Fault]:
    told = _try_part(key, value, source)
    if not told:
        return
    single = [
        Fault((*where, place), one_told)
        for place, one in enumerate(value if isinstance(value, list) else ())
        if (one_told := _try_part(key, one, source))
    ]
    yield from single or [Fault(where, told)]


def _try_part(key: str | None, value: object, source: Source) -> str:
    """Why a line cannot be used; empty where it can."""
    try:
        condition = convert_part(key, value, source=source)
        compile_condition(condition)
    except MISREAD as error:
        return _in_words(reason_of(error).removeprefix("detection: "))
    unknown = [name for name in list_fields(condition) or () if is_unknown(name)]
    return no_such_field(unknown[0], ()).text if unknown else ""


def _in_words(said: str) -> str:
    """What pySigma says of a value, without the names of its classes."""
    found = _UNFIT.fullmatch(said)
    if found is None:
        return said
    name = reverse_modifier_mapping[found[1]]
    value = "null" if found[2].startswith(_NULL) else found[2]
    return f"{name} does not go with {value}; give {_TAKES.get(name, 'a text')}, or another modifier"


def _conditions(value: object, names: Sequence[str], where: Where) -> Iterator[Fault]:
    if value in (None, "", []):
        joined = " and ".join(names) or "selection"
        yield Fault(where, f"is missing; say which selections have to hold, such as `condition: {joined}`")
        return
    for place, one in enumerate(value if isinstance(value, list) else [value]):
        yield from _condition(one, names, (*where, place) if isinstance(value, list) else where)


def _condition(value: object, names: Sequence[str], where: Where) -> Iterator[Fault]:
    if not isinstance(value, str):
        yield Fault(where, "is no text; name selections, joined by and, or, not")
        return
    if "|" in value:
        yield Fault(where, "aggregations after a `|` are of the first Sigma; write a correlation instead")
        return
    words = [word for word in _WORD.findall(value) if word.lower() not in _JOINING and not word.isdigit()]
    lost = [word for word in dict.fromkeys(words) if not any(fnmatchcase(name, word) for name in names)]
    for word in lost:
        told = perhaps(word, names) or f"; the rule has {', '.join(names)}"
        yield Fault(where, f"there is no selection {word}{told}")
    if not lost:
        yield from _parsed(value, names, where)


def _parsed(value: str, names: Sequence[str], where: Where) -> Iterator[Fault]:
    stand_ins = {name: {"Operation": "x"} for name in names}
    try:
        for one in SigmaDetections.from_dict({**stand_ins, "condition": value}).parsed_condition:
            _ = one.parsed
    except (SigmaError, *MISREAD):
        yield Fault(where, f"`{value[:120]}` is not understood; join selections by and, or, not and brackets")
