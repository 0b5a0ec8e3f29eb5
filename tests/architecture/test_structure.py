"""The drawing of the rooms: what two changes that are right each for itself cannot break together."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.structure import PACKAGE, render


def test_a_module_that_joins_a_room_leaves_the_drawing_as_it_is(tmp_path: Path) -> None:
    """A count of modules would be wrong after a merge of two changes that each add one."""
    package = tmp_path / "m365watch"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.yaml", "*.js"))
    (package / "respond" / "one_more.py").write_text('"""One more."""\n', encoding="utf-8")

    assert render(package) == render()
