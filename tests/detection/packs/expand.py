"""The cases of a detection: short YAML written out to records as they come over the wire.

A record is `shape:` (one of shapes.yml) with what is different about it. Lists of Name/Value
are written as maps and `ModifiedProperties` as `{Name: [new, old]}`; Id and CreationTime are
filled in. `{repeat: 11, every: 20s, record: {...}}` makes copies in which `{n}` counts from 1. A near
miss `of` some rules says nothing about the others.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

HERE = Path(__file__).parent
CASES = HERE / "cases"
FIRST_AT = datetime(2024, 3, 5, 9, 0, 0)  # noqa: DTZ001 - CreationTime is written without a zone

Kind = Literal["hit", "near miss"]

_PAIRS = ("Parameters", "ExtendedProperties", "OperationProperties", "DeviceProperties")
_NAMED = {*_PAIRS, "ModifiedProperties"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_REPEATS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the one alert of a hit must show; None is not asked for."""

    rule: str | None = None
    """The title of the rule; the first one of the detection where a file holds several."""
    entities: dict[str, str] = field(default_factory=dict)
    """By kind: user, address, app, mailbox, site, session."""
    severity: str | None = None
    text: tuple[str, ...] = ()
    """Parts that the explanation must hold."""
    evidence: int | None = None
    """How many records the alert counts."""


@dataclass(frozen=True, slots=True)
class Case:
    """One claim about a detection."""

    name: str
    kind: Kind
    records: tuple[bytes, ...]
    expect: Expectation
    of: tuple[str, ...] = ()
    """The rules that a near miss is one of, where others of the detection may fire."""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """All claims about one detection."""

    detection: str
    settings: dict[str, Any]
    cases: tuple[Case, ...]


def case_files() -> list[Path]:
    """The files of all detections, sorted by name."""
    return sorted(CASES.glob("*.yml"))


def read_yaml(path: Path) -> Any:
    """What a file says; read by libyaml, which takes an eighth of the time of Python's own reader."""
    return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)


@cache
def load_cases(path: Path) -> CaseFile:
    """The cases of one file, read once; a key or shape that is not known is an error that names it."""
    text = read_yaml(path)
    _refuse_unknown(path.name, text, {"detection", "settings", "hits", "near_misses"})
    cases = [
        _case(path.stem, told, kind)
        for key, kind in (("hits", "hit"), ("near_misses", "near miss"))
        for told in text.get(key, ())
    ]
    return CaseFile(text["detection"], text.get("settings") or {}, tuple(cases))


def _case(stem: str, told: dict[str, Any], kind: Any) -> Case:
    where = f"{stem}: {told.get('name')}"
    _refuse_unknown(where, told, {"name", "records", "expect" if kind == "hit" else "of"})
    bodies = written(told["records"], where)
    of = (told["of"],) if isinstance(told.get("of"), str) else tuple(told.get("of", ()))
    return Case(told["name"], kind, bodies, _expectation(where, told.get("expect") or {}), of)


def written(entries: Sequence[dict[str, Any]], where: str = "here") -> tuple[bytes, ...]:
    """Records in their short form as they come over the wire."""
    return tuple(_moments([one for entry in entries for one in _repeated(where, entry)], where))


def _expectation(where: str, told: dict[str, Any]) -> Expectation:
    kinds = {"user", "address", "app", "mailbox", "site", "session"}
    _refuse_unknown(where, told, {"rule", "severity", "text", "evidence", *kinds})
    text = told.get("text", ())
    return Expectation(
        rule=told.get("rule"),
        entities={kind: str(told[kind]) for kind in sorted(kinds & set(told))},
        severity=told.get("severity"),
        text=(text,) if isinstance(text, str) else tuple(text),
        evidence=told.get("evidence"),
    )


def _refuse_unknown(where: str, told: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(told) - known):
        what = f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        raise ValueError(what)


def _repeated(where: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
    if "repeat" not in entry:
        return [_written(where, entry)]
    _refuse_unknown(where, entry, {"repeat", "every", "record"})
    step = span(entry.get("every", "1s"))
    copies = []
    for number in range(1, min(entry["repeat"], _REPEATS_MAX) + 1):
        record = _written(where, json.loads(json.dumps(entry["record"]).replace("{n}", str(number))))
        if "CreationTime" in record:
            record["CreationTime"] = _spelled(_instant(record["CreationTime"]) + (number - 1) * step)
        elif number > 1:
            record["+"] = step
        copies.append(record)
    return copies


def span(text: str) -> timedelta:
    """A span such as "20s", "5m", "36h", "31d"."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        what = f"{text!r} is no span such as 20s, 5m, 36h, 31d"
        raise ValueError(what)
    return int(found[1]) * timedelta(seconds=_UNITS[found[2]])


def _written(where: str, entry: dict[str, Any]) -> dict[str, Any]:
    told = dict(entry)
    after = told.pop("after", None)
    name = told.pop("shape", None)
    shapes = _shapes()
    if name not in shapes:
        what = f"{where}: no shape {name!r}; there are {', '.join(sorted(shapes))}"
        raise ValueError(what)
    record = dict(shapes[name])
    for key, value in told.items():
        merges = key in _NAMED and isinstance(record.get(key), dict) and isinstance(value, dict)
        record[key] = record[key] | value if merges else value
    record = {key: value for key, value in record.items() if value is not None}
    for key in _PAIRS:
        if isinstance(record.get(key), dict):
            record[key] = [
                {"Name": name, "Value": value} for name, value in record[key].items() if value is not None
            ]
    if isinstance(record.get("ModifiedProperties"), dict):
        record["ModifiedProperties"] = [
            {"Name": name, "NewValue": new, "OldValue": old}
            for name, (new, old) in record["ModifiedProperties"].items()
        ]
    if after is not None:
        record["+"] = span(after)
    return record


def _moments(records: list[dict[str, Any]], where: str) -> list[bytes]:
    """The records as bytes, each one second (or its `after`) later than the one before."""
    at = FIRST_AT
    bodies = []
    for number, record in enumerate(records):
        if "CreationTime" in record:
            at = _instant(record["CreationTime"])
        elif number:
            at += record.get("+", timedelta(seconds=1))
        elif "+" in record:
            at += record["+"]
        record.pop("+", None)
        head = {"CreationTime": _spelled(at), "Id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{where}/{number}"))}
        bodies.append(json.dumps({**head, **record}, ensure_ascii=False).encode())
    return bodies


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _spelled(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}"


@cache
def _shapes() -> dict[str, dict[str, Any]]:
    shapes: dict[str, dict[str, Any]] = read_yaml(HERE / "shapes.yml")
    return shapes
