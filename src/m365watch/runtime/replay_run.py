"""A replay of the lake to one output: built from settings, run to its end, and what came of it."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import LakeMissing, SettingsRefused
from m365watch.common.model import Feed, TenantId
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.outputs import OutputSection
from m365watch.config.models.settings import Settings
from m365watch.config.models.values import is_guid
from m365watch.http.client import Session
from m365watch.lake.record_scan import LakeScan, ScanAsked
from m365watch.ledger.lock import LOCK_FILE, LedgerLock
from m365watch.ledger.queries import ledger_for_reading, remembered
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.outputs.lake.spec import LakeSection
from m365watch.records.routing import Treatment
from m365watch.runtime.collector import Collector
from m365watch.runtime.collector_run import Outcome
from m365watch.sources.factory import ReachedFeed
from m365watch.sources.lake_replay import COURSE, LakeApi, LakeSource, parse_course
from m365watch.sources.management_api.fetch_attempts import TenantAccess
from m365watch.sources.management_api.service_clock import ServiceClock
from m365watch.sources.management_api.subscriptions import SubscriptionKeeper
from m365watch.sources.poll_loop import OtherSources, PollSettings, SourceMeans

FOLDER = "replays"
"""The folder of the replays' own ledgers and queues, in the state directory."""
TABLES_NAMED_MAX = 10
"""Tables that a mistake in --table names, where none is near."""
TENANTS_NAMED_MAX = 5
"""Tenants that a mistake in --tenant names, of those there are."""
_FILES_SUFFIX = ".replay"
_POLLING = PollSettings(None, timedelta(0), 300.0)


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """How a replay ended."""

    exit_code: int
    """0 all is delivered; 1 something kept it from its end; 3 some of it waits for the output."""
    records: int
    """Records that the output has, of all starts."""
    waiting: int
    """Slices that wait for the output, or for another try."""
    pieces: int
    """Records that the output refused, kept in the replay's own quarantine."""
    went_on: bool
    """Whether it took up an earlier start."""
    is_done: bool
    problems: tuple[str, ...]
    directory: Path | None
    """Where a files output wrote."""


class Replay:
    """One replay; its ledger, queue and positions are its own, so that it works beside a collector."""

    def __init__(
        self, settings: Settings, asked: ScanAsked, output: str, *, clock: Clock, random: Random
    ) -> None:
        """Nothing is opened yet.

        Raises: SettingsRefused: there is no such output or no lake. LakeMissing.
        """
        self._clock = clock
        self._asked = asked
        lake = settings.lake_directory
        if lake is None:
            raise SettingsRefused(
                ["outputs: a replay reads the lake, and no output is one"], where=str(settings.path)
            )
        if not lake.is_dir():
            raise LakeMissing("there is no lake here", fix="run `m365watch run` first", where=str(lake))
        self._scan = LakeScan(lake, replace(asked, tenant_ids=_tenants_meant(settings, output, asked)))
        self._place = str(lake)
        target = _target(settings, output)
        name = f"{output}-{_digest(asked, output)}"
        self._state = settings.state_directory / FOLDER / name
        self.directory = _own_directory(target, name)
        if self.directory is not None:
            target = target.into(self.directory)
        self._settings = replace(
            settings,
            outputs=(target,),
            state_directory=self._state,
            # The records went past the rules when they came; `hunt` has them go past others.
            detections=DetectionsSection(),
        )
        self.writes_records = target.uses_stdout
        """Whether the output has stdout to itself."""
        self.collector = Collector(self._settings, clock=clock, random=random)

    @property
    def was_done(self) -> bool:
        """Whether an earlier start with the same arguments has delivered all of it."""
        path = self._state / LEDGER_FILE
        if not path.exists():
            return False
        with ledger_for_reading(path) as connection:
            course = parse_course(remembered(connection, COURSE))
            [unfinished] = connection.execute("SELECT count(*) FROM blob WHERE finished_s IS NULL").fetchone()
        return course is not None and course.is_done and not unfinished

    def forget(self) -> None:
        """What earlier starts with the same arguments remember, and have written into files, is gone.

        Raises: LedgerHeld: one of them is running.
        """
        if not self._state.is_dir():
            return
        lock = LedgerLock(self._state / LOCK_FILE)
        lock.acquire()
        try:
            for folder in (self.directory, self._state):
                if folder is not None and folder.is_dir():
                    shutil.rmtree(folder)
        finally:
            lock.release()

    async def run(self, stop: asyncio.Event) -> ReplayOutcome:
        """Deliver to the end, or until `stop`; the next start with the same arguments goes on.

        Raises: SettingsRefused: the lake has no such table; LedgerHeld: the same replay is running;
        LedgerUnusable, OutputUnusable, OutputUnavailable.
        """
        went_on = (self._state / LEDGER_FILE).exists()
        feeds = await asyncio.to_thread(self._scan.feeds)
        if not feeds and self._asked.table is not None:
            await asyncio.to_thread(self._require_table, self._asked.table)
        if not feeds and self._asked.tenant_ids:
            await asyncio.to_thread(self._require_tenants, self._asked.tenant_ids)
        apis = {feed.tenant_id: LakeApi(feed.tenant_id, self._scan) for feed in feeds}

        def instead(
            known: Mapping[Feed, ReachedFeed], _session: Session
        ) -> tuple[Mapping[Feed, ReachedFeed], OtherSources]:
            def start(means: SourceMeans) -> list[LakeSource]:
                return [LakeSource(self._asked.period, self._scan, apis, self._clock, means)]

            return self._reach(feeds, apis, known), OtherSources(start, lambda _: True)

        outcome = await self.collector.run(once=True, stop=stop, instead=instead)
        return await asyncio.to_thread(self._outcome, outcome, went_on=went_on)

    def _require_table(self, table: str) -> None:
        """Nothing, where the lake has the table, if with no record of the period.

        Raises: SettingsRefused.
        """
        tables = self._scan.tables()
        last_parts = {name.rpartition(".")[2]: name for name in tables}
        if any(name == table or name.endswith(f".{table}") for name in tables):
            return
        near = difflib.get_close_matches(table, [*last_parts, *tables], n=3)
        named = ", ".join(near) if near else ", ".join(list(last_parts)[:TABLES_NAMED_MAX])
        there = f"near are {named}" if near else f"there are {named or 'none'}"
        raise SettingsRefused([f"--table {table}: the lake has no such table; {there}"], where=self._place)

    def _require_tenants(self, tenant_ids: frozenset[TenantId]) -> None:
        """Nothing, where the lake has records of them, if with none of the period.

        Raises: SettingsRefused.
        """
        there = self._scan.tenants()
        if not tenant_ids.isdisjoint(there):
            return
        named = ", ".join(there[:TENANTS_NAMED_MAX]) or "none"
        more = f" and {len(there) - TENANTS_NAMED_MAX:,} more" if len(there) > TENANTS_NAMED_MAX else ""
        raise SettingsRefused(
            [
                f"--tenant {one}: the lake has no record of it; it has those of {named}{more}"
                for one in sorted(tenant_ids)
            ],
            where=self._place,
        )

    def _reach(
        self, feeds: list[Feed], apis: Mapping[TenantId, LakeApi], known: Mapping[Feed, ReachedFeed]
    ) -> dict[Feed, ReachedFeed]:
        """Each feed of the lake, with the masks and tags that its service has in the configuration."""
        # One fetch at a time, of whatever feed, keeps the order.
        places = asyncio.Semaphore(1)
        return {
            feed: ReachedFeed(
                TenantAccess(
                    apis[feed.tenant_id],
                    SubscriptionKeeper(apis[feed.tenant_id], self._clock),
                    ServiceClock(self._clock),
                    places,
                ),
                _POLLING,
                known[feed].treatment if feed in known else Treatment(),
            )
            for feed in feeds
        }

    def _outcome(self, outcome: Outcome, *, went_on: bool) -> ReplayOutcome:
        with ledger_for_reading(self._state / LEDGER_FILE) as connection:
            course = parse_course(remembered(connection, COURSE))
        feeds = outcome.progress.feeds
        is_done = course is not None and course.is_done
        exit_code = outcome.exit_code if outcome.exit_code or is_done else 1
        return ReplayOutcome(
            exit_code,
            sum(feed.records_delivered for feed in feeds),
            sum(feed.blobs_waiting for feed in feeds),
            sum(feed.records_quarantined for feed in feeds),
            went_on,
            is_done,
            outcome.problems,
            self.directory,
        )


def _target(settings: Settings, output: str) -> OutputSection:
    """The output of that name.

    Raises: SettingsRefused: there is none, or it is a lake.
    """
    names = {one.name: one for one in settings.outputs}
    target = names.get(output)
    if target is None:
        mistake = f"--output {output}: the configuration has {', '.join(sorted(names))}"
    elif isinstance(target, LakeSection):
        mistake = f"--output {output}: is a lake; what comes from the lake is in it already"
    else:
        return target
    raise SettingsRefused([mistake], where=str(settings.path))


def find_tenants(settings: Settings, names: Sequence[str]) -> frozenset[TenantId]:
    """The tenants of those ids and inputs; an id may be that of a tenant that left the configuration.

    Raises: SettingsRefused: with each name that is neither.
    """
    inputs: dict[str, set[TenantId]] = {}
    for tenant in settings.tenants:
        inputs.setdefault(tenant.input_name.lower(), set()).add(tenant.tenant_id)
    found: set[TenantId] = set()
    mistakes = []
    for name in (one.strip().lower() for one in names):
        if name in inputs:
            found |= inputs[name]
        elif is_guid(name):
            found.add(TenantId(name))
        else:
            mistakes.append(
                f"--tenant {name}: is no GUID and no input; there are {', '.join(sorted(inputs))}"
            )
    if mistakes:
        raise SettingsRefused(mistakes, where=str(settings.path))
    return frozenset(found)


def _tenants_meant(settings: Settings, output: str, asked: ScanAsked) -> frozenset[TenantId] | None:
    """Whose records are delivered, of those that the output gets; None for all that the lake has.

    Raises: SettingsRefused: it gets none of a tenant that is asked for.
    """
    allowed, wanted = _tenants_of(settings, output), asked.tenant_ids
    if allowed is None or wanted is None:
        return allowed if wanted is None else wanted
    if others := wanted - allowed:
        raise SettingsRefused(
            [f"--tenant {one}: its records do not go to output {output}" for one in sorted(others)],
            where=str(settings.path),
        )
    return wanted


def _tenants_of(settings: Settings, output: str) -> frozenset[TenantId] | None:
    """Whose records the output gets; None for all that the lake has.

    Once an input names its outputs, also a tenant that left the configuration has no claim to any: the lake
    keeps its records, and they are no business of who has the output now.
    """
    if not any(tenant.outputs for tenant in settings.tenants):
        return None
    return frozenset(one.tenant_id for one in settings.tenants if not one.outputs or output in one.outputs)


def _own_directory(target: OutputSection, name: str) -> Path | None:
    """Where a replay writes files: beside the output's own folder, which the collector has locked."""
    return None if target.folder is None else replays_beside(target.folder) / name


def replays_beside(folder: Path) -> Path:
    """Where replays write for an output with that folder, each in a folder of its own."""
    return folder.with_name(f"{folder.name}{_FILES_SUFFIX}")


def _digest(asked: ScanAsked, output: str) -> str:
    """The same for the same arguments."""
    types = ",".join(sorted(map(str, asked.content_types)))
    period = f"{asked.period.start.isoformat()}/{asked.period.end.isoformat()}"
    parts = [output, period, str(asked.clock), types, asked.table or ""]
    if asked.tenant_ids is not None:
        # Not where all are meant: what an earlier version has begun keeps its name.
        parts.append(",".join(sorted(asked.tenant_ids)))
    text = "\n".join(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
