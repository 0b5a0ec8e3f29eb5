"""What analysts write themselves: SQL in a confined process, which ends with whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from m365watch.board.app.request_metrics import Queries
from m365watch.board.query.fair_thread_pool import FairThreads
from m365watch.board.query.query_throttle import Turn, at_once, in_time
from m365watch.lake.sql_sandbox.sandbox_client import Ending, LakeReader, QueryAnswer

AT_ONCE_MAX = 2
"""Processes that run at the same time, one less of the same asker; one more is for whoever has none."""
LIMIT_S = 30.0


class SqlReader:
    """Answers SQL about one lake; used by one event loop."""

    def __init__(self, lake: Path, *, turn: Turn = at_once, queries: Queries | None = None) -> None:
        """Nothing runs yet. Each process runs in its asker's `turn`; `queries` count it."""
        self._turn = turn
        self._queries = queries or Queries()
        self._reader = LakeReader(lake)
        self._threads = FairThreads(AT_ONCE_MAX, "board-sql")

    def close(self) -> None:
        """Begin nothing more; what runs ends by its limit of time."""
        self._threads.close(waits=False)

    async def ask(
        self,
        sql: str,
        *,
        who: str,
        tenants: Sequence[str] | None,
        sees_trail: bool,
        rows_max: int,
        limit_s: float = LIMIT_S,
    ) -> QueryAnswer:
        """What `sql` says about the records of `tenants`; whoever stops waiting ends its process.

        It is the turn of `who`: of one asker there is never a process in every place.
        Without `sees_trail` it is refused where it asks for what people did on the board.

        Raises: LakeMissing; QueryRefused; QueryStopped.
        """
        ending = Ending()
        ask = partial(
            self._reader.query,
            sql,
            tenants=tenants,
            sees_trail=sees_trail,
            limit_s=limit_s,
            rows_max=rows_max,
            ending=ending,
        )
        with self._queries.one_more("sql"):
            async with in_time(self._turn(who)):
                try:
                    return await asyncio.wrap_future(self._threads.submit(who, ask))
                except asyncio.CancelledError:
                    ending.end()
                    raise
