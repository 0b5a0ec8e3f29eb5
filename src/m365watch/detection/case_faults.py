"""What is wrong with a case of a rule: a misspelt key must not prove something else than it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from m365watch.detection.rules.condition_compiler import read_instant
from m365watch.detection.rules.extension_text import parse_duration_s

REPEATED_MAX = 10_000
"""How often a case may repeat a record."""
_CHARS_MAX = 80
"""Of what was written, in a sentence about it."""
_LISTS = ("accepted_domains", "admins", "indicators", "vips")
_SETTINGS = frozenset((*_LISTS, "lists", "places"))
_CASE = frozenset(("expect", "name", "reason", "records", "settings"))
_PLACE = frozenset(("asn", "country", "latitude", "longitude"))
_REPEATED = frozenset(("every", "record", "repeat"))


def check_head(case: object, where: str) -> None:
    """Raises: ValueError: a sentence that says what is wrong with the keys of the case that is `where`."""
    if not isinstance(case, Mapping):
        raise ValueError(f"{where}: is no map; give name and records")  # noqa: TRY004 - all mistakes are ValueErrors
    name = case.get("name")
    if name is None:
        raise ValueError(f"{where}: has no name; give it one that says what it claims")
    if not isinstance(name, str):
        # YAML reads 900941 as a number, and on as true.
        raise ValueError(f"{where}: name {_shown(name)} is no text; put it in quotation marks")  # noqa: TRY004
    _refuse_unknown(f"case {name!r}", case, _CASE)


def check_settings(settings: object) -> None:
    """Raises: ValueError: a sentence that says what is wrong with what a case says is known."""
    if not isinstance(settings, Mapping):
        raise ValueError("settings is no map")  # noqa: TRY004
    _refuse_unknown("settings", settings, _SETTINGS)
    for key in _LISTS:
        found = settings.get(key)
        if found is not None and not (isinstance(found, list) and all(isinstance(one, str) for one in found)):
            raise ValueError(f"settings.{key} is no list of texts")
    places = settings.get("places") or {}
    if not isinstance(places, Mapping):
        raise ValueError("settings.places is no map of addresses")  # noqa: TRY004
    for address, place in places.items():
        if not isinstance(place, Mapping):
            raise ValueError(f"settings.places.{_shown(address)} is no map of {_named(_PLACE)}")  # noqa: TRY004
        _refuse_unknown(f"settings.places.{_shown(address)}", place, _PLACE)


def check_record(record: Mapping[str, Any]) -> None:
    """Raises: ValueError: a sentence that says what is wrong with a record, or with how it is repeated."""
    if "repeat" in record:
        _refuse_unknown("a record that is repeated", record, _REPEATED)
        count, repeated = record["repeat"], record.get("record")
        if type(count) is not int or not 0 < count <= REPEATED_MAX:
            raise ValueError(f"repeats a record {_shown(count)} times; 1 to {REPEATED_MAX:,} will do")
        if not isinstance(repeated, Mapping):
            raise ValueError("repeats a record, and has no map under record")
        try:
            parse_duration_s(record.get("every", "1s"))
        except ValueError as error:
            raise ValueError(f"every: {_shown(record['every'])} {error}") from None
        record = repeated
    at = record.get("CreationTime")
    if at is not None and read_instant(str(at)) is None:
        raise ValueError(f"CreationTime: {_shown(at)} is no time such as 2026-11-02T09:00:00")


def _refuse_unknown(where: str, found: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(str(key) for key in found.keys() - set(known))
    if unknown:
        raise ValueError(f"{where} has the key {_shown(unknown[0])}; there are {_named(known)}")


def _shown(value: object) -> str:
    text = str(value)[:_CHARS_MAX]
    return text if text.isprintable() else repr(text)


def _named(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))
