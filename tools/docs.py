"""Writes the generated pages of docs/reference, or says which of them have drifted from the code.

`python -m tools.docs` writes them; with `--check` it writes nothing and ends with 1 where a page
differs from what the code says now.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from m365watch.board.api.registry import api_document
from m365watch.config.reference import render_reference
from tools import cli_page, detections_page, devo_errors_page, errors_page

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"

_REFERENCE = re.compile(r"{\s+(\"\$ref\": \"[^\"]+\")\s+}")


def render_api() -> str:
    """The document of the board's API; what only refers to something else is one line."""
    text = json.dumps(api_document(), indent=1, ensure_ascii=False)
    return _REFERENCE.sub(r"{\1}", text) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page.render,
    "detections.md": detections_page.render,
    "devo-errors.md": devo_errors_page.render,
    "errors.md": errors_page.render,
    "openapi.json": render_api,
    "settings.md": render_reference,
}
"""Each generated page, and what gives its text."""


def main(arguments: list[str]) -> int:
    """The exit code: 0, 1 where a page has drifted, 2 for an argument that is not known."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m tools.docs [--check]\n")
        return 2
    drifted = list_drifted()
    if not arguments:
        for name, text in drifted.items():
            write_page(name, text)
        return 0
    for name in drifted:
        sys.stderr.write(f"docs/reference/{name} has drifted from the code\n")
    if drifted:
        sys.stderr.write("hint: ./dev docs\n")
    return 1 if drifted else 0


def list_drifted() -> dict[str, str]:
    """The new text of each page that is not what it should be."""
    texts = {name: render() for name, render in PAGES.items()}
    return {name: text for name, text in texts.items() if read_page(name) != text}


def read_page(name: str) -> str:
    """The page as it is; empty where there is none."""
    path = REFERENCE / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def write_page(name: str, text: str) -> None:
    """Puts the page in its place."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    (REFERENCE / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"docs/reference/{name}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
