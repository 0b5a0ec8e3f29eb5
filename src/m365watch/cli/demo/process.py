"""The simulated tenant's process as the demo sees it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from m365watch.cli.demo.tenant_process import Introduction, TenantPlan
from m365watch.common.errors import NeedsOperator

START_S_MAX = 15.0
_END_S_MAX = 2.0


@contextlib.asynccontextmanager
async def tenant_running(plan: TenantPlan, *, output_path: Path) -> AsyncIterator[Introduction]:
    """A tenant in a process of its own until the block ends; gives what it says of itself.

    What it complains of is left in `output_path`. Its own session keeps Ctrl-C from reaching it before
    the collector has finished.

    Raises: NeedsOperator: it did not start.
    """
    with output_path.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "m365watch.cli.demo.tenant_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    try:
        introduction = await _introduce(process, plan)
        if introduction is None:
            fix = f"see {output_path} for the reason"
            raise NeedsOperator("did not start", where="simulated tenant", fix=fix)
        yield introduction
    finally:
        await _end(process)
        _drop_if_empty(output_path)


async def _introduce(process: asyncio.subprocess.Process, plan: TenantPlan) -> Introduction | None:
    """What the tenant says of itself; None if it ended or said nothing in time."""
    if process.stdin is None or process.stdout is None:
        return None
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(START_S_MAX):
            process.stdin.write(msgspec.json.encode(plan) + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            return msgspec.json.decode(line, type=Introduction) if line else None
    return None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_S_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _drop_if_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        path.unlink()
