"""Each output tried the way a run will use it: no record is sent, and nothing stays behind.

Lake and files may belong to a collector that runs, so that they are looked at and never opened. An
endpoint of Devo's that takes a token shows only by a post whether it takes it: it gets the notice that a
run posts when it starts, and only where notices are sent at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from yarl import URL

from m365watch.common.clock import Clock
from m365watch.common.errors import (
    CollectorError,
    LedgerUnusable,
    NeedsOperator,
    OutputUnavailable,
    OutputUnusable,
)
from m365watch.common.file_access import is_folder, why_shut
from m365watch.config.models.settings import (
    ConsoleSettings,
    DevoHttpSettings,
    DevoSettings,
    FilesSettings,
    LakeSettings,
    OutputSettings,
    SyslogSettings,
    TlsSettings,
    WireSettings,
)
from m365watch.health.checks.machine_checks import why_unwritable
from m365watch.health.checks.network_checks import look, look_up, way_to
from m365watch.health.checks.reachable import cure_of
from m365watch.http.session import Session
from m365watch.ledger.queries import output_account
from m365watch.ledger.queries_reading import ledger_for_reading
from m365watch.registry.checks import Verdict
from m365watch.registry.report import Check, Checked, bad, good, odd

_RENEW = "have a new one issued"
_AWAY_FIX = (
    "see that the receiver is up and that this machine may reach it; a run starts all the same, and keeps "
    "what it cannot send in the output's queue"
)


@dataclass(frozen=True, slots=True)
class OutputMeans:
    """What outputs are tried with."""

    clock: Clock
    session: Session
    limit_s: float
    """How long one output may take."""
    ledger: Path | None = None
    """What lakes are compared with; None where no state is kept."""
    collector: str = ""
    """Under which name the collector writes."""


async def check_output(means: OutputMeans, settings: OutputSettings) -> list[Checked]:
    """What trying one output came to."""
    try:
        async with asyncio.timeout(means.limit_s):
            return await _try(means, settings)
    except TimeoutError:
        error = OutputUnavailable("no answer in time")
        return [_failed(settings.name, error)]
    except CollectorError as error:
        return [_failed(settings.name, error)]
    except OSError as error:
        # Of a folder that only a part of is closed, say; the other outputs are tried all the same.
        place = f"{error.filename}: " if error.filename else ""
        what = f"{place}{(error.strerror or str(error)).lower()}"
        return [bad(Check.OUTPUT, what, fix="let this user read and write there", subject=settings.name)]


async def _try(means: OutputMeans, settings: OutputSettings) -> list[Checked]:
    match settings:
        case LakeSettings():
            return await asyncio.to_thread(_try_lake, means, settings)
        case FilesSettings():
            return [await asyncio.to_thread(_try_files, settings)]
        case ConsoleSettings():
            return [good(Check.OUTPUT, "the standard output of `m365watch run`", subject=settings.name)]
        case DevoSettings():
            return await _try_wire(means, settings, settings.tls, settings.wire)
        case SyslogSettings(transport="udp"):
            return [await _try_datagrams(settings)]
        case SyslogSettings():
            tls = settings.tls if settings.transport == "tls" else None
            return await _try_wire(means, settings, tls, settings.wire)
        case DevoHttpSettings():
            return [await _try_posts(means, settings)]


def _failed(name: str, error: CollectorError) -> Checked:
    fix = error.fix if isinstance(error, NeedsOperator) else _AWAY_FIX
    return bad(Check.OUTPUT, error.what, fix=fix, subject=name)


def _try_lake(means: OutputMeans, settings: LakeSettings) -> list[Checked]:
    """The lake's own step, and one for each other table of it that is not as it should be."""
    try:
        from m365watch.lake.integrity_errors import torn_fix
        from m365watch.lake.maintenance.integrity_check_trying import try_table
        from m365watch.lake.schema import AUDIT_TABLE, TABLES
    except ImportError as error:
        fix = "run: pip install deltalake pyarrow"
        what = f"the Python package {error.name} is missing"
        return [bad(Check.OUTPUT, what, fix=fix, subject=settings.name)]
    _require_writable(settings.directory)
    steps = []
    for shape in TABLES:
        try:
            is_filled = shape is AUDIT_TABLE and _has_delivered(means, settings)
            found = try_table(settings.directory, shape, where=settings.name, is_acknowledged=is_filled)
            if shape is AUDIT_TABLE:
                if means.ledger is not None:
                    require_in_step(means.ledger, settings, collector=means.collector)
                seen = f"{settings.directory} can be written; {found}"
                steps.append(good(Check.OUTPUT, seen, subject=settings.name))
        except OutputUnusable as error:
            step = _failed(settings.name, error)
            # Nobody is kept from working by what a power cut has torn off.
            is_torn = error.fix == torn_fix(shape.name)
            steps.append(replace(step, verdict=Verdict.NOTE) if is_torn else step)
    return steps


def require_in_step(ledger: Path, settings: LakeSettings, *, collector: str) -> None:
    """Nothing, where a start of the collector of that name would go on with this lake.

    Raises: OutputUnusable: lake and ledger are not each other's.
    """
    from m365watch.lake.maintenance.integrity_check_trying import require_in_step
    from m365watch.outputs.lake.lake_output import app_id_of

    account = partial(_account, ledger, settings.name)
    app_id = app_id_of(settings.name, collector)
    require_in_step(settings.directory, app_id, account, where=settings.name)


def _has_delivered(means: OutputMeans, settings: LakeSettings) -> bool:
    account = None if means.ledger is None else _account(means.ledger, settings.name)
    return account is not None and account[0] > 0


def _account(ledger: Path, output: str) -> tuple[int, int] | None:
    """The output's last batch and the last number given; None where they cannot be read, told elsewhere."""
    try:
        with ledger_for_reading(ledger) as connection:
            return output_account(connection, output)
    except (LedgerUnusable, OSError):
        return None


def _try_files(settings: FilesSettings) -> Checked:
    _require_writable(settings.directory)
    for folder in settings.directory.iterdir() if is_folder(settings.directory) else ():
        # A start looks into each, for what a crash has left.
        if closed := why_shut(folder):
            raise OutputUnusable(f"{folder}: {closed}", fix="let this user read and write all that is there")
    return good(Check.OUTPUT, f"{settings.directory} can be written", subject=settings.name)


def _require_writable(directory: Path) -> None:
    """Raises: OutputUnusable: no file can be made there."""
    failure = why_unwritable(directory)
    if failure is not None:
        fix = f"{failure.fix}, or set another `directory`"
        raise OutputUnusable(f"{directory} cannot be written: {failure.why}", fix=fix)


async def _try_wire(
    means: OutputMeans,
    settings: DevoSettings | SyslogSettings,
    tls: TlsSettings | None,
    wire: WireSettings,
) -> list[Checked]:
    from m365watch.outputs.network.connector_trying import try_wire
    from m365watch.outputs.network.sender import OWN_END_NEAR, SERVER_END_NEAR

    tried = await try_wire(settings.address, settings.port, tls, wire, name=settings.name)
    how = "in TLS" if tls is not None else "in the clear"
    if tried.own_end_at is not None:
        how += " with the client certificate"
    seen = f"{settings.address}:{settings.port} takes connections {how}"
    now, name = means.clock.now(), settings.name
    ends = [
        *_judge_end("the client certificate", tried.own_end_at, OWN_END_NEAR, now=now, name=name),
        *_judge_end("the server's certificate", tried.server_end_at, SERVER_END_NEAR, now=now, name=name),
    ]
    return [good(Check.OUTPUT, seen, subject=name), *ends]


def _judge_end(
    whose: str, ends_at: datetime | None, near: timedelta, *, now: datetime, name: str
) -> list[Checked]:
    """A note on a certificate that ends soon."""
    if ends_at is None or ends_at - now >= near:
        return []
    return [odd(Check.OUTPUT, f"{whose} ends at {ends_at:%Y-%m-%d %H:%MZ}", fix=_RENEW, subject=name)]


async def _try_datagrams(settings: SyslogSettings) -> Checked:
    """The name is all that can be tried: nobody answers a datagram."""
    try:
        await asyncio.get_running_loop().getaddrinfo(settings.address, settings.port)
    except (OSError, UnicodeError):
        fix = "correct `address`"
        return bad(Check.OUTPUT, f"{settings.address} cannot be resolved", fix=fix, subject=settings.name)
    seen = f"{settings.address}:{settings.port} over UDP: nobody can tell whether anything arrives there"
    fix = "use transport tcp or tls where no record may be missing"
    return odd(Check.OUTPUT, seen, fix=fix, subject=settings.name)


async def _try_posts(means: OutputMeans, settings: DevoHttpSettings) -> Checked:
    """The way to the endpoint, and then whether it takes the token."""
    from m365watch.outputs.devo_http.output import DevoHttpOutput

    way = way_to(settings.endpoint, settings.network)
    for finding in (await look_up(way), (await look(means.session, way, means.clock)).finding):
        if finding.verdict is Verdict.BROKEN:
            fix = finding.fix or _AWAY_FIX
            return bad(Check.OUTPUT, finding.seen, fix=fix, subject=settings.name)
    host = URL(settings.endpoint).host
    if not settings.sends_notices:
        seen = f"{host} answers; its token is tried with the first records, because collectors_out is off"
        return odd(Check.OUTPUT, seen, subject=settings.name)
    output = DevoHttpOutput(settings, clock=means.clock)
    try:
        await output.open(last_batch=0, position="")
        trouble = output.trouble
    finally:
        with suppress(CollectorError):
            await output.close()
    if trouble is not None:
        return bad(Check.OUTPUT, trouble.what, fix=cure_of(trouble), subject=settings.name)
    seen = f"{host} takes the token: one notice is in devo.collectors.out, as at every start"
    return good(Check.OUTPUT, seen, subject=settings.name)


def joined_steps(found: Sequence[Sequence[Checked]]) -> tuple[Checked, ...]:
    """The steps of all outputs in their order."""
    return tuple(step for steps in found for step in steps)
