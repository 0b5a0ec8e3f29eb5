"""Time and chance come through two ports, so that a run can be repeated."""

from __future__ import annotations

import ast

from sources import ROOT, list_modules

PACKAGES = ("m365watch", "m365watch_simulator", "m365watch_testing")
TIME_CALLS = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.sleep",
}
DAY_CALLS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}


def test_only_the_clock_reads_time() -> None:
    """Whoever wants to know the time is handed a Clock."""
    assert [
        f"{package}.{name} calls {call}"
        for package in PACKAGES
        for name, tree in list_modules(package).items()
        if (package, name) != ("m365watch", "common.clock")
        for call in calls_in(tree)
        if without_module(call) in TIME_CALLS | DAY_CALLS
    ] == []


def test_tests_read_the_day_where_it_is_shifted() -> None:
    """On the machine's own day a test would pass while the product lives on another."""
    assert [
        f"{path.relative_to(ROOT)} calls {call}"
        for folder in ("tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "shifted.py" and any(call in path.read_text() for call in DAY_CALLS)
        for call in calls_in(ast.parse(path.read_text()))
        if without_module(call) in DAY_CALLS
    ] == []


def test_nothing_but_the_clock_imports_time_for_its_present() -> None:
    """`from time import monotonic` would hide from the test above."""
    assert [
        f"{name} imports {imported}"
        for name, tree in list_modules().items()
        if name != "common.clock"
        for imported in from_imports_of(tree, "time")
        if f"time.{imported}" in TIME_CALLS
    ] == []


def test_only_the_simulator_draws_lots() -> None:
    """The collector takes its jitter through the Random port; only simulated tenants make things up."""
    assert [
        name
        for name, tree in list_modules().items()
        if name != "common.clock"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and "random" in names_of(node)
    ] == []


def test_the_simulator_draws_from_a_seed() -> None:
    """The module's own functions share one unseeded source: only `random.Random(seed)` is used."""
    assert [
        f"{name} calls {call}"
        for package in ("m365watch_simulator", "m365watch_testing")
        for name, tree in list_modules(package).items()
        if imports_random(tree)
        for call in calls_in(tree)
        if call.startswith("random.") and call != "random.Random"
    ] == []


def calls_in(tree: ast.Module) -> list[str]:
    """The dotted names that a module calls, as written."""
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def without_module(call: str) -> str:
    """`datetime.now` of `datetime.datetime.now`."""
    return ".".join(call.split(".")[-2:])


def imports_random(tree: ast.Module) -> bool:
    """Whether `random` means the library's module there, and not a parameter of that name."""
    return any(isinstance(node, ast.Import) and "random" in names_of(node) for node in ast.walk(tree))


def from_imports_of(tree: ast.Module, module: str) -> list[str]:
    """What is imported by name from `module`."""
    return [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    ]


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules that an import names."""
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
