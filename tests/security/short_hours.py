"""As `sitecustomize` it has each Python process wait 6 seconds where it would wait for an hour."""

from __future__ import annotations

import asyncio
from functools import wraps

LONG_S, SHORTER = 1_800.0, 600.0
_sleep = asyncio.sleep


@wraps(_sleep)
async def sleep(delay: float, result: object = None) -> object:
    """Long waits are shorter, others as they are."""
    return await _sleep(delay / SHORTER if delay >= LONG_S else delay, result)


if __name__ == "sitecustomize":
    asyncio.sleep = sleep  # type: ignore[assignment]
