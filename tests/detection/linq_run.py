"""An interpreter of the parsed part of LINQ: enough to see what a query finds in records.

What Devo does where a value is absent is done here too: functions of null are null, a comparison with null is
null, and a row whose condition is null is dropped.
"""

from __future__ import annotations

import ipaddress
import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import eq, ge, gt, itemgetter, le, lt, ne
from typing import Any

import re2

from linq_syntax import Call, Clause, Column, Expression, Group, Literal, Query, Select, Where

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Json:
    """A value of the type json, which is no text."""

    value: Any


@dataclass(slots=True)
class World:
    """What the functions know beyond the row."""

    today: datetime
    locate: Callable[[str], Any]


def rows_of(query: Query, rows: Iterable[Row], world: World) -> list[Row]:
    """What the query finds."""
    found = [dict(row) for row in rows]
    place = 0
    while place < len(query.clauses):
        clause = query.clauses[place]
        if isinstance(clause, Group):
            following = query.clauses[place + 1] if place + 1 < len(query.clauses) else None
            found = _grouped(clause, following if isinstance(following, Select) else None, found, world)
            place += 2 if isinstance(following, Select) else 1
            continue
        found = list(_applied(clause, found, world))
        place += 1
    return found


def _applied(clause: Clause, rows: list[Row], world: World) -> Iterable[Row]:
    if isinstance(clause, Where):
        conditions = [evaluator_of(one, world) for one in clause.conditions]
        for row in rows:
            if all(holds(row) is True for holds in conditions):
                yield row
    elif isinstance(clause, Select):
        made = [(evaluator_of(expression, world), name) for expression, name in clause.made]
        for row in rows:
            for value_of, name in made:
                row[name] = value_of(row)
            yield row


def _grouped(group: Group, select: Select | None, rows: list[Row], world: World) -> list[Row]:
    # At Devo periods begin with full hours; here the first begins with a case's first row, whatever the span.
    start = min((row["eventdate"] for row in rows), default=None)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        bucket = (row["eventdate"] - start) // timedelta(seconds=group.every_s) if group.every_s else 0
        groups.setdefault((bucket, *(row[key] for key in group.keys)), []).append(row)
    made = [(_total_of(expression, world), name) for expression, name in select.made] if select else []
    found = []
    for key, members in groups.items():
        row = dict(zip(group.keys, key[1:], strict=True))
        if group.every_s:
            row["eventdate"] = start
        for total_of, name in made:
            row[name] = total_of(members)
        found.append(row)
    return found


def _total_of(call: Expression, world: World) -> Callable[[list[Row]], Any]:
    assert isinstance(call, Call)
    if not call.arguments:
        assert call.name == "count"
        return len
    value_of = evaluator_of(call.arguments[0], world)

    def total_of(members: list[Row]) -> Any:
        values = [*map(value_of, members)]
        there = [value for value in values if value is not None]
        if call.name == "avg":
            return sum(there) / len(values) if values else None
        return _OF_THERE[call.name](there)

    return total_of


_OF_THERE: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": sum,
    "median": lambda there: statistics.median(there) if there else None,
    "min": lambda there: min(there, default=None),
    "max": lambda there: max(there, default=None),
    "sizedistinct": lambda there: len(set(there)),
    "hllppcount": lambda there: len(set(there)),
    "collect": list,
    "collectdistinct": lambda there: sorted(set(there)),
    "nnfirst": lambda there: there[0] if there else None,
    "nnlast": lambda there: there[-1] if there else None,
}
"""What is worked out of those values of a group that are not null."""


Evaluator = Callable[[Row], Any]
"""The value of an expression for a row; None is null."""


def evaluator_of(expression: Expression, world: World) -> Evaluator:
    """What works the expression out; made once, as cases have thousands of rows."""
    match expression:
        case Literal(value, kind):
            return _known(timedelta(seconds=int(str(value))) if kind == "span" else value)
        case Column(name):
            return itemgetter(name)
        case Call("today", _):
            return lambda _row: world.today
        case Call(name, parts):
            inner = [evaluator_of(part, world) for part in parts]
            if name in _LAZY:
                return _LAZY[name](inner)
            value_of = _strict(_function(name, world), inner)
            return _known(value_of({})) if all(map(_is_constant, parts)) else value_of


def _is_constant(expression: Expression) -> bool:
    """Whether no row has a say in it, as with a pattern or a set of texts."""
    if isinstance(expression, Call):
        return expression.name not in {"today", *_LAZY} and all(map(_is_constant, expression.arguments))
    return isinstance(expression, Literal)


def _known(value: Any) -> Evaluator:
    return lambda _row: value


def _strict(function: Callable[..., Any], parts: list[Evaluator]) -> Evaluator:
    def value_of(row: Row) -> Any:
        values = [part(row) for part in parts]
        return None if None in values else function(*values)

    def value_of_one(row: Row) -> Any:
        value = first(row)
        return None if value is None else function(value)

    def value_of_two(row: Row) -> Any:
        value, other = first(row), second(row)
        return None if value is None or other is None else function(value, other)

    match parts:
        case [first]:
            return value_of_one
        case [first, second]:
            return value_of_two
    return value_of


def _logic(parts: list[Evaluator], *, deciding: bool) -> Evaluator:
    def value_of(row: Row) -> Any:
        found: bool | None = not deciding
        for part in parts:
            value = part(row)
            assert value is None or isinstance(value, bool)
            if value is deciding or (value is None and found is not deciding):
                found = value
        return found

    return value_of


def _negated(part: Evaluator) -> Evaluator:
    def value_of(row: Row) -> Any:
        value = part(row)
        return None if value is None else not value

    return value_of


def _there(first: Evaluator, other: Evaluator) -> Evaluator:
    def value_of(row: Row) -> Any:
        found = first(row)
        return other(row) if found is None else found

    return value_of


def _chosen(condition: Evaluator, then: Evaluator, otherwise: Evaluator) -> Evaluator:
    return lambda row: then(row) if condition(row) is True else otherwise(row)


def _is_null(part: Evaluator, *, wanted: bool) -> Evaluator:
    return lambda row: (part(row) is None) is wanted


_LAZY: dict[str, Callable[[list[Evaluator]], Evaluator]] = {
    "and": lambda parts: _logic(parts, deciding=False),
    "or": lambda parts: _logic(parts, deciding=True),
    "not": lambda parts: _negated(parts[0]),
    "nvl": lambda parts: _there(*parts),
    "ifthenelse": lambda parts: _chosen(*parts),
    "isnull": lambda parts: _is_null(parts[0], wanted=True),
    "isnotnull": lambda parts: _is_null(parts[0], wanted=False),
}
"""What can be worked out though an argument is null."""


def _function(name: str, world: World) -> Callable[..., Any]:
    if name == "countrycode":
        return lambda address: world.locate(address).country or None
    if name == "asn":
        return lambda address: int(number) if (number := world.locate(address).asn) else None
    return _FUNCTIONS[name]


def _text(value: Any) -> str:
    assert isinstance(value, str), f"a text is wanted, and there is {value!r}"
    return value


@cache
def _compiled(pattern: str) -> Any:
    """RE2 takes what Java and Perl take too, but for looking around; so it says that a pattern is plain."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _peek(text: str, pattern: str, group: int = 0) -> str | None:
    found = _compiled(pattern).search(_text(text))
    return None if found is None else found.group(group)


def _json(text: str) -> Json | None:
    try:
        return Json(json.loads(_text(text)))
    except ValueError:
        return None


def _at(value: Any, key: Any) -> Any:
    if isinstance(value, list):
        return value[key]
    assert isinstance(value, Json), "only json has keys"
    inner = value.value
    return Json(inner[key]) if isinstance(inner, dict) and key in inner else None


def _walked(path: str, value: Json) -> Any:
    found = value.value
    for step in path.split(".")[1:]:
        if not isinstance(found, dict) or step not in found:
            return None
        found = found[step]
    return Json(found)


def _str(value: Any) -> str | None:
    """Of JSON only a text becomes one."""
    if isinstance(value, Json):
        return value.value if isinstance(value.value, str) else None
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)


def _stringify(value: Any) -> str | None:
    assert isinstance(value, Json)
    return json.dumps(value.value, separators=(",", ":"), ensure_ascii=False)


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _address(value: str, version: int) -> Any:
    try:
        found = ipaddress.ip_address(_text(value))
    except ValueError:
        return None
    return str(found) if found.version == version else None


def _parsed(text: str, shape: str, _zone: str) -> datetime | None:
    assert shape == "YYYY-MM-DD[T]HH:mm:ss"
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _compare(sign: str) -> Callable[[Any, Any], bool]:
    compared = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}[sign]

    def compare(left: Any, right: Any) -> bool:
        kinds = {type(one) for one in (left, right)}
        assert len(kinds) == 1 or kinds <= {int, float}, f"{left!r} {sign} {right!r} compares two types"
        return bool(compared(left, right))

    return compare


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{sign: _compare(sign) for sign in ("=", "!=", "<", "<=", ">", ">=")},
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "->": lambda text, part: part in text,
    "<-": lambda address, network: ipaddress.ip_address(address) in ipaddress.ip_network(network),
    "in": lambda value, values: value in values,
    "set": lambda *values: set(values),
    "at": _at,
    "endswith": lambda text, part: text.endswith(part),
    "epoch": lambda at: round(at.timestamp() * 1000),
    "eqic": lambda one, two: _text(one).lower() == _text(two).lower(),
    "float": _float,
    "has": lambda text, *parts: any(part in text for part in parts),
    "ip4": lambda text: _address(text, 4),
    "ip6": lambda text: _address(text, 6),
    "jqcompile": _text,
    "jqeval": _walked,
    "jsonparse": _json,
    "length": lambda text: len(_text(text)),
    "lower": lambda text: _text(text).lower(),
    "matches": lambda text, pattern: _compiled(pattern).search(_text(text)) is not None,
    "net4": _text,
    "net6": _text,
    "parsedate": _parsed,
    "peek": _peek,
    "re": _text,
    "replaceall": lambda text, old, new: text.replace(old, new),
    "sort": sorted,
    "startswith": lambda text, part: text.startswith(part),
    "str": _str,
    "stringify": _stringify,
    "subsall": lambda text, pattern, template: _compiled(pattern).sub(template, _text(text)),
    "substring": lambda text, start, length: text[start : start + length],
    "template": _text,
    "trim": lambda text: _text(text).strip(),
    "weakhas": lambda text, part: _text(part).lower() in _text(text).lower(),
}
