"""`m365watch version`: what is installed here."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from m365watch import __version__
from m365watch.cli.terminal.console import write_line

_PARTS = ("deltalake", "duckdb", "httptools", "msgspec", "pyarrow", "uvloop")


def show_version(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the version, Python's, and those of the parts that matter in a report of a fault."""
    parts = {name: _version_of(name) for name in _PARTS}
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}"
    if as_json:
        write_line(json.dumps({"m365watch": __version__, "python": python, "system": system, "parts": parts}))
        return
    write_line(f"m365watch {__version__} ({python}, {system})")
    write_line(", ".join(f"{name} {number or 'missing'}" for name, number in parts.items()))


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
