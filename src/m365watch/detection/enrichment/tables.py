"""Tables of addresses in MaxMind's format: what they say of one, in the forms of several makers.

Source: the MaxMind DB format 2.0; fields of GeoLite2 and GeoIP2 (City, Country, ASN, Anonymous IP), of
DB-IP's lite tables, which are the same, and of IPinfo's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

from m365watch.detection.fields.enrichment_context import Whereabouts

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
