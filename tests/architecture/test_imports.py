"""Imports point one way: from what does things to what things are."""

from __future__ import annotations

import ast

from sources import list_modules
from tools.layers import COMPANIONS, LAYERS, USES_COMPANION

ON_THE_NETWORK = {"aiohttp", "http", "httptools", "smtplib", "socket", "ssl", "urllib.request", "yarl"}
"""What opens connections, or is of use to nobody else."""


def test_every_package_has_its_layer() -> None:
    assert {package_of(name) for name in list_modules()} - {"__init__", "__main__"} == set(LAYERS)


def test_imports_point_one_way() -> None:
    """No module imports from a package after its own."""
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules().items()
        if package_of(name) in LAYERS
        for imported in imports_of(tree)
        if package_of(imported) in LAYERS
        if LAYERS.index(package_of(imported)) > LAYERS.index(package_of(name))
    ] == []


def test_the_product_does_without_its_companions() -> None:
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules().items()
        if name not in USES_COMPANION
        for imported in names_imported(tree)
        if imported.partition(".")[0] in COMPANIONS
    ] == []


def test_the_simulator_shares_nothing_that_collects() -> None:
    """It cannot share the collector's mistakes: of the product it has values, time and the listener."""
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules("m365watch_simulator").items()
        for imported in imports_of(tree)
        if package_of(imported) not in {"common", "__init__"} and imported != "http.bounded_listener"
    ] == []


def test_urls_are_taken_apart_in_one_place() -> None:
    """Python's own functions raise over addresses that anybody can write, and callers forget it."""
    assert [
        name
        for name, tree in list_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        if {one.name for one in node.names} & {"urlsplit", "urlparse", "urllib.parse"}
    ] == ["common.urls"]


def test_rules_ask_nobody_on_the_network() -> None:
    """What is known of addresses and people comes out of files: detection cannot open a connection."""
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules().items()
        if package_of(name) == "detection"
        for imported in [*imports_of(tree), *names_imported(tree)]
        if package_of(imported) in {"auth", "sources"}
        or ON_THE_NETWORK & {imported, imported.partition(".")[0]}
    ] == []


def package_of(module: str) -> str:
    """The package directly below `m365watch` that a module lies in."""
    return module.partition(".")[0]


def imports_of(tree: ast.Module) -> list[str]:
    """The product's modules that a module imports anywhere in its text."""
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
