"""What befalls the ledger's file: copies of it, one of them put back, and its loss."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.errors import CollectorError
from m365watch.ledger.backup import back_up, put_in
from m365watch_testing.simulation.faults import Fate, Fault
from m365watch_testing.simulation.judge import Judge, read_account
from m365watch_testing.simulation.stores import Store
from m365watch_testing.simulation.ways import Way
from m365watch_testing.simulation.world import BlobName, World


@dataclass(frozen=True, slots=True)
class _Copy:
    """What a copy of the ledger knows."""

    forgotten: dict[BlobName, int]
    ended: dict[BlobName, int]
    received: dict[str, Counter[bytes]]
    """What each output's receiver had read, and the copy has a receipt for."""


class Archive:
    """Copies the ledger of a seed, and lets the fate of a life befall it."""

    def __init__(self, world: World, stores: dict[str, Store], judge: Judge, path: Path) -> None:
        """`path` is the ledger's."""
        self._world = world
        self._stores = stores
        self._judge = judge
        self._path = path
        self._target = path.with_name("copy.sqlite")
        self._copy: _Copy | None = None

    def copy(self) -> None:
        """Copy the ledger as `m365watch ledger backup` does; none where it cannot be read just now."""
        try:
            back_up(self._path, self._target, on_pages=lambda _done, _of: None)
        except CollectorError as error:
            self._world.history.tell(f"the ledger was not copied: {error}")
            return
        account = read_account(self._target)
        self._copy = _Copy(
            dict(self._world.forgotten),
            self._judge.ended_by(account),
            {
                name: store.receipted(account.last_batches.get(name, 0))
                for name, store in self._stores.items()
            },
        )
        self._world.ways.add(Way.COPIED)
        self._world.history.tell("the ledger was copied")

    def befall(self, fate: Fate) -> None:
        """Let `fate` come over the ledger, if there is one, while no collector lives."""
        if fate is Fate.KEPT or not self._path.exists():
            return
        if fate is Fate.PUT_BACK:
            self._put_back()
            return
        whole = self._path.read_bytes()
        if fate is Fate.GONE:
            self._path.unlink()
        elif fate is Fate.OVERWRITTEN:
            self._path.write_bytes(bytes(range(100)) + whole[100:])
        else:
            self._path.write_bytes(whole[: len(whole) // 3])
        self._begin_anew(Fault.LEDGER_LOST, _Copy({}, {}, {}))

    def _put_back(self) -> None:
        if self._copy is None:
            return
        put_in(self._path, self._target, now=self._world.now(), on_pages=lambda _done, _of: None)
        self._begin_anew(Fault.LEDGER_PUT_BACK, self._copy)

    def _begin_anew(self, fault: Fault, known: _Copy) -> None:
        """From now on the ledger knows what is `known`: a wire gets again what was received since."""
        world = self._world
        world.strike(fault)
        world.history.tell(fault.value)
        world.forgotten = dict(known.forgotten)
        world.ledger_begun_at = world.now()
        self._judge.ended = dict(known.ended)
        for name, store in self._stores.items():
            store.allow_again(besides=known.received.get(name, Counter()))
