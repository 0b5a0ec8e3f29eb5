"""Weeks of a simulated tenant under attack, judged by the packs: what was found, and what was no attack.

    ./dev weeks --users 1000 --records-per-day 100000

The engine is the real one with its file on disk. It learns for eight days and is judged on the days
after. An alert without a record of an attack is a false one, and so is one that rests mostly on others and
names nobody and nothing of the attack: one record that slipped in makes it no find. Alerts that only hand on
what Microsoft has found (A01, S05) are counted apart: the simulated Microsoft finds malware and bad mail in
ordinary days, and telling these is right. So are signals, which are alerts of low severity: they are no news
but count as risk.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from verdicts import packs

from m365watch.common.clock import SystemClock
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.correlation.risk_score import make_risk_rule
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from m365watch_simulator.organization.attacks.attack import Attack
from m365watch_simulator.organization.network import PLACES
from m365watch_simulator.organization.organization import Organisation

TENANT = "6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f"
FIRST_AT = datetime(2024, 3, 4, tzinfo=UTC)
"""The first day of learning, unless told otherwise."""
LEARNED = timedelta(days=8)
FALSE_A_DAY_MAX = 5
RELAYED = {"A01", "S05"}
HOUR = timedelta(hours=1)

TECHNIQUES = {
    "password_spray": {"T1110", "T1110.003"},
    "inbox_rule_forwarding": {"T1114.003", "T1564.008"},
    "consent_phishing": {"T1528"},
    "mfa_removal": {"T1556.006"},
    "admin_role_granted": {"T1098.003"},
    "audit_disabled": {"T1562.008"},
    "mail_transport_rule": {"T1114.003"},
    "mailbox_delegation": {"T1098.002"},
    "mass_download": {"T1530"},
    "anonymous_links": {"T1567.002"},
}
"""By story, what it is to ATT&CK; an alert has to name one of these."""

_TOWNS = {
    "Bremen": (53.08, 8.80),
    "Leeds": (53.80, -1.55),
    "Philadelphia": (39.95, -75.17),
    "Pune": (18.52, 73.86),
    "Lyon": (45.76, 4.83),
    "Valencia": (39.47, -0.38),
    "Osaka": (34.69, 135.50),
    "Toronto": (43.65, -79.38),
    "Dublin": (53.35, -6.26),
    "Porto Velho": (-8.76, -63.90),
    "Da Nang": (16.05, 108.20),
    "Constanta": (44.17, 28.63),
    "Almere": (52.37, 5.22),
}


class SimulatedPlaces:
    """Where the simulator's addresses are."""

    def __init__(self) -> None:
        self._networks = [
            (
                ipaddress.ip_network(network),
                Whereabouts(place.country, str(64_500 + number), *_TOWNS[place.town]),
            )
            for number, place in enumerate(PLACES)
            for network in (place.network, place.network_v6)
        ]
        self._known: dict[str, Whereabouts] = {"": Whereabouts()}

    def locate(self, address: str) -> Whereabouts:
        """The place that has the address; nothing where none has."""
        found = self._known.get(address)
        if found is None:
            bare = ipaddress.ip_address(address)
            found = next((place for network, place in self._networks if bare in network), Whereabouts())
            self._known[address] = found
        return found


@dataclass(frozen=True, slots=True)
class Weeks:
    """What came of it, of the days after learning."""

    days: float
    records: int
    alerts: tuple[Alert, ...]
    attacks: tuple[Attack, ...]
    """Those that were played whole in these days."""
    false: tuple[Alert, ...]
    """Alerts of medium severity and more that tell of no attack, without what is relayed."""
    names: dict[str, str]
    """Of the rules, by their ids."""

    @property
    def false_a_day(self) -> float:
        """How many false alerts a day an analyst would look at."""
        return len(self.false) / self.days

    def missed(self) -> list[str]:
        """The stories that no alert of medium severity and more tells with the right user and technique."""
        return [
            f"{attack.story} at {attack.started_at:%d %H:%M}: {attack.account}"
            for attack in self.attacks
            if not any(_tells(alert, attack) for alert in self.alerts)
        ]


def _tells(alert: Alert, attack: Attack) -> bool:
    users = {user.lower() for user in attack.entities["user"]}
    return (
        alert.severity.rank >= Severity.MEDIUM.rank
        and not set(alert.evidence).isdisjoint(attack.record_ids)
        and any(value.lower() in users for _, value in alert.entities)
        and not TECHNIQUES[attack.story].isdisjoint(alert.techniques)
    )


def is_of_attacks(alert: Alert, attacks: Iterable[Attack]) -> bool:
    """Whether it tells of an attack: at least half of it is, or it names whom or what the attack is about."""
    evidence = set(alert.evidence)
    found = [attack for attack in attacks if not evidence.isdisjoint(attack.record_ids)]
    theirs = {one for attack in found for one in evidence.intersection(attack.record_ids)}
    if 2 * len(theirs) >= len(evidence):
        return bool(theirs)
    named = {value.lower() for attack in found for values in attack.entities.values() for value in values}
    return any(value.lower() in named for _, value in alert.entities)


def watch_weeks(
    *, users: int, records_per_day: int, days: int, seed: int, first_at: datetime = FIRST_AT
) -> Weeks:
    """Let the engine watch `LEARNED` and then `days` of an organisation, hour by hour."""
    organisation = Organisation(seed, TENANT, users=users, records_per_day=records_per_day)
    rules = (*packs().rules, make_risk_rule())
    judged_at, end = first_at + LEARNED, first_at + LEARNED + timedelta(days=days)
    knowledge = Knowledge(accepted_domains=frozenset({organisation.domain}), enrichment=SimulatedPlaces())
    with tempfile.TemporaryDirectory() as directory:
        state = DetectionState(Path(directory) / "detections.sqlite", survives_power_cuts=False)
        engine = Engine(rules, state, knowledge=knowledge)
        records = 0
        for number, (now, portion) in enumerate(_hours(organisation, first_at, end), start=1):
            engine.take([portion], number=number, now=now)
            records += len(portion.records)
            if now.hour == 0:
                engine.look(now=now)
        alerts = [kept.alert for kept in state.alerts.list() if kept.shown]
        state.close()
    around = organisation.attacks(first_at - timedelta(days=2), end + timedelta(days=2))
    seen = [alert for alert in alerts if alert.last_seen_at >= judged_at]
    return Weeks(
        days=float(days),
        records=records,
        alerts=tuple(seen),
        attacks=tuple(organisation.attacks(judged_at, end)),
        false=tuple(
            alert
            for alert in seen
            if alert.severity.rank >= Severity.MEDIUM.rank
            and alert.detection not in RELAYED
            and not is_of_attacks(alert, around)
        ),
        names={rule.id: rule.name for rule in rules},
    )


def _hours(
    organisation: Organisation, first_at: datetime, end: datetime
) -> Iterator[tuple[datetime, Portion]]:
    at = first_at
    while at < end:
        records = [one.body for one in organisation.records_between(at, at + HOUR)]
        at += HOUR
        yield at, Portion(TENANT, at, records, headers_of(records))


def main() -> int:
    """Print what came of it; 1 where a story was missed or there were too many false alerts."""
    parser = argparse.ArgumentParser(prog="./dev weeks", description="Judge the packs on a simulated tenant.")
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--records-per-day", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=7, help="after eight days of learning")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--to-now", action="store_true", help="end with the present hour")
    chosen = parser.parse_args()
    learned_and_judged = LEARNED + timedelta(days=chosen.days)
    now = SystemClock().now().replace(minute=0, second=0, microsecond=0)
    weeks = watch_weeks(
        users=chosen.users,
        records_per_day=chosen.records_per_day,
        days=chosen.days,
        seed=chosen.seed,
        first_at=now - learned_and_judged if chosen.to_now else FIRST_AT,
    )
    out = sys.stdout
    out.write(
        f"{weeks.records} records, {len(weeks.alerts)} alerts in {chosen.days} days, signals included\n"
    )
    by_rule = Counter((weeks.names[alert.rule_id], alert.severity.value) for alert in weeks.false)
    out.writelines(
        f"  {count:4} false: {name} ({severity})\n" for (name, severity), count in by_rule.most_common()
    )
    relayed = sum(alert.detection in RELAYED and alert.severity.rank >= 2 for alert in weeks.alerts)
    out.write(f"{weeks.false_a_day:.1f} false alerts a day; {relayed} of Microsoft's own handed on\n")
    missed = weeks.missed()
    out.write(f"{len(weeks.attacks) - len(missed)} of {len(weeks.attacks)} attacks found\n")
    out.writelines(f"  missed: {one}\n" for one in missed)
    return 1 if missed or weeks.false_a_day > FALSE_A_DAY_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
