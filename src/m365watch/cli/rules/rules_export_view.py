"""What `m365watch rules export` writes: a sheet for each rule, as files, as text, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m365watch.cli.terminal.json_output import SCHEMA
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.detection.export.linq.activeboard import Panel
    from m365watch.detection.export.linq.alert_definitions import Exported
    from m365watch.detection.export.not_translatable import Unsaid
    from m365watch.detection.export.sigma.sigma_documents import Written
    from m365watch.detection.fields.enrichment_context import Knowledge
    from m365watch.detection.rules.rule import Rule

Panels = Mapping[str, "Sequence[Panel]"]
"""By the name of the board."""
_FOREIGN = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A rule as it goes out."""

    rule: Rule
    shown: str
    """As a person reads it."""
    files: Mapping[str, str]
    """What is written, by suffix."""
    document: Mapping[str, Any]
    """What `--json` says of it beside the rule's names."""


def devo_sheet(one: Exported) -> Sheet:
    """A query below what there is to say of it, as comments; and the body for the Alerts API."""
    definition = one.definition
    trigger = definition.trigger.document()
    numbers = ", ".join(f"{key} {value}" for key, value in trigger.items() if key != "kind")
    lines = [
        definition.name,
        f"alert: {definition.headline}",
        f"kind {trigger['kind']}" + (f": {numbers}" if numbers else "") + f"; priority {definition.priority}",
        *(f"unlike here: {difference}" for difference in one.differences),
    ]
    shown = "\n".join([*(f"// {plain(line)}" for line in lines), definition.query, ""])
    body = definition.document()
    return Sheet(
        one.rule,
        shown,
        {".linq": shown, ".json": json.dumps(body, indent=2, ensure_ascii=False) + "\n"},
        {
            "kind": trigger["kind"],
            "query": definition.query,
            "definition": body,
            "unlike_here": list(one.differences),
        },
    )


def sigma_sheet(one: Written) -> Sheet:
    """A document of Sigma; on standard output each begins with the marks that YAML puts between documents."""
    text = one.text()
    said = "".join(f"# unlike here: {plain(difference)}\n" for difference in one.differences)
    return Sheet(
        one.rule,
        f"---\n{said}{text}",
        {".yml": said + text},
        {"sigma": dict(one.document), "unlike_here": list(one.differences)},
    )


def board_panels(knowledge: Knowledge) -> Panels:
    """The panels of every board."""
    from m365watch.detection.export.linq.activeboard import BOARDS

    return {name: make(knowledge) for name, make in BOARDS.items()}


def shown_panels(panels: Panels) -> list[str]:
    """Each panel's query below its title."""
    return [_shown_panel(name, panel) for name, found in panels.items() for panel in found]


def _shown_panel(board: str, panel: Panel) -> str:
    return f"// board {board}: {panel.title} ({panel.chart})\n{panel.query}\n"


def write_sheets(directory: Path, sheets: Sequence[Sheet], panels: Panels) -> None:
    """The files of all; those of an earlier export give way.

    Raises: NeedsOperator: one cannot be written.
    """
    from m365watch.common.atomic_files import PUBLIC, NewFile, write_new_files

    files = [
        NewFile(directory / f"{file_stem(sheet.rule)}{suffix}", text.encode(), PUBLIC)
        for sheet in sheets
        for suffix, text in sheet.files.items()
    ]
    files += [
        NewFile(directory / f"{name}_{panel.name}.linq", _shown_panel(name, panel).encode(), PUBLIC)
        for name, found in panels.items()
        for panel in found
    ]
    if files:
        write_new_files(files, replaces=True)


def file_stem(rule: Rule) -> str:
    """A name for the rule's files: its own, or one made of its title and id, so that no two are the same."""
    own = _FOREIGN.sub("_", rule.name.lower()).strip("_")
    return own or f"{_FOREIGN.sub('_', rule.title.lower()).strip('_')[:60]}_{rule.id[:8]}"


def export_document(sheets: Sequence[Sheet], unsaid: Sequence[Unsaid], panels: Panels) -> dict[str, Any]:
    """What `rules export --json` prints."""
    boards = {
        name: [
            {"name": one.name, "title": one.title, "chart": one.chart, "query": one.query} for one in found
        ]
        for name, found in panels.items()
    }
    return {
        "schema": SCHEMA,
        "rules": [{**_names(sheet.rule), **sheet.document} for sheet in sheets],
        "not_exported": [{**_names(one.rule), "reason": one.reason} for one in unsaid],
        **({"boards": boards} if boards else {}),
    }


def _names(rule: Rule) -> dict[str, str]:
    return {
        "id": rule.id,
        "name": rule.name,
        "detection": rule.extension.detection,
        "title": rule.title,
    }
