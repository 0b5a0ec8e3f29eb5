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

from collections import Counter

from m365watch.detection.alerts.alert import Alert, Match, clean_text
from m365watch.detection.correlation.risk_window import ACCOUNT, ACTOR, SIGN
from m365watch.detection.rules.condition import Order
from m365watch.detection.rules.containment import ATTEMPTS
from m365watch.detection.rules.extension import Extension, Severity
from m365watch.detection.rules.rule import Correlation, Joined, Rule

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
        title="Several signs of an intrusion on one entity",
        severity=Severity.HIGH,
        path="built in",
        name="risk",
        status="stable",
        description=f"Alerts of different detections on one entity make {points} points or more in a week.",
        false_positives=("An administrator who changes many settings within few days.",),
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
            entity={},
            risk=0,
            explanation="{entity} has {value} points of risk within a week: {rules}.",
            check=(
                "Read the alerts in the order of their times: what came first is the way in.",
                "Is it one story, or a busy week beside a stray sign-in? Weak signs may come by chance.",
            ),
        ),
    )


def adds_up_risk(rule: Rule) -> bool:
    """Whether it is that rule: all others are what it joins."""
    return rule.correlation is not None and rule.correlation.joined is Joined.RISK


def risk_rules(points: int | None) -> list[Rule]:
    """The same, of a configuration; none where it adds up no risk."""
    return [] if points is None else [make_risk_rule(points)]


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
