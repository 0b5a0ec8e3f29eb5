"""A field of a decoded record by the name that rules use, in every shape it has been seen in.

A name is a path: `Item.ParentFolder.MemberUpn`. A step into a list asks every element. The six
lists of named values (`Parameters`, `ExtendedProperties` ...) are read as maps, whether they come as
list of Name and Value, as object, or as JSON in a string: `Parameters.ForwardTo`,
`ModifiedProperties.Role.TemplateId.new`. What begins with `m365.` is worked out by `derived/`.

What comes back is always a tuple of plain values, empty where there is nothing: no shape that a
record can have is an error here, and no record costs more than a bounded amount of work.

Source: the shapes that 10,833 published records have, by record type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from m365watch.detection.alerts.alert import CUT, told_text
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge

Value = str | int | float | bool | None
Reader = Callable[["View"], tuple[Value, ...]]

VALUES_MAX = 2_000
"""Values that one field may have; what is beyond is not looked at."""
JSON_TEXT_MAX = 1_048_576
"""Characters of a string that is opened as JSON; a longer one is only text."""
SHOWN_VALUES_MAX = 5
"""Values of one field that an alert repeats."""
_SHOWN_MORE = {"m365.scopes": 25}
"""What an application may do is all of them."""
STEPS_MAX = 24
"""Parts of a name; and how deep values are looked for inside a value."""

MAPS = frozenset(
    {
        "Parameters",
        "NonPIIParameters",
        "ExtendedProperties",
        "OperationProperties",
        "DeviceProperties",
        "ModifiedProperties",
        "ExtraProperties",
    }
)
"""The fields that hold named values, whatever their shape."""

PAIRS = frozenset({"#names", "#values"})
"""Behind a field of `MAPS`: every name that it has, in lower case, and every value."""

NAMES = frozenset(
    {
        "FileData.FileName",
        "FileData.FilePath",
        "Item.ParentFolder.Path",
        "MailboxOwnerUPN",
        "ObjectId",
        "OperationProperties.RuleName",
        "Parameters.Identity",
        "Parameters.Mailbox",
        "Parameters.Name",
        "SiteUrl",
        "SourceFileName",
        "Subject",
        "UserId",
    }
)
"""Fields that name one thing: what looks like a list in one, or like a text in quotes, is its name."""
_EDGELESS = frozenset({"Operation", "UserId"})
"""Fields in which a blank at either end says nothing."""

_NAME_KEYS = ("Name", "Key", "name", "key")
_VALUE_KEYS = ("Value", "NewValue", "value", "newValue")
_SIDES = {"new": ("NewValue", "newValue", "Value"), "old": ("OldValue", "oldValue")}
_KEYS_OF_SIDE = {"old": _SIDES["old"], "new": ("Value", *_SIDES["new"], *_VALUE_KEYS)}
_ARGUMENT = re.compile(
    r"""-([A-Za-z][\w]*)(?::\s?|\s+|$)(?:"([^"]*)"|'([^']*)'|(\("[^"]*"\)|\$?[^\s"'-][^\s]*))?"""
)
_ANY = msgspec.json.Decoder()


class View:
    """A decoded record that rules look at; what one of them has read, the next gets for nothing."""

    __slots__ = ("_folded", "_maps", "_shown", "knowledge", "read", "record", "tenant", "worked_out")

    def __init__(
        self, record: Mapping[str, Any], *, knowledge: Knowledge = NOTHING_KNOWN, tenant: str = ""
    ) -> None:
        """`record` may lack fields that no rule asks for."""
        self.record = record
        self.knowledge = knowledge
        self.tenant = tenant
        self.read: dict[str, tuple[Value, ...]] = {}
        self.worked_out: dict[str, Any] = {}
        """What several derived fields are made of."""
        self._maps: dict[tuple[str, str], dict[str, Any]] = {}
        self._shown: dict[str, str] = {}
        self._folded: dict[str, tuple[str, ...]] = {}

    def values(self, name: str) -> tuple[Value, ...]:
        """The field's values, none of them null; empty where there is none."""
        found = self.read.get(name)
        if found is None:
            found = self.read[name] = reader_of(name)(self)
        return found

    def named(self, field: str, side: str) -> dict[str, Any]:
        """A field of named values as a map."""
        found = self._maps.get((field, side))
        if found is None:
            found = self._maps[field, side] = named_values(self.record.get(field), side=side)
        return found

    def shown(self, name: str) -> str:
        """The field as an alert repeats it: its first values, each fit for a line."""
        found = self._shown.get(name)
        if found is None:
            values = self.values(name)
            found = _told(name, values[0]) if len(values) == 1 else _told_together(name, values)
            self._shown[name] = found
        return found

    def folded(self, name: str) -> tuple[str, ...]:
        """The field's different values as groups are made of them: fit for a line, in lower case."""
        found = self._folded.get(name)
        if found is None:
            texts = dict.fromkeys([_told(name, value).lower() for value in self.values(name)])
            texts.pop("", None)
            found = self._folded[name] = tuple(texts)
        return found

    def first(self, name: str) -> str:
        """The field's first value as text; empty where there is none."""
        found = self.values(name)
        return text_of(found[0]) if found else ""


_readers: dict[str, Reader] = {}
READERS_MAX = 20_000


def reader_of(name: str) -> Reader:
    """What reads the field of that name; rules share it."""
    reader = _readers.get(name)
    if reader is None:
        reader = _make_reader(name)
        if len(_readers) < READERS_MAX:
            _readers[name] = reader
    return reader


def _make_reader(name: str) -> Reader:
    if name.startswith("m365."):
        # What is derived reads fields, and fields may be derived: the second import waits for the first.
        from m365watch.detection.fields.field_catalog import derive

        return derive(name.removeprefix("m365."))
    first, _, rest = name.partition(".")
    if first in MAPS and rest:
        return _map_reader(first, rest)
    steps = tuple(name.split(".")[:STEPS_MAX])
    if len(steps) == 1:
        return lambda view: leaves_of(view.record.get(name))
    return lambda view: read_path(view.record, steps)


def _map_reader(field: str, rest: str) -> Reader:
    name, side = _side_of(rest)
    # A lone "new" is a property of that name, not a side of a nameless one.
    name = name or rest
    if name in PAIRS:
        return _pairs_reader(field, side, of_values=name == "#values")

    def read(view: View) -> tuple[Value, ...]:
        return () if view.record.get(field) is None else read_named(view.named(field, side), name)

    return read


def _pairs_reader(field: str, side: str, *, of_values: bool) -> Reader:
    def read(view: View) -> tuple[Value, ...]:
        if view.record.get(field) is None:
            return ()
        named = view.named(field, side)
        if not of_values:
            return tuple(named)[:VALUES_MAX]
        return tuple(leaf for value in named.values() for leaf in leaves_of(value))[:VALUES_MAX]

    return read


def _side_of(rest: str) -> tuple[str, str]:
    head, _, tail = rest.rpartition(".")
    return (head, tail) if tail in _SIDES else (rest, "new")


def read_named(properties: Mapping[str, Any], name: str) -> tuple[Value, ...]:
    """The values of the property `name`; where no property has it, the longest that begins it, and a path on.

    Letters of either case are the same, as they are to PowerShell and to Entra.
    """
    wanted = name.lower()
    found = properties.get(wanted)
    if found is not None:
        return leaves_of(found)
    parts = wanted.split(".")[:STEPS_MAX]
    steps = name.split(".")[:STEPS_MAX]
    for length in range(len(parts) - 1, 0, -1):
        found = properties.get(".".join(parts[:length]))
        if found is not None:
            return read_path(found, tuple(steps[length:]))
    return ()


def _told(name: str, value: Value) -> str:
    """A value as alerts repeat it, with a mark where it is told otherwise than the record has it."""
    text = value if isinstance(value, str) else text_of(value)
    if name in _EDGELESS:
        return told_text(text.strip(" "))
    if "\n" in text and text[:1] in ("{", "[") and name not in NAMES:
        opened = open_json(text)
        text = json_text(opened) if opened is not text else text
    return told_text(text)


def _told_together(name: str, values: Sequence[Value]) -> str:
    told = _told_apart(name, values) if values else ()
    most = _SHOWN_MORE.get(name, SHOWN_VALUES_MAX)
    found = ", ".join([_told(name, value) for value in told[:most]])
    return f"{found}, {CUT}" if len(told) > most else found


def _told_apart(name: str, values: Sequence[Value]) -> Sequence[Value]:
    """Of several values those that say something of their own: no text of a list beside its elements."""
    if name in NAMES and _holds_others(values[0], values):
        return values[:1]
    return [one for one in values if not _holds_others(one, values)] or values


def _holds_others(value: Value, others: Sequence[Value]) -> bool:
    """Whether it is a text of Entra's making, of a list or in quotes, beside which stands what is in it."""
    if not isinstance(value, str):
        return False
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1] in others
    return value.startswith("[") and isinstance(open_json(value), list)


def named_values(field: Any, *, side: str = "new") -> dict[str, Any]:
    """A field of named values as one map, names in lower case; of one name the first with a value."""
    field = open_json(field)
    if isinstance(field, str):
        return {name.lower(): value for name, value in arguments(field)}
    found: dict[str, Any] = {}
    if isinstance(field, Mapping):
        single = _named_pair(field, side)
        if single is not None and any(key in field for key in (*_VALUE_KEYS, *_SIDES["old"])):
            return {single[0]: single[1]}
        for key, value in field.items():
            found.setdefault(str(key).lower(), _of_side(value, side))
        return found
    if isinstance(field, list):
        for element in field[:VALUES_MAX]:
            pair = _named_pair(element, side)
            if pair is not None and (pair[0] not in found or found[pair[0]] in ("", None)):
                found[pair[0]] = pair[1]
    return found


def _named_pair(element: Any, side: str) -> tuple[str, Any] | None:
    if type(element) is not dict:
        return None
    name = element.get("Name")
    if type(name) is not str:
        name = next((element[key] for key in _NAME_KEYS if isinstance(element.get(key), str)), None)
        if name is None:
            return None
    for key in _KEYS_OF_SIDE[side]:
        if key in element:
            return name.strip().lower(), element[key]
    return name.strip().lower(), ""


def _of_side(value: Any, side: str) -> Any:
    """A map's value; of an object with both sides, the one that is asked for."""
    if isinstance(value, Mapping) and any(key in value for key in ("NewValue", "newValue", "OldValue")):
        return next((value[key] for key in _SIDES[side] if key in value), "")
    return "" if side == "old" else value


def arguments(text: str) -> list[tuple[str, str]]:
    """The parameters of a cmdlet that were written down as one line, each once: -Mode "Disable" -Force."""
    found: dict[str, tuple[str, str]] = {}
    for match in islice(_ARGUMENT.finditer(text[:JSON_TEXT_MAX]), VALUES_MAX):
        name, double, single, bare = match.groups()
        value = next((part for part in (double, single, bare) if part is not None), "True")
        found.setdefault(name.lower(), (name, value.removeprefix("$")))
    return list(found.values())


def read_path(value: Any, steps: tuple[str, ...]) -> tuple[Value, ...]:
    """Every plain value at the end of the path, in order, at most `VALUES_MAX`."""
    reached: list[Any] = [value]
    for step in steps:
        found = [
            element[step]
            for one in reached
            for element in elements_of(open_json(one))
            if isinstance(element, Mapping) and step in element
        ]
        reached = found[:VALUES_MAX]
    values: list[Value] = []
    for one in reached:
        values += leaves_of(one)
        if len(values) > VALUES_MAX:
            break
    return tuple(values[:VALUES_MAX])


def elements_of(value: Any) -> Iterator[Any]:
    """Of a list each, opened where it is JSON in a string; any other value itself."""
    if isinstance(value, list):
        for element in value[:VALUES_MAX]:
            yield open_json(element)
    else:
        yield value


def open_json(value: Any) -> Any:
    """What a string holds that is itself a JSON object or list; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "[") and len(value) <= JSON_TEXT_MAX:
        try:
            return _ANY.decode(value)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return value
    if isinstance(value, str) and value[:1].isspace() and len(value) <= JSON_TEXT_MAX:
        stripped = value.lstrip()
        return open_json(stripped) if stripped[:1] in ("{", "[") else value
    return value


def leaves_of(value: Any) -> tuple[Value, ...]:
    """A field's values: a plain one itself, a list's plain elements, any other thing as its JSON text.

    A string that holds a JSON list of plain values is both: the text, and each element.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return _leaves_of_text(value)
    if isinstance(value, bool | int | float):
        return (value,)
    if isinstance(value, list):
        plain = tuple(one for one in value[:VALUES_MAX] if isinstance(one, str | bool | int | float))
        if len(plain) == len(value):
            return plain
        return (*plain, json_text(value))
    return (json_text(value),)


def _leaves_of_text(text: str) -> tuple[Value, ...]:
    if text[:1] == "[":
        opened = open_json(text)
        if isinstance(opened, list):
            plain = [one for one in opened[:VALUES_MAX] if isinstance(one, str | bool | int | float)]
            return (text, *plain)
    if len(text) > 1 and text[0] == text[-1] == '"':
        return (text, text[1:-1])
    return (text,)


def json_text(value: Any) -> str:
    """A value as compact JSON; empty where it cannot be written."""
    try:
        return msgspec.json.encode(value).decode("utf-8", "replace")
    except (RecursionError, TypeError, ValueError, UnicodeError, msgspec.MsgspecError):
        return ""


def every_value(value: Any) -> Iterator[str]:
    """The text of every plain value inside, at any depth, JSON in strings included; bounded."""
    left: list[tuple[Any, int]] = [(value, 0)]
    count = 0
    while left and count < VALUES_MAX:
        one, depth = left.pop()
        if isinstance(one, str):
            opened = open_json(one)
            if opened is not one and depth < STEPS_MAX and isinstance(opened, list | dict):
                left.append((opened, depth + 1))
            count += 1
            yield one
        elif isinstance(one, Mapping):
            if depth < STEPS_MAX:
                left += [(inner, depth + 1) for inner in reversed(list(one.values())[:VALUES_MAX])]
        elif isinstance(one, list):
            if depth < STEPS_MAX:
                left += [(inner, depth + 1) for inner in reversed(one[:VALUES_MAX])]
        elif one is not None:
            count += 1
            yield text_of(one)


def text_of(value: Value) -> str:
    """A plain value as rules see it: true and false for booleans, no .0 at whole numbers."""
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return "" if value is None else str(value)
