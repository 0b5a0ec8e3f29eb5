"""Techniques of MITRE ATT&CK: what they are called, and of which tactic they are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from m365watch.board.widgets.widget_types import Met
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.rules.rule import TACTICS, Rule
from m365watch.detection.rules.severity import Severity

_NAMES = {
    "T1020": ("exfiltration", "Automated exfiltration"),
    "T1070": ("defense-evasion", "Indicator removal"),
    "T1070.008": ("defense-evasion", "Clear mailbox"),
    "T1078": ("initial-access", "Valid accounts"),
    "T1078.004": ("initial-access", "Cloud accounts"),
    "T1090.003": ("command-and-control", "Multi-hop proxy"),
    "T1098": ("persistence", "Account manipulation"),
    "T1098.001": ("persistence", "Additional cloud credentials"),
    "T1098.002": ("persistence", "Additional mailbox permissions"),
    "T1098.003": ("privilege-escalation", "Additional cloud roles"),
    "T1098.005": ("persistence", "Device registration"),
    "T1110": ("credential-access", "Brute force"),
    "T1110.001": ("credential-access", "Password guessing"),
    "T1110.003": ("credential-access", "Password spraying"),
    "T1114.002": ("collection", "Remote mail collection"),
    "T1114.003": ("collection", "Mail forwarding rule"),
    "T1136.003": ("persistence", "New cloud account"),
    "T1204.002": ("execution", "Malicious file"),
    "T1213": ("collection", "Information repositories"),
    "T1213.002": ("collection", "SharePoint"),
    "T1484": ("privilege-escalation", "Tenant policy changed"),
    "T1484.002": ("privilege-escalation", "Trust changed"),
    "T1485": ("impact", "Destruction"),
    "T1486": ("impact", "Encrypted for impact"),
    "T1528": ("credential-access", "Steal application token"),
    "T1530": ("collection", "Cloud storage"),
    "T1534": ("lateral-movement", "Internal spearphishing"),
    "T1539": ("credential-access", "Steal web session"),
    "T1546": ("persistence", "Triggered execution"),
    "T1550.001": ("lateral-movement", "Application token used"),
    "T1556.006": ("defense-evasion", "Second factor changed"),
    "T1556.009": ("defense-evasion", "Conditional access changed"),
    "T1557": ("credential-access", "Adversary in the middle"),
    "T1562": ("defense-evasion", "Impair defences"),
    "T1562.001": ("defense-evasion", "Disable tools"),
    "T1562.007": ("defense-evasion", "Disable cloud firewall"),
    "T1562.008": ("defense-evasion", "Disable cloud logs"),
    "T1564.008": ("defense-evasion", "Mail hiding rules"),
    "T1566": ("initial-access", "Phishing"),
    "T1566.002": ("initial-access", "Phishing link"),
    "T1566.003": ("initial-access", "Phishing through a service"),
    "T1567": ("exfiltration", "Exfiltration over web service"),
    "T1567.002": ("exfiltration", "Exfiltration to cloud storage"),
    "T1584": ("resource-development", "Compromised infrastructure"),
    "T1621": ("credential-access", "Second factor flooded"),
}
_UNNAMED = "resource-development"
"""Where a technique stands that neither ATT&CK as it is known here nor its rule gives a tactic."""


def technique_words(technique: str) -> str:
    """Its number and its name."""
    return f"{technique} {_NAMES[technique][1]}" if technique in _NAMES else technique


def tactic_words(tactic: str) -> str:
    """A tactic as people write it."""
    return tactic.replace("-", " ").capitalize()


def matrix_of(
    rules: Iterable[Rule], alerts: Iterable[Alert], urls: Mapping[str, str]
) -> list[tuple[str, list[Met]]]:
    """By tactic, the techniques that rules look for, with the alerts that found them; `urls` by technique."""
    looking: Counter[str] = Counter()
    tactics: dict[str, str] = {}
    for rule in rules:
        for technique in rule.techniques:
            looking[technique] += 1
            usual = rule.tactics[0] if rule.tactics else _UNNAMED
            tactics[technique] = _NAMES.get(technique, (usual, ""))[0]
    found: Counter[str] = Counter()
    worst: dict[str, Severity] = {}
    for alert in sorted(alerts, key=lambda one: one.severity.rank):
        found.update(alert.techniques)
        worst |= dict.fromkeys(alert.techniques, alert.severity)
    columns: dict[str, list[Met]] = defaultdict(list)
    for technique in sorted(looking):
        name, tone = _NAMES.get(technique, ("", ""))[1], str(worst.get(technique, ""))
        met = Met(technique, name, looking[technique], found[technique], tone, urls.get(technique, ""))
        columns[tactics[technique]].append(met)
    known = [one for one in TACTICS if one in columns]
    return [(tactic_words(one), columns[one]) for one in [*known, *sorted(columns.keys() - set(known))]]


def techniques_of(rules: Iterable[Rule]) -> set[str]:
    """All techniques that some rule looks for."""
    return {technique for rule in rules for technique in rule.techniques}
