"""What every output promises, as tests: derive from `OutputContract` and give it a `place`.

    class TestFiles(OutputContract):
        @pytest.fixture
        def place(self, tmp_path: Path) -> FilesPlace:
            return FilesPlace(tmp_path)

The tests need no plugin: each runs its own event loop to the end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import pytest

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.registry.outputs import Output
from m365watch_testing.batches import make_batch, make_part, make_record, make_records, make_simple_batch

VERBATIM_RECORDS = {
    "non-ASCII": make_record(1, note="café 漢字 \N{ROCKET}"),
    "line separator": make_record(2, note="a\u2028b\u2029c\x85d"),
    "escapes": make_record(3, note=r"\ud83d\ude80 \u0000 \/ \u00e9"),
    "blanks kept": b'{ "Id" : "00000000-0000-0000-0000-000000000004" ,\t"Workload":"Exchange" } ',
    "big number": b'{"Id":"5","Workload":"Exchange","Size":1e400,"Exact":1.10}',
    "repeated key": b'{"Id":"6","Id":"7","Workload":"Exchange"}',
    "lone surrogate": make_record(8, note=r"\ud83d"),
    "invalid UTF-8": b'{"Id":"9","Workload":"Exchange","ObjectId":"caf\xe9 \xff"}',
}
"""Bytes that a careless output changes on their way."""


class OutputPlace(Protocol):
    """Where one output under test writes, and how to look at it from outside."""

    can_undo: bool
    """A batch that the ledger did not commit is gone after the next `open`."""
    exactly_once: bool
    """A batch that is delivered again under its number is there once."""
    keeps_order: bool
    """`records_in` gives the records in the order in which they were delivered."""

    def make(self) -> Output:
        """A new output over this place, not yet opened."""
        ...

    async def kill(self, output: Output) -> None:
        """Let go of `output` as if its process had died: free its locks, finish nothing."""
        ...

    def records_in(self) -> list[bytes]:
        """Every record that a reader finds now, verbatim, over all tables."""
        ...

    def refusable_record(self) -> bytes | None:
        """A record that the output will never take; None if it takes every one."""
        ...

    def filled(self) -> AbstractContextManager[None] | None:
        """A span in which nothing more can be written here; None if that cannot be arranged."""
        ...


class OutputContract:
    """The promises; a subclass overrides the fixture `place`."""

    @pytest.fixture
    def place(self) -> OutputPlace:
        """The place to test; a subclass says which."""
        raise NotImplementedError

    def test_a_new_place_holds_no_batch(self, place: OutputPlace) -> None:
        """At the first start the answer is 0, and a reader finds nothing."""
        answer, records = asyncio.run(_reopen(place, last_batch=0, position=""))

        assert (answer, records) == (0, [])

    def test_returning_means_durable(self, place: OutputPlace) -> None:
        """What `deliver` returned for survives the death of the process, complete."""
        batch = make_simple_batch(1, make_records(50), output=place.make().name)
        [receipt] = asyncio.run(_deliver_and_die(place, [batch]))

        answer, records = asyncio.run(_reopen(place, last_batch=1, position=receipt.position))

        assert (answer, Counter(records)) == (1, Counter(make_records(50)))

    def test_a_stop_and_a_start_lose_nothing(self, place: OutputPlace) -> None:
        """After `close` everything can be read, and the next run adds to it."""
        name = place.make().name
        records = make_records(20)
        position = ""
        for number in (1, 2):
            half = records[number * 10 - 10 : number * 10]
            batch = make_simple_batch(number, half, output=name)
            position = asyncio.run(_run(place, batch, last_batch=number - 1, position=position))

        assert _arranged(place, place.records_in()) == _arranged(place, records)

    def test_batches_arrive_in_their_order(self, place: OutputPlace) -> None:
        """Within a table, records stay in the order of the batches and parts."""
        name = place.make().name
        batches = [
            make_simple_batch(number, make_records(7, start=number * 7), output=name)
            for number in range(1, 6)
        ]
        receipts = asyncio.run(_deliver_and_die(place, batches))

        _, records = asyncio.run(_reopen(place, last_batch=5, position=receipts[-1].position))

        assert _arranged(place, records) == _arranged(place, make_records(35, start=7))

    def test_a_repeated_batch_is_harmless_or_declared(self, place: OutputPlace) -> None:
        """The same number again adds nothing, unless the output declares that it may."""
        batch = make_simple_batch(1, make_records(5), output=place.make().name)
        receipts = asyncio.run(_deliver_and_die(place, [batch, batch]))

        _, records = asyncio.run(_reopen(place, last_batch=1, position=receipts[-1].position))

        repeats = 1 if place.exactly_once else 2
        assert set(records) == set(make_records(5))
        assert max(Counter(records).values()) <= repeats

    def test_parts_of_other_outputs_are_left_out(self, place: OutputPlace) -> None:
        """A part that this output already has, or never gets, does not arrive here."""
        name = place.make().name
        ours = make_part(make_records(3), outputs=[name, "another"], blob=1)
        foreign = make_part(make_records(3, start=3), outputs=["another"], blob=2)
        batch = make_batch(1, [ours, foreign]).for_output(name)
        [receipt] = asyncio.run(_deliver_and_die(place, [batch]))

        _, records = asyncio.run(_reopen(place, last_batch=1, position=receipt.position))

        assert Counter(records) == Counter(make_records(3))

    @pytest.mark.parametrize("kind", VERBATIM_RECORDS)
    def test_a_record_arrives_byte_for_byte(self, place: OutputPlace, kind: str) -> None:
        """A record is its own bytes; one that cannot be kept so is refused, never altered."""
        record = VERBATIM_RECORDS[kind]
        batch = make_simple_batch(1, [record], output=place.make().name)
        [receipt] = asyncio.run(_deliver_and_die(place, [batch]))

        _, records = asyncio.run(_reopen(place, last_batch=1, position=receipt.position))

        assert records + [refused.record for refused in receipt.refused] == [record]

    def test_records_of_many_tables_all_arrive(self, place: OutputPlace) -> None:
        """One part may mix tables, hostile names among them; each record finds its place."""
        hostile = ["../../etc/passwd", "/", "..", "", "_", "a\x00b", "X" * 400, "é", "a/b", "a_b"]
        tables = [*hostile, *(f"cloud.office365.management.w{n}" for n in range(100))]
        part = make_part(make_records(len(tables)), outputs=[place.make().name], tables=tables)
        [receipt] = asyncio.run(_deliver_and_die(place, [make_batch(1, [part])]))

        _, records = asyncio.run(_reopen(place, last_batch=1, position=receipt.position))

        assert sorted(records) == sorted(make_records(len(tables)))

    def test_an_uncommitted_batch_is_undone_or_owned_up_to(self, place: OutputPlace) -> None:
        """A crash before the ledger's commit leaves nothing, or `open` answers the number."""
        name = place.make().name
        first, second = make_records(5), make_records(5, start=5)
        batches = [
            make_simple_batch(1, first, output=name),
            make_simple_batch(2, second, output=name),
        ]
        receipts = asyncio.run(_deliver_and_die(place, batches))

        answer, records = asyncio.run(_reopen(place, last_batch=1, position=receipts[0].position))

        _check_last_batch(place, answer, records, known=first, uncommitted=second)

    def test_an_uncommitted_first_batch_is_undone_or_owned_up_to(self, place: OutputPlace) -> None:
        """The same before anything was ever committed."""
        records = make_records(5)
        batch = make_simple_batch(1, records, output=place.make().name)
        asyncio.run(_deliver_and_die(place, [batch]))

        answer, found = asyncio.run(_reopen(place, last_batch=0, position=""))

        _check_last_batch(place, answer, found, known=[], uncommitted=records)

    def test_what_another_ledger_delivered_is_left_alone(self, place: OutputPlace) -> None:
        """A ledger that never gave the number was lost or is another's: going on would mix the two up."""
        if not place.exactly_once:
            pytest.skip("this output finds nothing of an earlier run")
        records = make_records(5)
        batch = make_simple_batch(1, records, output=place.make().name)
        [receipt] = asyncio.run(_deliver_and_die(place, [batch]))

        with pytest.raises(OutputUnusable):
            asyncio.run(_reopen(place, last_batch=0, position="", newest_batch=0))

        _, found = asyncio.run(_reopen(place, last_batch=1, position=receipt.position))
        assert Counter(found) == Counter(records)

    def test_a_stop_before_the_commit_is_undone_or_owned_up_to(self, place: OutputPlace) -> None:
        """An orderly `close` is no commit: what the ledger lacks is taken back all the same."""
        name = place.make().name
        first, second = make_records(5), make_records(5, start=5)
        position = asyncio.run(
            _run(place, make_simple_batch(1, first, output=name), last_batch=0, position="")
        )
        batch = make_simple_batch(2, second, output=name)
        asyncio.run(_run(place, batch, last_batch=1, position=position))

        answer, records = asyncio.run(_reopen(place, last_batch=1, position=position))

        _check_last_batch(place, answer, records, known=first, uncommitted=second)

    def test_a_batch_undone_can_be_delivered_again(self, place: OutputPlace) -> None:
        """After the crash its records come in a later batch, and are there once."""
        name = place.make().name
        batch = make_simple_batch(1, make_records(5), output=name)
        asyncio.run(_deliver_and_die(place, [batch]))

        asyncio.run(_redeliver(place, make_simple_batch(2, make_records(5), output=name)))

        repeats = 1 if place.exactly_once else 2
        found = Counter(place.records_in())
        assert set(found) == set(make_records(5))
        assert max(found.values()) <= repeats

    def test_an_empty_batch_is_taken(self, place: OutputPlace) -> None:
        """No parts, or parts without records, are durable at once."""
        name = place.make().name
        batches = [make_batch(1, []), make_batch(2, [make_part([], outputs=[name])])]
        receipts = asyncio.run(_deliver_and_die(place, batches))

        answer, records = asyncio.run(_reopen(place, last_batch=2, position=receipts[-1].position))

        assert (answer, records) == (2, [])

    def test_ten_thousand_parts_of_one_record_arrive(self, place: OutputPlace) -> None:
        """A tenant of tiny blobs costs no more than its records."""
        name = place.make().name
        records = make_records(10_000)
        parts = [make_part([record], outputs=[name], blob=blob) for blob, record in enumerate(records)]
        [receipt] = asyncio.run(_deliver_and_die(place, [make_batch(1, parts)]))

        _, found = asyncio.run(_reopen(place, last_batch=1, position=receipt.position))

        assert _arranged(place, found) == _arranged(place, records)

    def test_close_may_be_called_twice(self, place: OutputPlace) -> None:
        """The second `close` does nothing, also on an output that was never opened."""

        async def close_twice() -> None:
            output = place.make()
            await output.close()
            output = place.make()
            await output.open(last_batch=0, position="")
            await output.deliver(make_simple_batch(1, make_records(3), output=output.name))
            await output.close()
            await output.close()

        asyncio.run(close_twice())

        assert Counter(place.records_in()) == Counter(make_records(3))

    def test_a_refused_record_is_named_and_its_neighbours_arrive(self, place: OutputPlace) -> None:
        """One bad record costs nobody else anything."""
        bad = place.refusable_record()
        if bad is None:
            pytest.skip("this output takes every record")
        good = make_records(4)
        mixed = [*good[:2], bad, *good[2:]]
        batch = make_simple_batch(1, mixed, output=place.make().name)
        [receipt] = asyncio.run(_deliver_and_die(place, [batch]))

        _, records = asyncio.run(_reopen(place, last_batch=1, position=receipt.position))

        assert Counter(records) == Counter(good)
        assert [_naming(refused) for refused in receipt.refused] == [(1, bad, True)]

    def test_a_full_disk_costs_a_retry_and_nothing_else(self, place: OutputPlace) -> None:
        """The batch counts for nothing; delivered again when there is room, it is there once."""
        filled = place.filled()
        if filled is None:
            pytest.skip("this place cannot be filled")

        async def deliver_over_a_full_disk() -> list[str]:
            output = place.make()
            await output.open(last_batch=0, position="")
            await output.deliver(make_simple_batch(1, make_records(5), output=output.name))
            batch = make_simple_batch(2, make_records(2000, start=5), output=output.name)
            complaints: list[str] = []
            with filled:
                try:
                    await output.deliver(batch)
                except OutputUnavailable as error:
                    complaints.append(str(error))
            await output.deliver(batch)
            await output.close()
            return complaints

        complaints = asyncio.run(deliver_over_a_full_disk())

        assert _arranged(place, place.records_in()) == _arranged(place, make_records(2005))
        assert [len(complaint.splitlines()) for complaint in complaints] == [1]


async def _deliver_and_die(place: OutputPlace, batches: Sequence[Batch]) -> list[Receipt]:
    """The receipts of a first run that died right after its last batch."""
    output = place.make()
    await output.open(last_batch=0, position="")
    receipts = [await output.deliver(batch) for batch in batches]
    await place.kill(output)
    return receipts


async def _run(place: OutputPlace, batch: Batch, *, last_batch: int, position: str) -> str:
    """The position after a run that delivers `batch` and stops in order."""
    output = place.make()
    await output.open(last_batch=last_batch, position=position)
    receipt = await output.deliver(batch)
    await output.close()
    return receipt.position


async def _redeliver(place: OutputPlace, batch: Batch) -> None:
    """Start with nothing committed; deliver what `open` does not own up to; stop in order."""
    output = place.make()
    if await output.open(last_batch=0, position="") == 0:
        await output.deliver(batch)
    await output.close()


async def _reopen(
    place: OutputPlace, *, last_batch: int, position: str, newest_batch: int | None = None
) -> tuple[int, list[bytes]]:
    """What `open` answers, and what a reader finds once that run has stopped."""
    output = place.make()
    answer = await output.open(last_batch=last_batch, position=position, newest_batch=newest_batch)
    await output.close()
    return answer, place.records_in()


def _check_last_batch(
    place: OutputPlace,
    answer: int,
    found: list[bytes],
    *,
    known: list[bytes],
    uncommitted: list[bytes],
) -> None:
    """Undone and not answered, or there and answered; anything between loses or repeats."""
    last_batch = 1 if known else 0
    if place.can_undo:
        assert (answer, Counter(found)) == (last_batch, Counter(known))
    elif place.exactly_once:
        expected = known if answer == last_batch else known + uncommitted
        assert answer in (last_batch, last_batch + 1)
        assert Counter(found) == Counter(expected)
    else:
        assert answer == last_batch
        assert set(known) <= set(found)


def _arranged(place: OutputPlace, records: Sequence[bytes]) -> list[bytes]:
    """`records` as they are where order is promised, sorted where it is not."""
    return list(records) if place.keeps_order else sorted(records)


def _naming(refused: RefusedRecord) -> tuple[int, bytes, bool]:
    """What a refusal has to name: the blob, the record, and some reason."""
    return refused.blob, refused.record, bool(refused.reason)
