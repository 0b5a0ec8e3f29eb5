"""All that is known of an address, out of tables and lists, from memory where it was asked before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

from m365watch.common.clock import Clock
from m365watch.detection.enrichment.watched_file import LOOKS_EVERY_S, Tell, Watched, say_nothing
from m365watch.detection.enrichment.watchlists import Lists
from m365watch.detection.fields.enrichment_context import ReadFile, Whereabouts

if TYPE_CHECKING:
    from maxminddb.reader import Reader


TABLE_BYTES_MAX = 4 * 1024 * 1_048_576
TEXT_MAX = 120
"""Characters of a name that are kept."""
PLACES, NETWORKS, KINDS = "places", "networks", "kinds"
"""What a table may tell: country and place; the autonomous system; whether it hides somebody."""
_TELLS = (
    ("anonym", {KINDS}),
    ("privacy", {KINDS}),
    ("asn", {NETWORKS}),
    ("isp", {NETWORKS}),
    ("city", {PLACES}),
    ("country", {PLACES}),
    ("location", {PLACES}),
)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Table:
    """An open table, and what it may tell."""

    reader: Reader | None = None
    kind: str = ""
    built: int = 0
    """When it was made, in seconds since 1970."""

    @property
    def tells(self) -> frozenset[str]:
        """What it may tell, by its own name; a table of an unknown kind may tell anything."""
        name = self.kind.lower()
        found = set[str]().union(*(tells for word, tells in _TELLS if word in name))
        if "lite" in name and "ipinfo" in name:
            found = {PLACES, NETWORKS}
        return frozenset(found) or frozenset((PLACES, NETWORKS, KINDS))

    def find(self, address: str) -> Whereabouts:
        """What it says of the address; nothing where it has none, or is damaged there."""
        if self.reader is None:
            return Whereabouts()
        from maxminddb import InvalidDatabaseError

        try:
            found = self.reader.get(address)
        except (ValueError, InvalidDatabaseError, OSError, EOFError, RecursionError, KeyError, TypeError):
            return Whereabouts()
        return whereabouts_of(found) if isinstance(found, Mapping) else Whereabouts()


def open_table(path: Path) -> Table:
    """The table of a file. Raises: ValueError: it is none; OSError.

    It is read from the file for each look-up: mapped into memory, a file that is written over while it is
    open would end the process.
    """
    from maxminddb import MODE_FILE, InvalidDatabaseError
    from maxminddb.reader import Reader

    size_bytes = path.stat().st_size
    if not size_bytes:
        raise ValueError("is empty")
    if size_bytes > TABLE_BYTES_MAX:
        raise ValueError(f"is larger than {TABLE_BYTES_MAX // (1024 * 1_048_576)} GB")
    try:
        reader = Reader(path, MODE_FILE)
        described = reader.metadata()
        kind, built = str(described.database_type)[:TEXT_MAX], int(described.build_epoch)
    except (InvalidDatabaseError, EOFError, RecursionError, KeyError, TypeError, UnicodeDecodeError) as error:
        # The reader quotes what it met there.
        met = "".join(sign if sign.isprintable() else " " for sign in str(error)[:TEXT_MAX])
        raise ValueError(f"is no table of addresses in MaxMind's format: {met}") from None
    table = Table(reader, kind, built)
    # Whoever holds the table for a look-up keeps its file open; the last one closes it.
    finalize(table, reader.close)
    return table


def whereabouts_of(found: Mapping[str, Any]) -> Whereabouts:
    """What a table's answer says, whoever made it."""
    traits = _map(found.get("traits"))
    flags = {**traits, **found}
    latitude, longitude = _degrees(found)
    return Whereabouts(
        country=_country(found),
        asn=_asn(found, traits),
        latitude=latitude,
        longitude=longitude,
        city=_text(_map(_map(found.get("city")).get("names")).get("en") or found.get("city")),
        network_name=_network_name(found, traits),
        tor=_is(flags, "is_tor_exit_node", "tor"),
        vpn=_is(flags, "is_anonymous_vpn", "is_public_proxy", "is_residential_proxy", "vpn", "proxy"),
        hosting=_is(flags, "is_hosting_provider", "hosting"),
    )


def merged(first: Whereabouts, second: Whereabouts) -> Whereabouts:
    """Both together; where both say something, the first one's word counts."""
    return replace(
        first,
        country=first.country or second.country,
        asn=first.asn or second.asn,
        latitude=second.latitude if first.latitude is None else first.latitude,
        longitude=second.longitude if first.latitude is None else first.longitude,
        city=first.city or second.city,
        network_name=first.network_name or second.network_name,
        tor=first.tor or second.tor,
        vpn=first.vpn or second.vpn,
        hosting=first.hosting or second.hosting,
    )


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def _country(found: Mapping[str, Any]) -> str:
    for where in ("country", "registered_country"):
        code = _map(found.get(where)).get("iso_code")
        if isinstance(code, str) and len(code) == 2:
            return code.upper()
    plain = found.get("country_code") or found.get("country")
    return plain.upper() if isinstance(plain, str) and len(plain) == 2 else ""


def _asn(found: Mapping[str, Any], traits: Mapping[str, Any]) -> str:
    for value in (
        found.get("autonomous_system_number"),
        traits.get("autonomous_system_number"),
        found.get("asn"),
    ):
        digits = str(value or "").upper().removeprefix("AS")
        if digits.isascii() and digits.isdigit():
            return digits
    return ""


def _network_name(found: Mapping[str, Any], traits: Mapping[str, Any]) -> str:
    names = (
        found.get("autonomous_system_organization"),
        traits.get("autonomous_system_organization"),
        found.get("as_name"),
        found.get("organization"),
    )
    return next((name for name in map(_text, names) if name), "")


def _degrees(found: Mapping[str, Any]) -> tuple[float | None, float | None]:
    location = _map(found.get("location"))
    pairs: tuple[tuple[Any, Any], ...] = (
        (location.get("latitude"), location.get("longitude")),
        (found.get("lat"), found.get("lng")),
        (found.get("latitude"), found.get("longitude")),
    )
    for latitude, longitude in pairs:
        with suppress(TypeError, ValueError):
            north, east = float(latitude), float(longitude)
            if -90 <= north <= 90 and -180 <= east <= 180:
                return north, east
    return None, None


def _is(flags: Mapping[str, Any], *names: str) -> bool:
    return any(flags.get(name) in (True, 1, "true") for name in names)


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
