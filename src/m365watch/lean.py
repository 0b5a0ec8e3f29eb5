"""Imports without what they would bring along for others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_LOOKS_FOR_PLUGINS = "pydantic.plugin._loader"


@contextmanager
def without(*names: str) -> Iterator[None]:
    """While entered, these count as not installed; of one that is imported already nothing changes."""
    modules: dict[str, Any] = sys.modules
    absent = [name for name in names if name not in modules]
    # Documented for the import statement: None in this place lets it fail.
    modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del modules[name]


def leave_out_plugins() -> None:
    """Let pydantic have no plugins: to find out that there are none it imports email and zipfile, 8 ms."""
    stand_in = ModuleType(_LOOKS_FOR_PLUGINS)
    vars(stand_in)["get_plugins"] = tuple
    sys.modules.setdefault(_LOOKS_FOR_PLUGINS, stand_in)
