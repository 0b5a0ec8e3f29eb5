"""Imports without what they would bring along for others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without(package: str) -> Iterator[None]:
    """While entered, `package` counts as not installed; where it is imported already, nothing changes."""
    if package in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    # Documented for the import statement: None in this place lets it fail.
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]
