"""How tasks of one output tell each other that something has changed."""

from __future__ import annotations

import asyncio


class News:
    """Lets tasks wait for the next change without missing one."""

    def __init__(self) -> None:
        """Nothing has changed yet."""
        self.count = 0
        """How many changes there were."""
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self.count += 1
        self._told.set()

    async def wait_after(self, count: int) -> None:
        """Return once something has changed after `count`."""
        while self.count <= count:
            self._told.clear()
            await self._told.wait()
