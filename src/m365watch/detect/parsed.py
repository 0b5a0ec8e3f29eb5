"""The rules of all packs, parsed beforehand: `packs/parsed.json`, made by `./dev docs` and checked for drift.

Parsing them, and importing what parses them, took a quarter of a second of CPU at every start; this takes
a twentieth of it. The file says of which texts it was made. Where they are others, it counts for nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import msgspec

from m365watch.detect import condition, extension, rule
from m365watch.detect.rule import Rule

PARSED = Path(__file__).parent / "packs" / "parsed.json"
_CLASSES: dict[str, Any] = {
    name: one
    for module in (condition, extension, rule)
    for name, one in vars(module).items()
    if isinstance(one, type) and (dataclasses.is_dataclass(one) or issubclass(one, Enum))
}
"""What rules are made of, by name."""


def read_parsed(packs: Path, names: Iterable[str]) -> tuple[Rule, ...] | None:
    """The rules of these packs in `packs`; None where the file is not of them, word for word."""
    try:
        head, *lines = PARSED.read_bytes().splitlines()
    except (OSError, ValueError):
        return None
    if head.decode() != digest_of(packs, names):
        return None
    return tuple(_decoded(msgspec.json.decode(line)) for line in lines)


def parsed_text(rules: Iterable[Rule], packs: Path, names: Iterable[str]) -> str:
    """The file for these rules: a line that says of what it was made, and a line a rule."""
    lines = [msgspec.json.encode(_encoded(one)).decode() for one in rules]
    return "\n".join([digest_of(packs, names), *lines]) + "\n"


def digest_of(packs: Path, names: Iterable[str]) -> str:
    """Of every file of these packs: its name and what is in it."""
    seen = hashlib.sha256()
    for name in names:
        for path in sorted((packs / name).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                body = path.read_bytes()
                seen.update(f"{path.relative_to(packs)}\0{len(body)}\0".encode())
                seen.update(body)
    return seen.hexdigest()


def _encoded(value: object) -> object:
    if isinstance(value, Enum):
        return {"": type(value).__name__, "is": value.value}
    if isinstance(value, Mapping):
        return {"": "map", "is": {key: _encoded(one) for key, one in value.items()}}
    if isinstance(value, frozenset):
        return {"": "set", "is": sorted(value)}
    if isinstance(value, IPv4Network | IPv6Network):
        return {"": "network", "is": str(value)}
    if isinstance(value, tuple):
        return [_encoded(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {"": type(value).__name__, "is": [_encoded(getattr(value, name)) for name in names]}
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple([_decoded(one) for one in value])
    if not isinstance(value, dict):
        return value
    name, held = value[""], value["is"]
    match name:
        case "map":
            return {key: _decoded(one) for key, one in held.items()}
        case "set":
            return frozenset(held)
        case "network":
            return ip_network(held)
    made = _CLASSES[name]
    if not isinstance(held, list):
        return made(held)
    return made(*[_decoded(one) for one in held])
