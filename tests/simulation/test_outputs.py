"""The simulated outputs keep the promises of real ones, and have something to lose."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from m365watch.records.headers import headers_of
from m365watch.records.identity import MarkMaker
from m365watch.registry.outputs import HeldPiece, MarkedPiece, Output
from m365watch_testing.batches import TENANT, make_record, make_records, make_simple_batch
from m365watch_testing.clock import START
from m365watch_testing.output_contract import OutputContract
from m365watch_testing.simulation.faults import Fault, make_plan
from m365watch_testing.simulation.outputs import FilesLike, LakeLike, WireLike, make_outputs
from m365watch_testing.simulation.stores import Sent, Store, torn
from m365watch_testing.simulation.world import World

REFUSED = make_record(7, note="refused")


def world_of(name: str, *faults: Fault) -> World:
    """A world with one output, and in it these faults from the start."""
    plan = replace(
        make_plan(1, Random(1)),
        faults=frozenset(faults),
        outputs=(name,),
        spans=dict.fromkeys(faults, ((0.0, 60.0),)),
    )
    return World(plan, [])


class SimulatedPlace:
    """A simulated output's store, which outlives it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.can_undo = name == "files"
        self.exactly_once = self.keeps_order = name != "devo"
        self.store = Store(name)
        self.world = world_of(name, *([Fault.OUTPUT_REFUSES] if name == "devo" else []))

    def make(self) -> LakeLike | WireLike:
        if self.name != "devo":
            return make_outputs({self.name: self.store}, self.world, Random(1))[0]
        wire = WireLike(self.store, self.world, Random(1), retention_s=0.01)
        wire.refuses = lambda record: record == REFUSED
        return wire

    async def kill(self, output: Output) -> None:
        self.store.crash(10**9)

    def records_in(self) -> list[bytes]:
        if self.name == "devo":
            return list(self.store.received.elements())
        return [record for number in sorted(self.store.durable) for record in self.store.durable[number]]

    def refusable_record(self) -> bytes | None:
        return REFUSED if self.name == "devo" else None

    def filled(self) -> AbstractContextManager[None] | None:
        return self._full() if self.name != "devo" else None

    @contextmanager
    def _full(self) -> Iterator[None]:
        self.store.is_full = True
        yield
        self.store.is_full = False


class TestSimulatedOutputs(OutputContract):
    """What every output promises."""

    @pytest.fixture(params=["lake", "files", "devo"])
    def place(self, request: pytest.FixtureRequest) -> SimulatedPlace:
        return SimulatedPlace(request.param)


async def _begin(output: LakeLike | WireLike, left: Collection[object]) -> None:
    """Deliver a batch, and die as soon as there is something `left`."""
    await output.open(last_batch=0, position="", newest_batch=1)
    batch = make_simple_batch(1, make_records(9), output=output.name)
    task = asyncio.create_task(output.deliver(batch))
    while not left:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("kind", [LakeLike, FilesLike])
def test_a_crash_leaves_half_a_batch_that_does_not_count(kind: type[LakeLike]) -> None:
    """Parts without a commit, bytes that were not synced: the next start is without them."""
    store = Store("files")
    world = world_of("files")
    asyncio.run(_begin(kind(store, world, Random(2)), store.begun))
    [left] = store.begun.values()
    store.crash(0)
    counted = store.records()
    found = asyncio.run(kind(store, world, Random(1)).open(last_batch=0, position="", newest_batch=1))

    assert 0 < len(left) < 9
    assert store.half
    assert (found, counted, store.begun, world.broken) == (0, Counter(), {}, [])


def test_files_are_not_written_behind_what_nobody_cut_back() -> None:
    """A collector that does not open its output after a crash is found out."""
    store = Store("files", begun={1: [b"half"]})
    world = world_of("files")
    batch = make_simple_batch(2, make_records(2), output="files")
    asyncio.run(FilesLike(store, world, Random(1)).deliver(batch))

    assert world.broken == ["files were written behind bytes of another batch that nobody cut back"]


def test_a_crash_leaves_records_on_the_wire_of_which_some_are_read() -> None:
    """What was read may come again; what was not read has gone."""
    store = Store("devo")
    asyncio.run(_begin(WireLike(store, world_of("devo"), Random(4)), store.sent))
    [left] = [len(one.records) - one.read for one in store.sent]
    store.crash(0)

    assert 0 < left < 9
    assert store.half
    assert store.received == store.allowed
    assert 0 < store.received.total() < 9


async def _hold(output: LakeLike, world: World) -> list[HeldPiece]:
    """What the output holds after two batches, an hour apart, of which the second is asked for."""
    await output.open(last_batch=0, position="", newest_batch=2)
    await output.deliver(make_simple_batch(1, make_records(1), output=output.name))
    world.pass_time(3_600.0)
    await output.deliver(make_simple_batch(2, make_records(3), output=output.name))
    since = START + timedelta(minutes=30)
    return [piece async for piece in output.list_held(since=since)]


@pytest.mark.parametrize("kind", [LakeLike, FilesLike])
def test_a_ledger_that_knows_nothing_is_told_what_came_since(kind: type[LakeLike]) -> None:
    """The lake says whose it is, files do not."""
    world = world_of("files")
    store = Store("files")
    pieces = asyncio.run(_hold(kind(store, world, Random(1)), world))
    newest = asyncio.run(kind(store, world, Random(1)).take_over())

    assert [record for piece in pieces for record in piece.records] == make_records(3)
    assert {piece.tenant_id is None for piece in pieces} == {kind is FilesLike}
    assert newest == 2


def test_a_ledger_that_knows_nothing_is_told_what_was_erased() -> None:
    """Under the key by which the records are known when they come again; what was not stays to be told."""
    store = Store("lake")
    record = make_record(1)
    store.durable[1] = [record, make_record(2)]
    store.erase(1.0, Random(1))
    store.durable[2] = [make_record(3)]
    lake = make_outputs({"lake": store}, world_of("lake"), Random(1))[0]
    assert isinstance(lake, LakeLike)

    async def ask() -> tuple[list[bytes], list[MarkedPiece]]:
        held = [record async for piece in lake.list_held(since=START) for record in piece.records]
        return held, [piece async for piece in lake.list_erased()]

    store.written_at = dict.fromkeys((1, 2), START)
    held, [erased] = asyncio.run(ask())
    [mark] = MarkMaker(erased.key).marks(TENANT, headers_of([record]), [record])

    assert held == store.durable[2]
    assert (mark in erased.marks, len(erased.marks)) == (True, 2)


def test_files_that_are_taken_over_keep_whole_records_of_what_was_cut_short() -> None:
    """Nobody has a receipt for them any more."""
    records = make_records(3)
    store = Store("files", begun={4: torn(records)})
    files = FilesLike(store, world_of("files"), Random(1))
    newest = asyncio.run(files.take_over())
    found = asyncio.run(files.open(last_batch=4, position="", newest_batch=4))

    assert (newest, found, store.begun) == (4, 4, {})
    assert store.durable == {4: records[:2]}


def test_a_wire_gets_again_what_its_ledger_has_no_receipt_for() -> None:
    """Once: what was read and not proven, or proven without a receipt, or came since."""
    store = Store("devo", received=Counter([b"old", b"new", b"unproven", b"late"]))
    store.proven = {1: [b"old"], 2: [b"new"]}
    store.sent = [Sent(3, [b"unproven"], read=1)]
    known = store.receipted(1)
    store.allow_again(besides=known - Counter([b"late"]))

    assert known == Counter([b"old", b"late"])
    assert store.allowed == Counter([b"new", b"unproven", b"late"])


def test_a_torn_batch_ends_in_the_middle_of_a_record() -> None:
    assert torn([b"one", b"second"]) == [b"one", b"sec"]
    assert torn([]) == []


@pytest.mark.parametrize("name", ["lake", "files", "devo"])
def test_each_kind_is_made_over_its_store(name: str) -> None:
    [output] = make_outputs({name: Store(name)}, world_of(name), Random(1))

    assert output.name == name
