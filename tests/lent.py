"""What a forked process has from its parent, and what it takes over from whoever asked for it."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from pkgutil import walk_packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


_FOR_TESTS = ("m365watch_simulator", "m365watch_testing")
_OF_OTHERS = (
    "encodings.idna",
    "pyarrow.dataset",
    "sigma.collection",
    "uvloop",
    "yaml",
    "zoneinfo",
    "zstandard",
)
"""What the package's modules import only when they are at work."""


def import_all() -> None:
    """Import the whole package but what is for tests alone: no command has anything left to import.

    Nor to build: what a configuration may say is put together with the first one that is read.
    """
    import m365watch

    for module in walk_packages(m365watch.__path__, "m365watch."):
        if not module.name.startswith(_FOR_TESTS) and not module.name.endswith("__main__"):
            import_module(module.name)
    for name in _OF_OTHERS:
        import_module(name)
    for section in _all_below(import_module("pydantic").BaseModel):
        section.model_rebuild()
    # Or each fork would look through all of this for garbage, and copy it for that.
    gc.freeze()


def _all_below(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _all_below(one)


def take_over(asked: dict[str, Any], streams: Sequence[int], *, program: str) -> None:
    """Be `program` with the words, in the folder and environment that are asked for, on `streams`."""
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    # Python's own remember whether they could be rewound.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [program, *asked["words"]]
