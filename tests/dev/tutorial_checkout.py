"""The checkout that an engineer's tutorial is followed in: a copy of this one, changed by the page's blocks.

`./dev test` there is pytest over the copy, without the second that the real one takes to see that nothing is
to be installed, and `.venv/bin/m365watch` runs what the copy has.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from shifted import python_path

from tutorial_machine import Machine
from tutorial_pages import Fence

ROOT = Path(__file__).parents[2]
_COPIED = ("src", "tests/outputs", "pyproject.toml")
_DEV = """#!/bin/sh
test "$1" = test && shift
exec "$PYTHON" -m pytest -q -p no:cacheprovider -p no:randomly "$@"
"""
_COMMAND = """#!/bin/sh
case "$1" in
    simulate) exec "$PYTHON" -SE "$COMMANDS" "$SOCKET" "$@" --port 0 ;;
    *) exec "$PYTHON" -m m365watch.cli.main "$@" ;;
esac
"""


class Checkout(Machine):
    """A machine whose folder is a checkout."""

    def copy(self) -> None:
        """Make the checkout: what its tests and its program need of this one."""
        shared = [f"tests/{path.name}" for path in (ROOT / "tests").glob("*.py")]
        for name in (*_COPIED, *shared):
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target)
            else:
                shutil.copy2(ROOT / name, target)
        self.write_command(self.folder / "dev", _DEV)
        self.write_command(self.folder / ".venv" / "bin" / "m365watch", _COMMAND)
        self.variables["PYTHONPATH"] = python_path(self.folder / "src")

    async def try_block(self, block: Fence, before: str | None) -> str | None:
        """What the block prints, if it has commands; code goes into the checkout."""
        match block:
            case Fence(kind="python"):
                path = self.folder / block.title
                assert not path.exists()
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text.partition("\n")[2])
            case Fence(kind="diff"):
                self._change_code(block)
            case Fence(kind="json"):
                path = self.folder / "try.json"
                document = path.read_text().rstrip().removesuffix("}")
                path.write_text(f"{document}, {block.text}}}")
                json.loads(path.read_text())
            case _:
                return await super().try_block(block, before)
        return None

    def _change_code(self, block: Fence) -> None:
        """Do what each hunk shows to the one place in the file that reads as its context does."""
        path = self.folder / block.title
        text = path.read_text()
        for hunk in block.text.split("@@\n")[1:]:
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] != "+")
            after = "".join(line[1:] for line in lines if line[0] != "-")
            found = text.count(before)
            assert found == 1, f"line {block.line}: {block.title} has this {found} times:\n{before}"
            text = text.replace(before, after)
        path.write_text(text)
