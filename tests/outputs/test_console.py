"""The contract, and what is special about a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_outputs import console
from promises import guarantee

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.outputs.console.console_output import ConsoleOutput
from m365watch_testing.batches import make_records, make_simple_batch
from m365watch_testing.output_contract import OutputContract
from output_places import ConsolePlace

SETTINGS = console()


@guarantee(12)
class TestConsole(OutputContract):
    """Every promise of an output, at least once."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[ConsolePlace]:
        """A file in place of standard output."""
        place = ConsolePlace(tmp_path / "stdout")
        yield place
        place.close()


def test_a_reader_who_left_is_named() -> None:
    """A closed pipe needs a person: nobody will read what is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    output = ConsoleOutput(SETTINGS, descriptor=writer)
    batch = make_simple_batch(1, make_records(3), output="console")

    with pytest.raises(OutputUnusable, match="reader of standard output is gone"):
        asyncio.run(output.deliver(batch))

    os.close(writer)


def test_a_reader_who_takes_nothing_does_not_hold_up_the_end() -> None:
    """`close` ends a delivery that waits for room in the pipe."""
    reader, writer = os.pipe()
    output = ConsoleOutput(SETTINGS, descriptor=writer)
    batch = make_simple_batch(1, make_records(2000), output="console")

    async def deliver_and_close() -> None:
        delivery = asyncio.create_task(output.deliver(batch))
        await asyncio.sleep(0.05)
        await output.close()
        await delivery

    with pytest.raises(OutputUnavailable, match="takes nothing"):
        asyncio.run(deliver_and_close())

    os.close(reader)
    os.close(writer)


def test_a_full_device_is_tried_again() -> None:
    """What cannot be written is one line that names the reason."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    output = ConsoleOutput(SETTINGS, descriptor=descriptor)
    batch = make_simple_batch(1, make_records(1), output="console")

    with pytest.raises(OutputUnavailable, match="No space left on device"):
        asyncio.run(output.deliver(batch))

    os.close(descriptor)


def test_standard_output_is_the_default(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Records go to the process's own standard output, in order, one a line."""
    batch = make_simple_batch(1, make_records(3), output="console")

    asyncio.run(ConsoleOutput(SETTINGS).deliver(batch))

    sys.stdout.flush()
    printed = capfdbinary.readouterr().out
    assert printed == b"\n".join([*make_records(3), b""])
