"""All that the user's files say of one value, each fact with the file that it comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.enrichment.geoip import Addresses
from m365watch.detection.enrichment.watchlists import Lists
from m365watch.detection.fields.email_addresses import bare_addresses
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.fields.ip_addresses import parse_address

SETTINGS = "the settings"
_WORDS = {
    "country": "country",
    "city": "town",
    "asn": "autonomous system",
    "network_name": "whose network",
}
_KINDS = {"tor": "exit of Tor", "vpn": "exit of a VPN, or a proxy", "hosting": "place of servers"}
_PEOPLE = {"vips": "important person", "admins": "administrator", "indicators": "indicator"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is known."""

    field: str
    """What rules call it."""
    words: str
    value: str
    source: str
    """The file, or the settings."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a value."""

    value: str
    """In the form in which it was looked up."""
    kind: str
    """address, user or name."""
    facts: tuple[Fact, ...]


def tell_of(text: str, knowledge: Knowledge) -> Told:
    """What is known of an address, a user, a domain, a hash or an id."""
    address = parse_address(text.strip())
    if address is not None:
        bare = str(address)
        return Told(bare, "address", (*_of_address(bare, knowledge), *_of_name(bare, knowledge)))
    name = text.strip().lower()
    if "@" not in name and "#ext#" not in name:
        return Told(name, "name", (*_of_domain(name, knowledge), *_of_name(name, knowledge)))
    found = list(_of_name(name, knowledge))
    for one in dict.fromkeys(bare_addresses(name)):
        if one != name:
            found += _of_name(one, knowledge)
        domain = one.rpartition("@")[2]
        found += [*_of_domain(domain, knowledge), *_of_list("indicators", domain, knowledge.indicators)]
    return Told(name, "user", tuple(dict.fromkeys(found)))


def _of_address(address: str, knowledge: Knowledge) -> Iterator[Fact]:
    addresses = knowledge.enrichment
    if not isinstance(addresses, Addresses):
        return
    for table in addresses.tables:
        yield from _of_table(table.held.find(address), str(table.path))
    for kind, lists in addresses.lists.items():
        for path in lists.naming(address):
            yield Fact(f"m365.{kind}", _KINDS[kind], "yes", str(path))


def _of_table(found: Whereabouts, source: str) -> Iterator[Fact]:
    for name, words in _WORDS.items():
        value = getattr(found, name)
        if value:
            field = "asn_name" if name == "network_name" else name
            yield Fact(f"m365.{field}", words, str(value), source)
    if found.latitude is not None and found.longitude is not None:
        place = f"{found.latitude:.4f},{found.longitude:.4f}"
        yield Fact("m365.place", "latitude and longitude", place, source)
    for kind, words in _KINDS.items():
        if getattr(found, kind):
            yield Fact(f"m365.{kind}", words, "yes", source)


def _of_name(name: str, knowledge: Knowledge) -> Iterator[Fact]:
    for key in _PEOPLE:
        yield from _of_list(key, name, getattr(knowledge, key))


def _of_list(key: str, name: str, names: Collection[str]) -> Iterator[Fact]:
    field = f"m365.{key.removesuffix('s')}"
    if not isinstance(names, Lists):
        if name in names:
            yield Fact(field, _PEOPLE[key], "yes", SETTINGS)
        return
    paths: list[Path] = names.naming(name)
    if not paths and name in names:
        yield Fact(field, _PEOPLE[key], "yes", SETTINGS)
    for path in paths:
        yield Fact(field, _PEOPLE[key], "yes", str(path))


def _of_domain(domain: str, knowledge: Knowledge) -> Iterator[Fact]:
    if "." in domain and knowledge.is_own_domain(domain, tenant=""):
        yield Fact("accepted_domains", "the organisation's own domain", "yes", SETTINGS)


def what_is_known(alert: Alert, knowledge: Knowledge) -> dict[str, str]:
    """By the value of each entity of an alert, what is known of it, in one line; only where something is."""
    values = dict.fromkeys(value for _, value in alert.entities)
    found = ((value, words_of(value, knowledge)) for value in values)
    return {value: words for value, words in found if words}


def words_of(text: str, knowledge: Knowledge) -> str:
    """What is known of a value in one short line: BR, Porto Velho, AS64500 Example Hosting, exit of Tor."""
    facts = tell_of(text, knowledge).facts
    values: dict[str, str] = {}
    for fact in facts:
        values.setdefault(fact.field, fact.value)
    number, name = values.get("m365.asn", ""), values.get("m365.asn_name", "")
    network = f"AS{number} {name}".strip() if number else name
    parts = [values.get("m365.country", ""), values.get("m365.city", ""), network]
    flags = {fact.field: fact.words for fact in facts if fact.value == "yes"}
    flags.pop("accepted_domains", None)
    return ", ".join(part for part in (*parts, *flags.values()) if part)
