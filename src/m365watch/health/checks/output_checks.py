"""Each output tried the way a run will use it: no record is sent, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, OutputUnavailable
from m365watch.health.checks.access_checks import cure_of
from m365watch.health.checks.network_checks import look, look_up, way_to
from m365watch.http.client import Session
from m365watch.http.settings import NetworkSettings
from m365watch.registry.checks import Check, Checked, Finding, Verdict, bad, failed_output
from m365watch.registry.output_specs import OUTPUTS, CheckContext, OutputSettings


def check_context(
    clock: Clock, session: Session, *, limit_s: float, ledger: Path | None = None, collector: str = ""
) -> CheckContext:
    """What outputs are tried with."""

    async def reach(url: str, network: NetworkSettings) -> Finding | None:
        way = way_to(url, network)
        found = await look_up(way)
        if found.verdict is not Verdict.BROKEN:
            found = (await look(session, way, clock)).finding
        return found if found.verdict is Verdict.BROKEN else None

    return CheckContext(clock, session, limit_s, reach, cure_of, ledger, collector)


async def check_output(context: CheckContext, settings: OutputSettings) -> Sequence[Checked]:
    """What trying one output came to."""
    try:
        async with asyncio.timeout(context.limit_s):
            return await OUTPUTS.by_name[settings.type].check(settings, context)
    except TimeoutError:
        return [failed_output(settings.name, OutputUnavailable("no answer in time"))]
    except CollectorError as error:
        return [failed_output(settings.name, error)]
    except OSError as error:
        # Of a folder that only a part of is closed, say; the other outputs are tried all the same.
        place = f"{error.filename}: " if error.filename else ""
        what = f"{place}{(error.strerror or str(error)).lower()}"
        return [bad(Check.OUTPUT, what, fix="let this user read and write there", subject=settings.name)]
