"""The reference page of the detections: what the packs look for, and which of ATT&CK that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from m365watch.detection.rules.rule import TACTICS, Rule
from m365watch.detection.rules.rule_library import load_packs

HEAD = """\
# Detections

Made from the rules of the packs by `./dev docs`. `m365watch rules show NUMBER` has the rest of each: what it
was verified on, its false alarms, what to look at next, how to contain it. How they run is told in
[detection.md](../detection.md). Experimental is a rule whose condition was not seen in records of a real
attack.

## By tactic

What each tactic of [MITRE ATT&CK](https://attack.mitre.org) is covered by.

| tactic | detections |
|---|---|
"""

_TECHNIQUES = """
## By technique

| technique | detections |
|---|---|
"""
_TABLE = """
## Every detection

| number | what is found | severity | status | ATT&CK | name at Devo |
|---|---|---|---|---|---|
"""


def render() -> str:
    """The page, in Markdown."""
    rules = sorted(
        (rule for rule in load_packs().rules if rule.alerts),
        key=lambda rule: (number_of(rule), rule.title),
    )
    return "".join(
        [HEAD, *_tactic_rows(rules), _TECHNIQUES, *_technique_rows(rules), _TABLE, *map(_row, rules)]
    )


def number_of(rule: Rule) -> str:
    """Its number in the catalogue, or its name."""
    return rule.extension.detection or rule.name


def _tactic_rows(rules: Sequence[Rule]) -> Iterator[str]:
    for tactic in list_tactics(rules):
        named = [number_of(rule) for rule in rules if tactic in map(_plain, rule.tactics)]
        yield f"| {tactic.replace('-', ' ')} | {', '.join(dict.fromkeys(named))} |\n"


def _technique_rows(rules: Sequence[Rule]) -> Iterator[str]:
    for technique in sorted({one for rule in rules for one in rule.techniques}):
        named = [number_of(rule) for rule in rules if technique in rule.techniques]
        yield f"| {_link(technique)} | {', '.join(dict.fromkeys(named))} |\n"


def list_tactics(rules: Sequence[Rule]) -> list[str]:
    """The tactics of the rules in the order of an attack; what ATT&CK does not know comes last."""
    named = {_plain(tactic) for rule in rules for tactic in rule.tactics}
    return [*(tactic for tactic in TACTICS if tactic in named), *sorted(named - set(TACTICS))]


def _plain(tactic: str) -> str:
    return tactic.replace("_", "-")


def _link(technique: str) -> str:
    return f"[{technique}](https://attack.mitre.org/techniques/{technique.replace('.', '/')}/)"


def _row(rule: Rule) -> str:
    cells = (
        number_of(rule),
        rule.title.replace("|", "\\|"),
        str(rule.severity),
        rule.status,
        ", ".join(rule.techniques),
        ", ".join(one for one in rule.extension.aliases if " " not in one),
    )
    return f"| {' | '.join(cells)} |\n"
