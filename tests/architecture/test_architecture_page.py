"""ARCHITECTURE.md against the tree: what it names exists, and every package has its line."""

from __future__ import annotations

import re
from pathlib import Path

from sources import PACKAGE, ROOT
from tools.layers import LAYERS

PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([a-z_0-9/]+(?:\.py|/))`")
FILES = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
FOLDERS = {f"{Path(one).parent.as_posix()}/" for one in FILES}


def test_whatever_the_page_names_exists() -> None:
    assert [one for one in NAMED.findall(PAGE) if not exists(one)] == []


def test_every_package_has_its_line() -> None:
    assert [name for name in LAYERS if f"| `{name}/` |" not in PAGE] == []


def test_what_does_not_exist_is_seen() -> None:
    assert exists("sources/management_api/listing_windows.py")
    assert not exists("sources/management_api/listing_window.py")
    assert not exists("listing_windows.py")


def exists(named: str) -> bool:
    """Whether the package, or the checkout, has this path."""
    return named in FILES or named in FOLDERS or (ROOT / named).exists()
