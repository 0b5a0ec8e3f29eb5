"""What `m365watch rules` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import count, whole_line
from m365watch.cli.terminal.json_output import SCHEMA
from m365watch.cli.terminal.page_parts import list_block
from m365watch.common.text import plain
from m365watch.detection.rules.extension import Severity
from m365watch.detection.rules.rule import Rule

if TYPE_CHECKING:
    from m365watch.detection.rule_test_cases import Cases, Verdict
    from m365watch.detection.rules.diagnostics import Mistake
    from m365watch.detection.rules.rule_library import Library

STYLES = {Severity.CRITICAL: "bold red", Severity.HIGH: "red", Severity.MEDIUM: "yellow"}
MISTAKES_SHOWN_MAX = 10

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def rules_page(
    found: Sequence[Rule], *, mistakes: Sequence[Mistake], lacks: Mapping[str, Sequence[str]] = {}
) -> RenderableType:
    """A line for each rule, and how many there are; `lacks` has what the rules go without, by their ids."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column("severity", no_wrap=True)
    table.add_column("title, ATT&CK", overflow="fold")
    for rule in found:
        title = Text(plain(rule.title) + ("" if rule.status != "experimental" else " (experimental)"))
        if rule.techniques:
            title.append(f"  {' '.join(rule.techniques)}", style="dim")
        table.add_row(
            Text(plain(rule.extension.detection or rule.id[:8]), style="bold"),
            Text(
                "info" if rule.severity is Severity.INFORMATIONAL else rule.severity,
                style=STYLES.get(rule.severity, ""),
            ),
            title,
        )
    lines = [Text(count(len(found), "rule"), style="bold")]
    lines += _counted(len(mistakes))
    lines += _lines_of_lacks(found, lacks)
    end = whole_line("`m365watch rules show RULE` tells more")
    return Group(table, Text(), *lines, end) if found else Group(*lines, end)


def _counted(number: int, noun: str = "mistake") -> list[Text]:
    """How many there are, where there are any."""
    told = f"{count(number, noun)}; `m365watch rules validate` names each"
    return [Text(told, style="yellow")] if number else []


def _lines_of_lacks(found: Sequence[Rule], lacks: Mapping[str, Sequence[str]]) -> list[Text]:
    """A line for each key that is missing, with the rules that would want it."""
    from m365watch.detection.enrichment.missing_sources import rules_without

    given = {rule_id: tuple(keys) for rule_id, keys in lacks.items()}
    return [
        Text(
            plain(f"without detections.enrich.{key} these find less or nothing: {', '.join(names)}"),
            style="dim",
        )
        for key, names in rules_without(found, given).items()
    ]


def rule_page(rule: Rule, *, lacks: Sequence[str] = (), joins: Sequence[str] = ()) -> RenderableType:
    """All that a rule says of itself; `joins` has the titles of those that it waits for."""
    extension = rule.extension
    blocks: list[RenderableType] = [Text(plain(rule.title), style="bold"), Text()]
    if rule.description:
        blocks += [Text(plain(rule.description)), Text()]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in [*_facts(rule), ("joins", "; ".join(joins)), ("lacks", _lacking(lacks))]:
        if value:
            grid.add_row(name, Text(plain(value)))
    blocks.append(grid)
    if extension.explanation:
        blocks += list_block("What an alert says", [extension.explanation])
    blocks += list_block("What to look at next", extension.check)
    blocks += list_block("How to contain it", [step.replace("_", " ") for step in extension.contain])
    blocks += list_block("False alarms", rule.false_positives)
    blocks += list_block("What can be turned", [f"{key}: {text}" for key, text in extension.tuning.items()])
    blocks += list_block("Verified on", [extension.evidence] if extension.evidence else [])
    blocks += list_block("References", rule.references)
    return Group(*blocks)


def _lacking(lacks: Sequence[str]) -> str:
    keys = ", ".join(f"detections.enrich.{key}" for key in lacks)
    return f"{keys}: until it is set, the rule finds less or nothing" if keys else ""


def _facts(rule: Rule) -> list[tuple[str, str]]:
    extension = rule.extension
    raised = ", ".join(f"{one.to} with {one.when}" for one in extension.raises)
    joined_by = rule.correlation.group_by if rule.correlation is not None else ()
    kind = str(rule.correlation.joined) if rule.correlation is not None else str(rule.kind)
    return [
        ("severity", str(rule.severity) + (f"; {raised}" if raised else "")),
        ("status", rule.status + ("" if rule.alerts else "; serves other rules, and makes no alerts itself")),
        ("kind", kind + _within(rule)),
        ("detection", extension.detection),
        ("also called", ", ".join(extension.aliases)),
        ("ATT&CK", ", ".join((*rule.techniques, *(one.replace("_", " ") for one in rule.tactics)))),
        ("entities", ", ".join(f"{name} ({value})" for name, value in extension.entity.items())),
        ("grouped by", ", ".join(extension.group_by or joined_by)),
        ("risk", f"{rule.risk} points"),
        ("id", rule.id),
        ("file", rule.path),
    ]


def _within(rule: Rule) -> str:
    if rule.correlation is None:
        return ""
    span_s = rule.correlation.timespan_s
    count, unit = next((span_s // size, unit) for size, unit in _UNITS if span_s % size == 0)
    return f" within {count} {unit}"


def _rule_document(rule: Rule, *, lacks: Sequence[str] = ()) -> dict[str, Any]:
    """A rule as JSON has it; `lacks` are the keys of `detections.enrich` that it goes without."""
    extension = rule.extension
    return {
        "id": rule.id,
        "name": rule.name,
        "title": rule.title,
        "detection": extension.detection,
        "aliases": list(extension.aliases),
        "severity": str(rule.severity),
        "status": rule.status,
        "kind": str(rule.correlation.joined) if rule.correlation is not None else str(rule.kind),
        "makes_alerts": rule.alerts,
        "description": rule.description,
        "techniques": list(rule.techniques),
        "tactics": list(rule.tactics),
        "entity": dict(extension.entity),
        "group_by": list(extension.group_by),
        "explanation": extension.explanation,
        "check": list(extension.check),
        "contain": list(extension.contain),
        "false_positives": list(rule.false_positives),
        "tuning": dict(extension.tuning),
        "evidence": extension.evidence,
        "references": list(rule.references),
        "risk": rule.risk,
        "lacks": list(lacks),
        "file": rule.path,
    }


def shown_document(found: Sequence[Rule], *, lacks: Mapping[str, Sequence[str]] = {}) -> dict[str, Any]:
    """What `rules show --json` prints."""
    rules = [_rule_document(rule, lacks=lacks.get(rule.id, ())) for rule in found]
    return {"schema": SCHEMA, "rules": rules}


def rules_document(
    found: Sequence[Rule], *, mistakes: Sequence[Mistake], lacks: Mapping[str, Sequence[str]] = {}
) -> dict[str, Any]:
    """What `rules list --json` prints."""
    return {**shown_document(found, lacks=lacks), "mistakes": [_mistake(one) for one in mistakes]}


def mistakes_document(library: Library, lines: Sequence[str]) -> dict[str, Any]:
    """What `rules validate --json` prints; `lines` are mistakes in exceptions."""
    return {
        "schema": SCHEMA,
        "rules": len(library.rules),
        "mistakes": [_mistake(one) for one in library.mistakes],
        "exceptions": list(lines),
    }


def _mistake(mistake: Mistake) -> dict[str, Any]:
    return {
        "file": mistake.path,
        "line": mistake.line or None,
        "rule": mistake.rule,
        "text": mistake.text,
    }


def verdicts_page(
    judged: Sequence[tuple[Cases, Sequence[Verdict]]], *, mistakes: Sequence[Mistake], lacks_rules: bool
) -> RenderableType:
    """A line for each case, with what is not as it claims below it.

    Mistakes are named where a case `lacks_rules`: one of them may be why.
    """
    lines: list[Text] = []
    for cases, verdicts in judged:
        lines.append(Text(plain(f"{cases.path}: {cases.rule}"), style="bold"))
        for verdict in verdicts:
            kind = "hit" if verdict.case.is_hit else "near miss"
            mark, style = ("FAILS", "bold red") if verdict.faults else ("ok", "green")
            lines.append(Text.assemble((f"  {mark:5}", style), f"  {kind}: {plain(verdict.case.name)}"))
            lines += [Text(f"         {plain(fault)}", style="red") for fault in verdict.faults]
    every = [verdict for _, verdicts in judged for verdict in verdicts]
    failed = sum(bool(verdict.faults) for verdict in every)
    named = mistakes[:MISTAKES_SHOWN_MAX] if lacks_rules else ()
    lines += [whole_line(plain(str(one)), style="yellow") for one in named]
    lines += _counted(len(mistakes) - len(named), "more mistake" if named else "mistake")
    verdict_line = f"{count(len(every), 'case')}, {failed:,} not as claimed" if every else "no cases"
    return Group(*lines, Text(verdict_line, style="bold red" if failed or not every else "bold green"))


def verdicts_document(
    judged: Sequence[tuple[Cases, Sequence[Verdict]]], *, mistakes: Sequence[Mistake]
) -> dict[str, Any]:
    """What `rules test --json` prints."""
    return {
        "schema": SCHEMA,
        "cases": [
            {
                "file": cases.path,
                "rule": cases.rule,
                "name": verdict.case.name,
                "kind": "hit" if verdict.case.is_hit else "near_miss",
                "faults": list(verdict.faults),
            }
            for cases, verdicts in judged
            for verdict in verdicts
        ],
        "mistakes": [_mistake(one) for one in mistakes],
    }
