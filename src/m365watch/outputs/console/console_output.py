"""Output `console`: verbatim records on standard output, one a line.

A pipe can neither take anything back nor say what its reader has kept, so this output promises
"at least once": a batch whose commit was lost is printed again.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.outputs.console.spec import ConsoleSection

_LOOK_AFTER_MS = 200
_LINE_BREAK = ord("\n")


class ConsoleOutput:
    """Standard output, or the open file `descriptor`; it is left open at the end."""

    needs_wide_headers = False
    batches_at_once_max = 1
    waits_on_disk = False

    def __init__(self, settings: ConsoleSection, *, descriptor: int | None = None) -> None:
        """`descriptor` stands in for standard output."""
        self.name = settings.name
        self._where = f"output {settings.name}"
        self._descriptor = descriptor
        self._closed = threading.Event()

    async def open(
        self,
        *,
        last_batch: int,
        position: str,  # noqa: ARG002 - it keeps none
        newest_batch: int | None = None,  # noqa: ARG002 - it finds nothing of an earlier run
    ) -> int:
        """Answer `last_batch`: nothing printed can be found again or taken back."""
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        """Print every record of `batch`, but those with a line break inside.

        Raises:
            OutputUnavailable: it could not be written, or not to its end.
            OutputUnusable: the reader of the pipe is gone.
        """
        lines: list[bytes] = []
        refused: list[RefusedRecord] = []
        for part in batch.parts:
            for record in part.records:
                if _LINE_BREAK in record:
                    reason = "a line break inside the record"
                    refused.append(RefusedRecord(part.blob, record, reason))
                else:
                    lines.append(record)
        if lines:
            await asyncio.to_thread(self._print, b"\n".join((*lines, b"")))
        return Receipt(refused=tuple(refused))

    async def flush(self) -> None:
        """Nothing to find out: what was delivered is durable."""

    async def close(self) -> None:
        """Stop waiting for a reader that takes nothing."""
        self._closed.set()

    def _print(self, lines: bytes) -> None:
        """Write all of `lines`, translating what may go wrong."""
        try:
            self._write(lines)
        except BrokenPipeError as error:
            raise OutputUnusable(
                "the reader of standard output is gone",
                fix="start again with a reader that stays, or name another output",
                where=self._where,
            ) from error
        except OSError as error:
            raise OutputUnavailable(
                f"cannot write to standard output: {error.strerror}", where=self._where
            ) from error

    def _write(self, lines: bytes) -> None:
        """Write piece by piece, so that a reader who takes nothing cannot hold up `close`."""
        descriptor = sys.stdout.fileno() if self._descriptor is None else self._descriptor
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        rest = memoryview(lines)
        while rest:
            if poll.poll(_LOOK_AFTER_MS):
                # A pipe that reports room takes PIPE_BUF bytes without blocking.
                rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
            elif self._closed.is_set():
                raise OutputUnavailable("its reader takes nothing", where=self._where)
