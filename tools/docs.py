"""Writes what is generated and committed: reference pages, and tables in README and docs/notifications.md.

`python -m tools.docs` writes it; with `--check` it writes nothing and ends with 1 where a page
differs from what the code says now.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from m365watch.config.reference import render_reference
from tools import (
    channels_quoted,
    checks_quoted,
    cli_page,
    detections_page,
    devo_errors_page,
    errors_page,
    figures_quoted,
    guarantees_page,
    rule_keys_page,
)

ROOT = Path(__file__).resolve().parents[1]

PAGES: dict[str, Callable[[], str]] = {
    "README.md": figures_quoted.render,
    channels_quoted.PAGE: channels_quoted.render,
    checks_quoted.PAGE: checks_quoted.render,
    "docs/reference/cli.md": cli_page.render,
    "docs/reference/detections.md": detections_page.render,
    "docs/reference/devo-errors.md": devo_errors_page.render,
    "docs/reference/errors.md": errors_page.render,
    "docs/reference/guarantees.md": guarantees_page.render,
    "docs/reference/rules.md": rule_keys_page.render,
    "docs/reference/settings.md": render_reference,
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
        sys.stderr.write(f"{name} has drifted from the code\n")
    if drifted:
        sys.stderr.write("hint: ./dev docs\n")
    return 1 if drifted else 0


def list_drifted() -> dict[str, str]:
    """The new text of each page that is not what it should be."""
    texts = {name: render() for name, render in PAGES.items()}
    return {name: text for name, text in texts.items() if read_page(name) != text}


def read_page(name: str) -> str:
    """The page as it is; empty where there is none."""
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def write_page(name: str, text: str) -> None:
    """Puts the page in its place."""
    (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
