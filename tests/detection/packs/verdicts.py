"""What became of the cases of a detection: which claims do not hold, and why not."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from expand import Case, CaseFile, Expectation

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.rule_test_cases import find_alerts, with_sources
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, Library, load_library, load_packs

_PLACES = ("countries", "asns", "places")
_KINDS = ("tor", "vpn", "hosting")
_PEOPLE = {
    "accepted_domains": "accepted_domains",
    "vip": "vips",
    "admins": "admins",
    "indicators": "indicators",
}
_SETTINGS = {"lists", *_PLACES, *_KINDS, *_PEOPLE}


class KnownNetworks:
    """Countries, providers and places by network, as the settings of a file of cases give them."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._known = [
            (ipaddress.ip_network(network), kind, value)
            for kind in _PLACES
            for network, value in (settings.get(kind) or {}).items()
        ]
        self._kinds = {
            kind: [ipaddress.ip_network(network) for network in settings.get(kind) or ()] for kind in _KINDS
        }

    def locate(self, address: str) -> Whereabouts:
        """What the settings say of the networks that the address is in."""
        if not address:
            return Whereabouts()
        found = {
            kind: value for network, kind, value in self._known if ipaddress.ip_address(address) in network
        }
        latitude, longitude = found.get("places", (None, None))
        tor, vpn, hosting = (
            any(ipaddress.ip_address(address) in network for network in self._kinds[kind]) for kind in _KINDS
        )
        country, asn = str(found.get("countries", "")), str(found.get("asns", ""))
        return Whereabouts(country, asn, latitude, longitude, tor=tor, vpn=vpn, hosting=hosting)


def knowledge_of(settings: Mapping[str, Any]) -> Knowledge:
    """The knowledge that a file's settings stand for."""
    unknown = sorted(set(settings) - _SETTINGS)
    assert unknown == [], f"settings that are not known: {unknown}"
    known: dict[str, Any] = {
        name: frozenset(str(value).lower() for value in settings[key])
        for key, name in _PEOPLE.items()
        if key in settings
    }
    if any(kind in settings for kind in (*_PLACES, *_KINDS)):
        known["enrichment"] = KnownNetworks(settings)
    return Knowledge(**known)


@cache
def packs() -> Library:
    """All packs that come along."""
    return load_packs()


def library_of(file: CaseFile) -> Library:
    """All packs; where the settings replace lists, the detection's own file with these."""
    lists = {name: tuple(values) for name, values in (file.settings.get("lists") or {}).items()}
    if not lists:
        return packs()
    own = sorted(PACKS_DIRECTORY.glob(f"core/{file.detection.lower()}_*.yml"))
    return load_library(own, lists=lists)


def alerts_of(file: CaseFile, records: Sequence[bytes]) -> list[Alert]:
    """The alerts of the file's detection on these records."""
    library = library_of(file)
    rules = library.find(file.detection)
    wanted = {rule.id for rule in rules}
    found = find_alerts(with_sources(rules, library), records, knowledge=knowledge_of(file.settings))
    return [alert for alert in found if alert.rule_id in wanted]


def faults_of(file: CaseFile) -> list[str]:
    """A line for each claim that does not hold, and for each alerting rule that no case has fire."""
    library = library_of(file)
    rules = library.find(file.detection)
    if not rules:
        return [f"there is no rule for {file.detection}"]
    needed = with_sources(rules, library)
    knowledge = knowledge_of(file.settings)
    faults = []
    own = {rule.id: rule for rule in rules}
    silent = {rule.id: rule.name for rule in rules if rule.alerts}
    for case in file.cases:
        alerts = [one for one in find_alerts(needed, case.records, knowledge=knowledge) if one.rule_id in own]
        for alert in alerts if case.kind == "hit" else ():
            silent.pop(alert.rule_id, None)
        faults += [f"{case.kind} {case.name!r}: {fault}" for fault in _faults(case, alerts, own)]
    return [*faults, *(f"no hit makes {name} fire" for name in silent.values())]


def _faults(case: Case, alerts: Sequence[Alert], rules: Mapping[str, Rule]) -> list[str]:
    if case.kind == "near miss":
        fired = [(rules[one.rule_id].name, one.explanation) for one in alerts]
        return [f"{name} fires: {told}" for name, told in fired if not case.of or name in case.of]
    wanted = case.expect.rule
    asked = [one for one in alerts if wanted in (None, rules[one.rule_id].name)]
    if not asked:
        return [f"{wanted or 'no rule'} does not fire" if wanted else "does not fire"]
    return min((_lacks(case.expect, one) for one in asked), key=len)


def _lacks(expect: Expectation, alert: Alert) -> list[str]:
    faults = [
        f"{kind} is {alert.entity(kind)!r} and not {value!r}"
        for kind, value in expect.entities.items()
        if alert.entity(kind).lower() != value.lower()
    ]
    if expect.severity not in (None, alert.severity):
        faults.append(f"severity is {alert.severity} and not {expect.severity}")
    faults += [
        f"{part!r} is not in {alert.explanation!r}"
        for part in expect.text
        if part.lower() not in alert.explanation.lower()
    ]
    if expect.evidence not in (None, alert.count):
        faults.append(f"evidence is {alert.count} and not {expect.evidence}")
    return faults
