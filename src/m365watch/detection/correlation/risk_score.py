"""Risk: what several detections say of one entity within a week adds up to one strong alert.

Every alert puts its rule's points on each of its entities; where it names many of a kind, it says little of
each, and they share them. What counts is how many different signs there are. Rules of one detection are one
sign, as are all the ways in which Microsoft's own alerts come; of one sign the first alert counts in full,
the next a quarter, then a sixteenth and so on: what somebody does every day adds next to nothing, and no sign
alone comes to more than four thirds of its points. On an account each sign beyond the third adds a tenth to
the whole. It is told where it says more than the alerts that it is made of: three signs at least have to
agree, none of their alerts is of high severity itself, and an address, application or site has more than one
account behind it, and twice the points.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field

from m365watch.detection.alerts.alert import Alert, Match, clean_text
from m365watch.detection.correlation.numeric_values import read_number
from m365watch.detection.rules.condition import Order
from m365watch.detection.rules.containment import ATTEMPTS
from m365watch.detection.rules.extension import Extension
from m365watch.detection.rules.rule import Correlation, Joined, Rule
from m365watch.detection.rules.severity import Severity

SIGNS_MIN = 3
"""So many detections have to agree."""
REPEATED = 4
"""Of one detection each alert counts so many times less than the one before."""
MORE_SIGNS = 0.1
"""What each detection beyond `SIGNS_MIN` adds to an account's sum, as a share of it."""
TOLD_ALREADY = Severity.HIGH
"""An entity with an alert of this severity has been told of: the sum would only say it once more."""
SHARED_FACTOR = 2
"""So many times the points are asked of what many people share."""
SIGN = "sign"
"""Among an alert's values, its detection, or its rule where that is none of the catalogue."""
ACTOR = "actor"
"""Among an alert's values, the account that is behind it."""
ACCOUNT = "user"
"""The kind of entity that is an account itself."""


@dataclass(slots=True)
class RiskWindow:
    """Points by detection: of each the largest in full, the next a quarter, then a sixteenth."""

    asked: float
    """Points at which there is an alert."""
    points: dict[str, list[float]] = field(default_factory=dict)
    strong: int = 0
    """Alerts that are as bad as the sum would be."""
    actors: Counter[str] = field(default_factory=Counter)
    is_account: bool = True

    def add(self, match: Match) -> None:
        """An alert comes in."""
        self.is_account = match.group[0] == ACCOUNT
        insort(self.points.setdefault(_sign_of(match), []), read_number(match.counted) or 0)
        self.strong += match.severity.rank >= TOLD_ALREADY.rank
        self.actors[match.values.get(ACTOR, "").lower()] += 1

    def drop(self, match: Match) -> None:
        """The oldest goes."""
        sign = _sign_of(match)
        known = self.points[sign]
        known.remove(read_number(match.counted) or 0)
        if not known:
            del self.points[sign]
        self.strong -= match.severity.rank >= TOLD_ALREADY.rank
        actor = match.values.get(ACTOR, "").lower()
        self.actors[actor] -= 1
        if not self.actors[actor]:
            del self.actors[actor]

    def value(self) -> float | None:
        """The sum; None where it would say nothing new.

        That is where one alert is as bad as the sum, where fewer than `SIGNS_MIN` detections agree, and where
        one account is behind all that an address, an application or a site has: its own sum says so.
        """
        if self.strong or len(self.points) < SIGNS_MIN:
            return None
        if not self.is_account and len(self.actors) == 1 and "" not in self.actors:
            return None
        total = 0.0
        for known in self.points.values():
            for place, points in enumerate(reversed(known)):
                total += points / REPEATED**place
        if self.is_account:
            return total * (1 + MORE_SIGNS * (len(self.points) - SIGNS_MIN))
        # An office's address has a little of all who sit there.
        return total if total >= SHARED_FACTOR * self.asked else None


def _sign_of(match: Match) -> str:
    return match.values.get(SIGN) or match.source_id


RISK_RULE_ID = "0b6a4a3e-52c1-5d0e-9c55-2f8a7b1c9d01"
RISK_POINTS = 50
"""Points at which an entity's alerts become one of their own."""
PERIOD_S = 7 * 86_400
FULL_MAX = 3
"""So many entities of one kind get the whole points of an alert each; more share those of three."""
_WEAK = Severity.MEDIUM
"""What an alert that names many is to each of them at most: nobody is told of by it."""
TECHNIQUES, TACTICS = "techniques", "tactics"
"""Among an alert's values, what its rule says of ATT&CK."""
USUAL = {
    "user": ("revoke_sessions", "disable_account", "reset_password"),
    "app": ("disable_application", "remove_oauth_grant"),
    "address": ("block_address",),
}
"""What contains a kind of entity, where the rule says nothing: risk over several rules, Sigma's own rules."""
KINDS = frozenset({"user", "address", "app", "mailbox", "site"})
"""Kinds of entities that points are put on."""


_JOINS = frozenset({Joined.TEMPORAL, Joined.ORDERED})
"""What joins alerts that have given their points already; where nothing ties them together, it adds none."""


def make_risk_rule(points: int = RISK_POINTS) -> Rule:
    """The rule that watches the sum of points; it comes last of all."""
    return Rule(
        id=RISK_RULE_ID,
        title="Risk score threshold exceeded for one user or entity",
        severity=Severity.HIGH,
        path="built in",
        name="risk",
        status="stable",
        description=f"Alerts from different rules on one entity add up to {points} points within a week.",
        false_positives=("An administrator who changes many settings within a few days.",),
        correlation=Correlation(
            joined=Joined.RISK,
            sources=(),
            timespan_s=PERIOD_S,
            group_by=("kind", "entity"),
            order=Order.AT_LEAST,
            threshold=points,
        ),
        extension=Extension(
            detection="RISK",
            aliases=("Several signs of an intrusion on one entity",),
            entity={},
            risk=0,
            explanation="{entity} reached {value} risk points within a week: {rules}.",
            check=(
                "Read the alerts in time order. The first one may show the initial access.",
                "Do the alerts form one incident, or are they unrelated weak signals?",
            ),
        ),
    )


def adds_up_risk(rule: Rule) -> bool:
    """Whether it is that rule: all others are what it joins."""
    return rule.correlation is not None and rule.correlation.joined is Joined.RISK


def risk_rules(points: int) -> list[Rule]:
    """The same, of a configuration; none where it adds up no risk."""
    return [make_risk_rule(points)] if points else []


def risk_matches(rule: Rule, alert: Alert) -> list[Match]:
    """What an alert puts on each of its entities: a match of the rule about risk."""
    joins_anybody = rule.correlation is not None and not alert.group and rule.correlation.joined in _JOINS
    if rule.id == RISK_RULE_ID or alert.risk <= 0 or joins_anybody:
        return []
    actors = alert.named(ACCOUNT) or alert.named("mailbox")
    actor = clean_text(actors[0]) if len(actors) == 1 else ""
    bearers = _bearers(alert)
    many = Counter(kind for kind, _ in bearers)
    return [
        Match(
            rule_id=RISK_RULE_ID,
            source_id=rule.id,
            tenant=alert.tenant,
            group=(kind, clean_text(value).lower()),
            at_ms=alert.first_at_ms,
            identity=alert.id,
            record_id=alert.evidence[0],
            severity=alert.severity if many[kind] <= FULL_MAX else min(alert.severity, _WEAK, key=_rank),
            values={
                "entity": clean_text(value),
                "alert": rule.title,
                ACTOR: actor,
                SIGN: alert.detection or rule.id,
                TECHNIQUES: " ".join(alert.techniques),
                TACTICS: " ".join(alert.tactics),
            },
            counted=str(_share(alert.risk, many[kind])),
        )
        for (kind, _), value in bearers.items()
    ]


def _share(points: int, many: int) -> int:
    """The points that each of so many gets."""
    return points if many <= FULL_MAX else max(1, points * FULL_MAX // many)


def _rank(severity: Severity) -> int:
    return severity.rank


def _bearers(alert: Alert) -> dict[tuple[str, str], str]:
    """The entities that get the points, by kind and name in lower case; a person's mailbox is the person.

    Whoever is one of many that were only tried gets none: that says something of who tried alone.
    """
    found: dict[tuple[str, str], str] = {}
    for kind, value in alert.entities:
        if kind in KINDS and value:
            bearer = ACCOUNT if kind == "mailbox" and "@" in value else kind
            found.setdefault((bearer, clean_text(value).lower()), value)
    accounts = [bearer for bearer in found if bearer[0] == ACCOUNT]
    if ATTEMPTS in alert.contain and len(accounts) > FULL_MAX:
        return {bearer: value for bearer, value in found.items() if bearer[0] != ACCOUNT}
    return found
