"""The outputs that take the collector's notices, each in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from m365watch.common.collector_events import Notice
from m365watch.registry.output_specs import OutputSettings


@runtime_checkable
class NoticeTaker(Protocol):
    """An output that takes the collector's notices."""

    name: str
    notices_every_s: float
    """At most one call in so many seconds."""

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        """Write `notices`, or raise an error of the collector's: they are offered again later."""
        ...


@runtime_checkable
class TagTaker(Protocol):
    """An output that takes any bytes under a tag of Devo's."""

    name: str

    async def write_tagged(self, tagged: Sequence[tuple[str, bytes]], /) -> None:
        """Write each body under its tag, best effort."""
        ...


class TaggedNotices:
    """A `NoticeTaker` over an output of Devo's."""

    notices_every_s = 1.0

    def __init__(self, output: TagTaker) -> None:
        """`output` is the pipeline's own."""
        self.name = output.name
        self._output = output

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        """Each notice as JSON under its tag."""
        await self._output.write_tagged([(notice.tag, notice.as_json()) for notice in notices])


def takers_among(outputs: Iterable[tuple[OutputSettings, object]]) -> list[NoticeTaker]:
    """A taker for each of the outputs, each with its settings, that takes notices and is to have them.

    The lake has a table of its own for them, others send them under a tag unless that is switched off.
    """
    takers: list[NoticeTaker] = []
    for settings, output in outputs:
        if isinstance(output, NoticeTaker):
            takers.append(output)
        elif isinstance(output, TagTaker) and settings.sends_events:
            takers.append(TaggedNotices(output))
    return takers
