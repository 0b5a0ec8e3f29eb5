"""All that is known of an address, out of tables and lists, from memory where it was asked before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from m365watch.common.clock import Clock
from m365watch.detection.enrichment.tables import KINDS, Table, merged, open_table
from m365watch.detection.enrichment.watched_file import LOOKS_EVERY_S, Tell, Watched, say_nothing
from m365watch.detection.enrichment.watchlists import Lists
from m365watch.detection.fields.enrichment_context import ReadFile, Whereabouts

REMEMBERED_MAX = 65_536
"""Addresses whose answers are kept; then all of them are forgotten, which costs a look-up each."""
KINDS_OF_LISTS = ("tor", "vpn", "hosting")


class Addresses:
    """The port `Enrichment` over the user's files."""

    def __init__(
        self,
        tables: Sequence[Path],
        *,
        tor: Lists,
        vpn: Lists,
        hosting: Lists,
        clock: Clock,
        tell: Tell = say_nothing,
    ) -> None:
        """Of several tables that tell the same, the first one's word counts."""
        self.tables = [
            Watched(path, read=open_table, empty=Table(), clock=clock, tell=tell) for path in tables
        ]
        self.lists = {"tor": tor, "vpn": vpn, "hosting": hosting}
        self._remembered: dict[str, Whereabouts] = {}
        self._versions: tuple[int, ...] = ()
        self._clock = clock
        self._looked_at_s = -LOOKS_EVERY_S

    @property
    def files(self) -> Sequence[ReadFile]:
        """The tables and those of the lists."""
        return [*self.tables, *(file for one in self.lists.values() for file in one.files)]

    @property
    def tells(self) -> frozenset[str]:
        """What can be known: of tables their kinds, and the names of lists that there are."""
        found = {tells for table in self.tables for tells in table.held.tells}
        kinds = KINDS_OF_LISTS if KINDS in found else ()
        named = (name for name, one in self.lists.items() if one)
        return frozenset((*found, *kinds, *named))

    def locate(self, address: str) -> Whereabouts:
        """What is known of the address, which is valid and bare."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_at_s >= LOOKS_EVERY_S:
            self._looked_at_s = now_s
            self._forget_what_changed()
        found = self._remembered.get(address)
        if found is None:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            found = self._remembered[address] = self._find(address)
        return found

    def _forget_what_changed(self) -> None:
        for table in self.tables:
            table.look()
        versions = (*(one.version for one in self.tables), *(one.look() for one in self.lists.values()))
        if versions != self._versions:
            self._remembered.clear()
            self._versions = versions

    def _find(self, address: str) -> Whereabouts:
        found = Whereabouts()
        for table in self.tables:
            found = merged(found, table.held.find(address))
        return replace(
            found,
            tor=found.tor or address in self.lists["tor"],
            vpn=found.vpn or address in self.lists["vpn"],
            hosting=found.hosting or address in self.lists["hosting"],
        )

    def look(self) -> int:
        """A number that grows when a file was read again, after a look at each."""
        self._forget_what_changed()
        return sum(self._versions)

    def troubles(self) -> list[str]:
        """A line for each table that cannot be read as it is."""
        for one in self.tables:
            one.look()
        return [f"{one.path}: {one.trouble}" for one in self.tables if one.trouble]
