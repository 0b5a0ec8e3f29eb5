"""What a forked process takes over from whoever asked for it: streams, folder, environment and words."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


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
