"""Alerts as marks beside something else: what is marked is there also where they cannot be read."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from m365watch.common.errors import OutputUnusable

Found = TypeVar("Found")


async def to_mark(alerts: Awaitable[Sequence[Found] | None]) -> Sequence[Found]:
    """The alerts; none where their file is gone, damaged or being made anew.

    That is said wherever alerts stand by themselves. Whoever looks at records or changes then sees these.
    """
    try:
        return await alerts or ()
    except OutputUnusable:
        return ()
