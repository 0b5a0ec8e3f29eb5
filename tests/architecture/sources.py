"""What the tests of this folder read: the project's own files, and the source parsed."""

from __future__ import annotations

import ast
import gc
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "m365watch"

_NOT_OURS = {
    ".git",
    ".hypothesis",
    ".venv",
    "__pycache__",
    "build",
    "dist",
    "state",
    "lake",
    "m365watch-demo",
}


@cache
def list_modules(package: str = "m365watch") -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name below it: `common.clock`."""
    root = ROOT / "src" / package
    # The million nodes stay. Looked through again and again for garbage, also in tests that come later in
    # this process, they took more time than all that is done with them.
    gc.disable()
    try:
        return {
            ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(
                path.read_text(encoding="utf-8")
            )
            for path in sorted(root.rglob("*.py"))
        }
    finally:
        gc.freeze()
        gc.enable()


@cache
def list_committed_files() -> tuple[Path, ...]:
    """The files that git keeps or would keep; without git, all that are not made by a tool."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
        return tuple(path for name in sorted(set(names)) if (path := ROOT / name).is_file())
    return tuple(path for path in sorted(ROOT.rglob("*")) if path.is_file() and _is_ours(path))


def _is_ours(path: Path) -> bool:
    folders = path.relative_to(ROOT).parts[:-1]
    return not any(part in _NOT_OURS or part.endswith("_cache") for part in folders)
