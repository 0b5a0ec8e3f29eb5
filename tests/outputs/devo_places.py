"""The place that the output contract is run over for `devo_platform`, and its settings."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Any

from made_outputs import devo_to

from m365watch.common.clock import SystemClock, system_random
from m365watch.http.settings import TlsSettings
from m365watch.outputs.devo.devo_output import DevoOutput
from m365watch.outputs.devo.spec import DevoSection
from m365watch.outputs.network.options import SendingKeys
from m365watch.registry.outputs import Output
from m365watch_testing.devo_server import DevoServer
from wire_places import QUICK, Papers

LINE = re.compile(
    rb"<14>(?P<date>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) "
    rb"(?P<host>\S+) (?P<tag>\S+): (?P<record>.*)"
)


def devo_settings(
    papers: Papers, port: int, *, tls: TlsSettings | None = None, wire: SendingKeys = QUICK, **changes: Any
) -> DevoSection:
    """The settings of an output named `devo`."""
    options = {"hostname": "collector-1", **vars(wire), **changes}
    return devo_to("localhost", port, tls or papers.tls, **options)


def make_devo(papers: Papers, port: int, **changes: Any) -> DevoOutput:
    """An output named `devo`, not opened."""
    return DevoOutput(devo_settings(papers, port, **changes), clock=SystemClock(), random=system_random(1))


def records_of(lines: list[bytes]) -> list[bytes]:
    """What stands behind the header of each line, all of which have to be Devo's."""
    return [split_line(line)["record"] for line in lines]


def split_line(line: bytes) -> dict[str, bytes]:
    """The parts of one line."""
    found = LINE.fullmatch(line)
    assert found, line
    return found.groupdict()


class DevoPlace:
    """A receiver that is there for as long as the place is entered."""

    can_undo = False
    exactly_once = False
    keeps_order = True

    def __init__(self, papers: Papers, server: DevoServer, **changes: Any) -> None:
        self._papers = papers
        self._server = server
        self._changes = changes

    def make(self) -> Output:
        return make_devo(self._papers, self._server.port, **self._changes)

    async def kill(self, output: Output) -> None:
        assert isinstance(output, DevoOutput)
        await output._sender._stop()
        await output._statistics.stop()

    def records_in(self) -> list[bytes]:
        self._server.wait_until_over()
        return records_of(self._server.lines)

    def refusable_record(self) -> bytes | None:
        return b'{"Id":"' + b"x" * QUICK.line_bytes_max + b'"}'

    def filled(self) -> AbstractContextManager[None] | None:
        return None
