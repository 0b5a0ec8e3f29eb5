"""One seed's whole history: its lives, its crashes, its calm end, and what was found to be broken."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch_testing.clock import START
from m365watch_testing.simulation.archive import Archive
from m365watch_testing.simulation.content import Tenants
from m365watch_testing.simulation.faults import Fault, Life, Plan, make_plan
from m365watch_testing.simulation.judge import Account, Judge, read_account
from m365watch_testing.simulation.life import Place, live
from m365watch_testing.simulation.service import SimulatedService
from m365watch_testing.simulation.stores import Store
from m365watch_testing.simulation.ways import Way
from m365watch_testing.simulation.world import World

CALM_DAYS_MAX = 7
"""Days at the end on which nothing is wrong any more."""
CALM_RUNS_MAX = 14
"""Runs on each of them from the last new blob on, until nothing waits: a body that is no array is believed
after 12 tries."""
WAITING = 3
"""The exit code of a run that leaves blobs to be tried again."""
_DAY_S, _DAYS_S = 25.0 * 3_600, 75.0 * 3_600
_CALM = Life(
    lasts_s=0.0,
    crash_s=None,
    crash_turns=0,
    off_s=_DAY_S,
    skew_s=0.0,
    jump_at_s=0.0,
    jump_s=0.0,
    sleep_at_s=0.0,
    sleep_s=0.0,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a seed."""

    seed: int
    broken: tuple[str, ...]
    """One sentence for each broken promise; empty when all held."""
    history: tuple[str, ...]
    """What happened, line by line."""
    faults: tuple[str, ...]
    """What was wrong in the world, in words."""
    struck: tuple[str, ...]
    """What of it took effect."""
    halves: tuple[str, ...]
    """The outputs at which a crash left half a batch."""
    ways: tuple[str, ...]
    """What the ledger has come by."""


def simulate_seed(seed: int, directory: Path) -> Verdict:
    """The verdict on the history of `seed`; `directory` is empty and takes the ledger and the queues."""
    plan = make_plan(seed, _chance(seed, "plan"))
    return simulate_plan(plan, directory)


def simulate_plan(plan: Plan, directory: Path) -> Verdict:
    """The same for a plan that a test has changed."""
    return _History(plan, directory).run()


def _chance(seed: int, name: str) -> random.Random:
    """A source of its own for each thing that is decided, so that one does not move another."""
    return random.Random(f"{seed}/{name}")


class _History:
    def __init__(self, plan: Plan, directory: Path) -> None:
        tenants = Tenants(plan, _chance(plan.seed, "tenants"))
        self._plan = plan
        self._world = World(plan, tenants.invent())
        self._stores = {name: Store(name) for name in plan.outputs}
        self._judge = Judge(self._world, self._stores)
        self._place = Place(
            self._world,
            SimulatedService(self._world, _chance(plan.seed, "service"), tenants.feeds),
            tenants.feeds,
            self._stores,
            directory,
            Archive(self._world, self._stores, self._judge, directory / LEDGER_FILE),
            _chance(plan.seed, "work"),
        )

    def run(self) -> Verdict:
        for life in self._plan.lives:
            live(self._place, life, once=False)
            account = self._judge_life()
            if self._plan.is_quiet and account is not None:
                ill = self._place.feeds[0]
                self._judge.judge_lag(account, ill=(ill.tenant_id, ill.content_type), until=self._world.now())
            self._erase(life.erased_share)
            self._place.archive.befall(life.fate)
            self._world.pass_time(life.off_s)
            for fault in (Fault.AWAY, Fault.DAYS):
                if fault in self._plan.faults:
                    self._world.strike(fault)
        self._end()
        return Verdict(
            self._plan.seed,
            tuple(self._world.broken),
            self._world.history.lines(),
            tuple(fault.value for fault in Fault if fault in self._plan.faults),
            tuple(fault.value for fault in Fault if fault in self._world.struck),
            tuple(sorted(self._world.halves)),
            tuple(way.value for way in Way if way in self._world.ways),
        )

    def _erase(self, share: float) -> None:
        """Let that share of the lake's records be erased while no collector lives."""
        world = self._world
        if not share or Fault.ERASED not in self._plan.faults:
            return
        count = self._stores["lake"].erase(share, _chance(self._plan.seed, f"erased/{world.life}"))
        if count:
            world.strike(Fault.ERASED)
            world.history.tell(f"{count} records are erased from the lake")

    def _judge_life(self) -> Account | None:
        """Judge what is left after a life; None where it had no time to make a ledger."""
        if not self._place.ledger_path.exists():
            return None
        try:
            account = read_account(self._place.ledger_path)
        except Exception as error:  # noqa: BLE001 - a ledger that cannot be read is what is judged.
            if self._world.life > 1:
                self._world.accuse(f"the ledger cannot be read: {error}")
            return None
        for name, store in self._stores.items():
            store.crash(account.last_batches.get(name, 0))
            if store.half:
                self._world.halves.add(name)
        self._judge.judge(account)
        return account

    def _end(self) -> None:
        """Faults gone, and time enough to catch up."""
        world = self._world
        world.is_calm = True
        calm_since = world.now()
        listed_last = max(content.listed_at for content in world.contents) + timedelta(hours=25)
        for day in range(CALM_DAYS_MAX):
            account = self._calm_runs()
            if account is None or (day and world.now() > max(listed_last, self._forgets_at)):
                break
            world.pass_time(_DAY_S if Fault.DAYS not in self._plan.faults else _DAYS_S)
        else:
            world.accuse(f"{CALM_DAYS_MAX} days were too few for all that was to be listed")
        if account is None:
            world.accuse("there is no ledger at the end")
            return
        self._judge.judge_end(account, calm_since=calm_since, now=world.now())

    @property
    def _forgets_at(self) -> datetime:
        """Until when days have to pass where they do, for what a ledger learned at its beginning to go."""
        begun_at = self._world.ledger_begun_at
        if begun_at is None or Fault.DAYS not in self._plan.faults:
            return START
        return begun_at + self._plan.bounds.horizon + timedelta(hours=1)

    def _calm_runs(self) -> Account | None:
        """Run until nothing waits: each start tries again what is not believed yet."""
        runs_left, known = CALM_RUNS_MAX, 0
        while runs_left:
            outcome = live(self._place, _CALM, once=True)
            account = self._judge_life()
            blobs = len(account.blobs) if account is not None else 0
            runs_left = CALM_RUNS_MAX if blobs > known else runs_left - 1
            known = max(known, blobs)
            if outcome is None or outcome.exit_code != WAITING:
                break
            self._world.pass_time(1.0)
        if outcome is not None and outcome.exit_code != 0:
            self._world.accuse(f"a calm run ended with {outcome.exit_code}: {outcome.problems}")
        return account
