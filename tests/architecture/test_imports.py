"""Imports point one way: from what does things to what things are."""

from __future__ import annotations

import ast

from promises import guarantee

from sources import list_modules
from tools.layers import LAYERS

LEAF_MAY_IMPORT = {
    "values",
    "model",
    "errors",
    "clock",
    "urls",
    "base64url",
    "http_listener",
    "simulator",
} | {"__init__"}
"""The simulator leans on nothing of the collector, so that it cannot share the collector's mistakes."""
ON_THE_NETWORK = {"aiohttp", "http", "httptools", "smtplib", "socket", "ssl", "urllib.request", "yarl"}
"""What opens connections, or is of use to nobody else."""


def test_every_room_has_its_layer() -> None:
    """A new room is given one place before it is used."""
    placed = set[str]().union(*LAYERS)

    assert len(placed) == sum(len(layer) for layer in LAYERS)
    assert {room_of(name) for name in list_modules()} <= placed


def test_imports_point_one_way() -> None:
    """No module imports from a layer above its own."""
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules().items()
        for imported in imports_of(tree)
        if layer_of(imported) > layer_of(name)
    ] == []


def test_no_two_rooms_import_each_other() -> None:
    """Inside a layer, too, there is a before and an after: no circle of rooms."""
    edges: dict[str, set[str]] = {}
    for name, tree in list_modules().items():
        edges.setdefault(room_of(name), set()).update(room_of(imported) for imported in imports_of(tree))

    assert find_circle({room: rooms - {room} for room, rooms in edges.items()}) is None


def test_the_simulator_leans_on_nothing() -> None:
    """The simulated tenant knows values, errors and time, and nothing of how they are collected."""
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules().items()
        if room_of(name) == "simulator"
        for imported in imports_of(tree)
        if room_of(imported) not in LEAF_MAY_IMPORT
    ] == []


def test_addresses_are_taken_apart_in_one_place() -> None:
    """Python's own functions raise over addresses that anybody can write, and callers forget it."""
    assert [
        name
        for name, tree in list_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        if {one.name for one in node.names} & {"urlsplit", "urlparse", "urllib.parse"}
    ] == ["urls"]


@guarantee(36)
def test_rules_ask_nobody_on_the_network() -> None:
    """What is known of addresses and people comes out of files: no room of theirs can open a connection."""
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules().items()
        if room_of(name) == "detect"
        for imported in [*imports_of(tree), *names_imported(tree)]
        if room_of(imported) in {"entra", "feed"} or ON_THE_NETWORK & {imported, imported.partition(".")[0]}
    ] == []


def test_a_circle_is_found() -> None:
    """The search that guards the rooms finds a circle where there is one."""
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def room_of(module: str) -> str:
    """The room a module lies in; a pure module of a later room may be placed by its own name."""
    return module if any(module in layer for layer in LAYERS) else module.partition(".")[0]


def layer_of(module: str) -> int:
    """The number of the module's layer; the last where it has none, which another test reports."""
    room = room_of(module)
    return next((number for number, layer in enumerate(LAYERS) if room in layer), len(LAYERS))


def imports_of(tree: ast.Module) -> list[str]:
    """The package's modules that a module imports anywhere in its text."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "m365watch":
            found += [f"m365watch.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.append(node.module or "")
    names = [name.partition(".")[2] for name in found if name.startswith("m365watch.")]
    return ["__init__" if name.startswith("__") and name != "__main__" else name for name in names]


def names_imported(tree: ast.Module) -> list[str]:
    """What a module imports of others' packages, and how they call it."""
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return [*plain, *[node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]]


def find_circle(edges: dict[str, set[str]]) -> list[str] | None:
    """A way from a room back to itself, or None."""
    for start in sorted(edges):
        path = path_back(edges, start)
        if path:
            return path
    return None


def path_back(edges: dict[str, set[str]], start: str) -> list[str] | None:
    """The shortest way that leads from `start` to `start`."""
    ways, seen = [[start]], set[str]()
    while ways:
        way = ways.pop(0)
        for room in sorted(edges.get(way[-1], ())):
            if room == start:
                return [*way, room]
            if room not in seen:
                seen.add(room)
                ways.append([*way, room])
    return None
