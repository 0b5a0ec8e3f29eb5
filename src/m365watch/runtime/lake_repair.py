"""A lake whose data files are gone: the table lets go of them, and their records are pending for it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

import msgspec

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import LakeUnusable
from m365watch.common.missing_files import MissingFiles, body_of, joined, memory_name, missing_of
from m365watch.common.timestamps import instant_of_us
from m365watch.config.models.settings import Settings
from m365watch.lake.delta.table_files import replace_files
from m365watch.lake.missing_files import list_missing, sum_up
from m365watch.lake.schema import AUDIT
from m365watch.lake.store import table_store
from m365watch.ledger.limits import HORIZON
from m365watch.ledger.queries import require_ledger
from m365watch.ledger.redelivery import Carrier, PendingAgain
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.outputs.factory import make_output
from m365watch.outputs.lake.spec import LakeSection
from m365watch.records.identity import IdentityMaker
from m365watch.runtime.lake_maintenance import holding_lake
from m365watch.runtime.ledger_reconciliation import AdoptionParts, read_again
from m365watch.sources.page_spool import PREFIX as RECOVERED
from m365watch.sources.service_health.health_poller import PREFIX as ANNOUNCED

P = ParamSpec("P")
T = TypeVar("T")
_SERVED = timedelta(days=7)
_NOTHING = PendingAgain(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair has done."""

    missing: MissingFiles
    pending: PendingAgain
    unserved: int
    """Records that the lake lacks and that nothing fetches by itself."""


def repair_lake(
    settings: Settings, lake: LakeSection, *, accept_loss: bool, clock: Clock, random: Random
) -> Repaired | None:
    """Let the records of missing files be pending for the lake; None where nothing is missing.

    What is not served any more stays noted until it was recovered, unless `accept_loss`.
    Interrupted anywhere, the same call does the rest.
    Raises: LedgerHeld: a collector is running; LedgerUnusable, LedgerUnavailable; LakeHeld, LakeUnusable.
    """
    require_ledger(settings.state_directory / LEDGER_FILE)
    outputs = frozenset(settings.receivers)
    ledger = SqliteLedger(settings.state_directory, outputs=outputs, now=clock.now())
    try:
        ledger.routes.exclude(settings.excluded_outputs)
        name = memory_name(lake.name)
        before = missing_of(ledger.remembered(name))
        missing = _take_out(settings, lake, ledger, before, clock)
        if missing is None:
            ledger.forget_memory(name)
            return None
        pending = _NOTHING
        unserved = before.records if before is not None and not before.files else 0
        # A new ledger knows no blob: its next run fetches all, and asks the lake what it has.
        if missing.files and not ledger.held.is_adoption_due():
            received = missing.received_from, missing.received_to
            carriers = ledger.carriers_of(lake.name, received=received, is_kept=_is_kept, now=clock.now())
            asyncio.run(_read_again(settings, lake, ledger, carriers, clock=clock, random=random))
            pending = ledger.make_pending(lake.name, carriers)
            unserved += _unserved(missing, pending, now=clock.now())
        if unserved and not accept_loss:
            left = msgspec.structs.replace(missing, files=0, names=(), records=unserved, is_removed=True)
            ledger.remember(name, body_of(left))
        else:
            ledger.forget_memory(name)
        return Repaired(missing, pending, 0 if accept_loss else unserved)
    finally:
        ledger.close()


def _take_out(
    settings: Settings, lake: LakeSection, ledger: SqliteLedger, known: MissingFiles | None, clock: Clock
) -> MissingFiles | None:
    """What was missing, with what is `known` from before; the table does not name it any more."""
    with holding_lake(settings, lake, clock) as directory:
        files = list_missing(directory)
        missing = sum_up(directory, files, now=clock.now())
        if known is not None and known.is_removed:
            missing = known if missing is None else joined(known, missing)
        if missing is None or not files:
            return missing
        # First, so that a crash after the commit does not lose what is to be fetched again.
        ledger.remember(memory_name(lake.name), body_of(msgspec.structs.replace(missing, is_removed=True)))
        store = table_store(directory, AUDIT)
        if not replace_files(store.open(), store, old=files, new=[], changes_rows=True, clock=clock):
            raise LakeUnusable(
                "its files were changed meanwhile", fix="repeat the command", where=str(directory)
            )
    return missing


def _is_kept(content_id: str) -> bool:
    """Whether the blob came from a page on this machine, which went once it was delivered."""
    return content_id.startswith((RECOVERED, ANNOUNCED))


async def _read_again(
    settings: Settings,
    lake: LakeSection,
    ledger: SqliteLedger,
    carriers: list[Carrier],
    *,
    clock: Clock,
    random: Random,
) -> None:
    """Let the ledger know which records of the carriers the lake has."""
    tenants = [tenant.tenant_id for tenant in settings.tenants]
    identities = IdentityMaker(ledger.identity_seed)
    parts = AdoptionParts(ledger.held, identities, _at_once, clock, tenants)
    since = min((instant_of_us(one.created_us) for one in carriers), default=clock.now())
    output = make_output(lake, clock=clock, random=random, collector_name=settings.collector_name)
    try:
        await read_again(parts, output, since=since)
    finally:
        await output.close()


async def _at_once(verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The ledger's verb: nobody else waits for it."""
    return verb(*args, **kwargs)


def _unserved(missing: MissingFiles, pending: PendingAgain, *, now: datetime) -> int:
    """The records that are not fetched again; of blobs that the ledger has forgotten, what is left over."""
    if missing.received_from is not None and missing.received_from > now - HORIZON + _SERVED:
        return pending.records_lost
    return max(pending.records_lost, missing.records - pending.records_pending)
