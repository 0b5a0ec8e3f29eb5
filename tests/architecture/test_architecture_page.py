"""ARCHITECTURE.md against the tree: what it names is there, and every room has its line."""

from __future__ import annotations

import re
from pathlib import Path

from sources import PACKAGE, ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([a-z_0-9/]+(?:\.py|/))`")
FILES = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
FOLDERS = {f"{Path(one).parent.as_posix()}/" for one in FILES}
BESIDE = {"benchmarks/", "deploy/", "docs/", "tests/", "tools/"}


def test_whatever_the_page_names_is_there() -> None:
    """A module or folder, by its whole path or the end of one, in the package or in the checkout."""
    assert [one for one in NAMED.findall(PAGE) if not is_there(one)] == []


def test_every_room_has_its_line() -> None:
    """Who looks for something finds the room in the table, whatever is added."""
    table = PAGE.partition("## The rooms")[2].partition("\n\nImports")[0]
    told = {name.partition("/")[0].removesuffix(".py") for name in NAMED.findall(table)}
    rooms = {Path(one).parts[0].removesuffix(".py") for one in FILES}

    assert sorted(rooms - told - {"__init__", "__main__"}) == []


def test_every_folder_has_its_words() -> None:
    """Those within the rooms, and those beside the package: nobody wonders what one is for."""
    within = {one for one in FOLDERS if one.count("/") > 1}

    assert len(within) > 20
    assert [one for one in sorted(within) if not re.search(rf"[`/]{Path(one).name}/", PAGE)] == []
    assert [one for one in sorted(BESIDE) if f"`{one}`" not in PAGE] == []


def test_what_is_not_there_is_seen() -> None:
    """The end of a path is looked for, not a part of a name; a folder is no module."""
    assert is_there("feed/windows.py")
    assert not is_there("feed/window.py")
    assert not is_there("indows.py")
    assert not is_there("feed.py")


def is_there(named: str) -> bool:
    """Whether a path of the package ends so, or the checkout has it."""
    if (ROOT / named).exists():
        return True
    return any(one == named or one.endswith(f"/{named}") for one in (*FILES, *FOLDERS))
