"""`./dev structure [CHECKOUT ...]`: the size and shape of the code, in one table with a column per checkout.

A statement is a statement of the `ast` module, at any depth, except a bare constant: docstrings and `...`
are text. The product is `src/m365watch` without the companions (the simulator and the testing kit, wherever
they lie), so that nothing leaves the count by moving.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parents[1]
_COMPANIONS = {"simulator", "testing"}
_KINDS = {
    "output": ("devo_http", r"devo_?http"),
    "credential kind": ("federated_token", r"federated_?token"),
    "notification channel": ("slack", r"\bslack"),
    "column of the lake": ("session_id", r"\bsession_id\b"),
}
"""What is added now and then: an example of it, and how the files of the product name that example."""


def measure(checkout: Path) -> dict[str, int]:
    """The figures of one checkout, by their names."""
    package = checkout / "src" / "m365watch"
    companions = [path for path in _modules(checkout / "src") if _is_companion(path, package)]
    product = sorted(set(_modules(package)) - set(companions))
    texts = [path.read_text(encoding="utf-8") for path in product]
    workshop = [*_modules(checkout / "tools"), *_modules(checkout / "benchmarks")]
    figures: dict[str, int] = {}
    for name, paths in (
        ("product", product),
        ("companions", companions),
        ("tests", _modules(checkout / "tests")),
        ("tools and benchmarks", workshop),
    ):
        figures[f"{name}: statements"] = sum(count_statements(path) for path in paths)
        figures[f"{name}: files"] = len(paths)
    folders = Counter(path.parent for path in product if not path.stem.startswith("__"))
    names = Counter(path.stem for path in product if not path.stem.startswith("__"))
    figures |= {
        "modules at the top of the package": folders[package],
        "modules of the fullest folder": max(folders.values(), default=0),
        "modules named by a verb (-ing)": sum(n for name, n in names.items() if name.endswith("ing")),
        "module names used more than once": sum(n > 1 for n in names.values()),
    }
    for kind, (example, pattern) in _KINDS.items():
        found = re.compile(pattern, re.IGNORECASE)
        figures[f"files for one {kind} ({example})"] = sum(bool(found.search(text)) for text in texts)
    return figures


def count_statements(path: Path) -> int:
    """The statements of one file, docstrings and other bare constants left out."""
    tree = ast.parse(path.read_bytes())
    return sum(isinstance(node, ast.stmt) and not _is_text(node) for node in ast.walk(tree))


def show(columns: Sequence[tuple[str, dict[str, int]]], console: Console) -> None:
    """One table, a column per checkout; of two, the ratio of the second to the first as well."""
    table = Table("figure", box=MARKDOWN)
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    if len(columns) == 2:
        table.add_column("ratio", justify="right")
    for name in columns[0][1]:
        values = [figures[name] for _, figures in columns]
        ratio = [f"{values[1] / values[0]:.3f}" if values[0] else ""] if len(values) == 2 else []
        table.add_row(name, *(f"{value:,}" for value in values), *ratio)
    console.print(table)


def _modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _is_companion(path: Path, package: Path) -> bool:
    return not path.is_relative_to(package) or path.relative_to(package).parts[0] in _COMPANIONS


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def main(arguments: Iterable[str] | None = None) -> int:
    """0; of each checkout the figures."""
    parser = argparse.ArgumentParser(prog="./dev structure", description="Counts the code of checkouts.")
    parser.add_argument("checkouts", nargs="*", type=Path, metavar="CHECKOUT", help="left out: this one")
    checkouts = parser.parse_args(None if arguments is None else list(arguments)).checkouts or [_ROOT]
    if absent := [str(path) for path in checkouts if not (path / "src" / "m365watch").is_dir()]:
        parser.error(f"no src/m365watch in {', '.join(absent)}")
    show([(path.resolve().name, measure(path)) for path in checkouts], Console(width=120))
    return 0


if __name__ == "__main__":
    sys.exit(main())
