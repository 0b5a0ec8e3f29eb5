"""The bound on what is in flight."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.model import Batch
from m365watch.runtime.collector_run import (
    BYTES_IN_FLIGHT_MAX,
    BYTES_LARGE_MAX,
    BYTES_PREPARED_MAX,
    LARGE_BATCHES,
    flight_for,
    takes_large_batches,
    takes_views,
)
from m365watch.sources.management_api.fetch_attempts import FETCHES_MAX
from m365watch.sources.management_api.in_flight_limit import BytesInFlight, SizeGuess
from m365watch_testing.loop import run_jumping
from m365watch_testing.outputs import FakeOutput

BOUND = 100

FETCHES = st.lists(
    st.tuples(
        st.integers(1, 250),  # what is guessed before the fetch
        st.integers(0, 100),  # how much of the guess it is, in per cent
        st.integers(0, 3),  # seconds before it begins
        st.integers(0, 3),  # seconds until it is final
        st.booleans(),  # whether it is cancelled on its way
    ),
    max_size=25,
)


@guarantee(26)
@given(fetches=FETCHES)
@settings(max_examples=150)
def test_bytes_in_flight_stay_below_the_bound(fetches: list[tuple[int, int, int, int, bool]]) -> None:
    """Never more than the bound, but for one giant that is alone; nobody is forgotten; all is given back."""

    async def main() -> tuple[int, list[tuple[int, int]]]:
        flight = BytesInFlight(BOUND)
        holders: set[int] = set()
        seen: list[tuple[int, int]] = []

        async def fetch(number: int) -> None:
            guessed, share, before_s, after_s, _ = fetches[number]
            await asyncio.sleep(before_s)
            held = guessed
            await flight.acquire(guessed)
            try:
                holders.add(number)
                seen.append((flight._held, len(holders)))
                await asyncio.sleep(after_s / 2)
                held = max(1, guessed * share // 100)
                flight.correct(guessed=guessed, actual=held)
                await asyncio.sleep(after_s / 2)
            finally:
                holders.discard(number)
                flight.release(held)

        tasks = [asyncio.create_task(fetch(number)) for number in range(len(fetches))]
        await asyncio.sleep(2)
        for task, (*_, is_cancelled) in zip(tasks, fetches, strict=True):
            if is_cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return flight._held, seen

    left, seen = run_jumping(main())

    assert left == 0
    assert [(held, holders) for held, holders in seen if held > BOUND and holders > 1] == []


def admitted(flight: BytesInFlight, *sizes: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(flight.acquire(size)) for size in sizes]


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def done(tasks: list[asyncio.Task[None]]) -> list[bool]:
    return [task.done() for task in tasks]


def test_those_who_wait_are_let_in_in_their_order() -> None:
    """A small one does not overtake a large one, which would otherwise wait for ever."""

    async def main() -> list[list[bool]]:
        flight = BytesInFlight(BOUND)
        await flight.acquire(60)
        tasks = admitted(flight, 80, 10)
        await settle()
        before = done(tasks)
        flight.release(60)
        await settle()
        return [before, done(tasks)]

    assert run_jumping(main()) == [[False, False], [True, True]]


def test_a_giant_passes_alone() -> None:
    """A blob above the whole bound waits until nothing else is held, and then holds up the rest."""

    async def main() -> list[list[bool]]:
        flight = BytesInFlight(BOUND)
        await flight.acquire(1)
        tasks = admitted(flight, 5_000, 1)
        await settle()
        seen = [done(tasks)]
        for size in (1, 5_000):
            flight.release(size)
            await settle()
            seen.append(done(tasks))
        return seen

    assert run_jumping(main()) == [[False, False], [True, False], [True, True]]


def test_a_guess_that_was_too_small_is_made_good() -> None:
    """Nobody comes in while more is held than the bound, although less had been guessed."""

    async def main() -> list[bool]:
        flight = BytesInFlight(BOUND)
        await flight.acquire(10)
        flight.correct(guessed=10, actual=180)
        [task] = admitted(flight, 10)
        seen = []
        for size in (0, 80, 20):
            flight.release(size)
            await settle()
            seen.append(task.done())
        return seen

    assert run_jumping(main()) == [False, False, True]


def test_one_who_gives_up_waiting_makes_way() -> None:
    """Who stood behind him comes in at once, not only at the next release."""

    async def main() -> tuple[list[bool], int]:
        flight = BytesInFlight(BOUND)
        await flight.acquire(60)
        tasks = admitted(flight, 80, 30)
        await settle()
        tasks[0].cancel()
        await settle()
        return done(tasks), flight._held

    assert run_jumping(main()) == ([True, True], 90)


def test_one_who_is_cancelled_when_let_in_gives_back() -> None:
    """Between being let in and going on lies a moment in which a stop can come."""

    async def main() -> int:
        flight = BytesInFlight(BOUND)
        await flight.acquire(100)
        [task] = admitted(flight, 70)
        await settle()
        flight.release(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return flight._held

    assert run_jumping(main()) == 0


def test_only_what_fits_beside_the_rest_is_admitted() -> None:
    """Nobody is asked to wait in line who would then keep those waiting who do fit."""

    async def main() -> list[bool]:
        flight = BytesInFlight(BOUND)
        seen = [flight.admits(5_000)]
        await flight.acquire(60)
        seen += [flight.admits(40), flight.admits(41)]
        [task] = admitted(flight, 80)
        await settle()
        seen.append(flight.admits(1))
        task.cancel()
        await settle()
        return [*seen, flight.admits(1)]

    assert run_jumping(main()) == [True, True, False, False, True]


def test_a_guess_rises_at_once_and_falls_slowly() -> None:
    """One that is too small lets too much in; one that is too large only costs concurrency."""
    guess = SizeGuess()
    guess.learn(800_000)
    risen = guess.size_bytes
    guess.learn(0)

    assert (risen, guess.size_bytes) == (800_000, 700_000)


def test_a_tenant_of_giants_that_hangs_is_guessed_small_enough_to_leave_room() -> None:
    """All its places together stay below the bound of all tenants, however large its last blobs were."""
    guess = SizeGuess()
    guess.learn(200 * 1024 * 1024)

    assert FETCHES_MAX * guess.size_bytes <= BYTES_IN_FLIGHT_MAX * 3 // 4


class PreparingOutput(FakeOutput):
    """Begins with a batch before it is to deliver it."""

    def prepare(self, batch: Batch) -> None:
        """Nothing to do here."""


@pytest.mark.parametrize(
    ("outputs", "bytes_max"),
    [
        ([FakeOutput("files")], BYTES_IN_FLIGHT_MAX),
        ([FakeOutput("files"), PreparingOutput("lake")], BYTES_IN_FLIGHT_MAX + BYTES_PREPARED_MAX),
        ([PreparingOutput("lake")], BYTES_IN_FLIGHT_MAX + BYTES_LARGE_MAX),
    ],
)
def test_an_output_that_prepares_a_batch_has_room_for_it(outputs: list[FakeOutput], bytes_max: int) -> None:
    """What it writes ahead keeps nobody from being fetched; others need no more than before."""

    async def main() -> tuple[bool, bool]:
        flight = flight_for(outputs)
        await flight.acquire(1)
        return flight.admits(bytes_max - 1), flight.admits(bytes_max)

    assert asyncio.run(main()) == (True, False)


@pytest.mark.parametrize(
    ("outputs", "are_large"),
    [
        ([], False),
        ([FakeOutput("files")], False),
        ([FakeOutput("files"), PreparingOutput("lake")], False),
        ([PreparingOutput("lake"), PreparingOutput("other")], True),
    ],
)
def test_only_a_run_into_nothing_but_lakes_has_large_batches(
    outputs: list[FakeOutput], are_large: bool
) -> None:
    """A wire would hold them open. What is in flight has room for one that fills and two that are written."""
    assert takes_large_batches(outputs) == are_large
    assert 3 * LARGE_BATCHES.size_bytes <= BYTES_IN_FLIGHT_MAX + BYTES_LARGE_MAX


class SeeingOutput(FakeOutput):
    """One to which a record may come as it lies in its blob."""

    takes_views: Literal[True] = True


@pytest.mark.parametrize(
    ("outputs", "are_views"),
    [
        ([], False),
        ([FakeOutput("console")], False),
        ([SeeingOutput("files")], True),
        ([SeeingOutput("files"), SeeingOutput("others")], False),
        ([SeeingOutput("files"), FakeOutput("detections")], False),
    ],
)
def test_records_stay_views_for_one_output_alone_that_takes_them(
    outputs: list[FakeOutput], are_views: bool
) -> None:
    """Several have queues on disk, which write bytes, and one that takes none would fail on them."""
    assert takes_views(outputs) == are_views
