"""`m365watch rules export`: the rules in the words of other products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption
from m365watch.cli.terminal.console import stderr_console, write_line
from m365watch.cli.terminal.error_output import EXIT_FAILED, no_such_rule
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.cli.rules.rules_export_view import Panels, Sheet
    from m365watch.config.models.detections import DetectionsSection
    from m365watch.config.models.settings import TenantSettings
    from m365watch.detection.export.not_translatable import Unsaid
    from m365watch.detection.fields.enrichment_context import Knowledge
    from m365watch.detection.rules.rule import Rule
    from m365watch.detection.rules.rule_library import Library

TARGETS = ("devo", "sigma")
STDOUT = "-"


def export(
    target: Annotated[str, typer.Option("--to", metavar="PRODUCT", help="devo or sigma.")],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    directories: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="PATH", help="Also the rules of this file or folder."),
    ] = None,
    packs: Annotated[
        list[str] | None,
        typer.Option("--pack", metavar="NAME", help="Only rules of this pack; may be repeated."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="RULE", help="Only this one: number, id or title; may be repeated."),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--out", "--output", "-o", metavar="DIRECTORY", help="Where files are written; - for stdout."
        ),
    ] = STDOUT,
    boards: Annotated[
        bool, typer.Option("--boards", help="For Devo: also the panels of the Exchange board, as queries.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write the rules in the words of another product.

    For Devo each becomes a LINQ query over its tables of Microsoft 365 and a definition for its Alerts
    API (NAME.linq and NAME.json), with the kind of trigger and the columns that its words name. As plain
    Sigma (NAME.yml) they ask native fields alone, lists are written out, and what is our own stays under the
    key m365watch. With --boards the panels of an Exchange board come along as queries for the widgets of an
    Activeboard (BOARD_PANEL.linq). A rule that has no words there is named with the reason; where Devo can
    say a part of it only, the alert's description says what it does not find.

    `accepted_domains` and the lists of people are written into the rules, and for Devo the tables that an
    `override_tag` names. Exit codes: 0 done; 1 none of the
    rules could be exported; 2 there is no such rule, or the configuration is wrong.
    """
    from m365watch.cli.rules.rule_library import library_of, whole_settings
    from m365watch.cli.rules.rules_export_view import board_panels
    from m365watch.config.models.detections import DetectionsSection
    from m365watch.detection.factory import knowledge_of

    if target not in TARGETS:
        raise typer.BadParameter(f"--to: there is no {target}; it is {' or '.join(TARGETS)}")
    if boards and target != "devo":
        raise typer.BadParameter("--boards: they are for devo")
    settings = whole_settings(config, job, collector_file)
    detections = DetectionsSection() if settings is None else settings.detections
    library = library_of(detections, directories)
    chosen = _chosen(detections, library, packs or [], names or [])
    tags = {} if settings is None else _override_tags(settings.tenants)
    knowledge = replace(knowledge_of(detections), override_tags=tags)
    sheets, unsaid = _sheets(target, chosen, library, knowledge)
    _write(sheets, unsaid, board_panels(knowledge) if boards else {}, output="" if as_json else output)
    raise typer.Exit(0 if sheets else EXIT_FAILED)


def _override_tags(tenants: Sequence[TenantSettings]) -> dict[str, frozenset[str]]:
    """The tags of each service that somewhere has one, by the name that Sigma has for the service."""
    found: dict[str, set[str]] = {}
    for service in (service for tenant in tenants for service in tenant.services):
        found.setdefault(service.service.replace("_", ""), set()).add(service.override_tag or "")
    return {name: frozenset(tags) for name, tags in found.items() if any(tags)}


def _write(sheets: Sequence[Sheet], unsaid: Sequence[Unsaid], panels: Panels, *, output: str) -> None:
    """As files, as text, or where `output` is empty as one JSON document."""
    from m365watch.cli.rules.rules_export_view import export_document, shown_panels, write_sheets
    from m365watch.cli.terminal.json_output import as_json

    if not output:
        write_line(as_json(export_document(sheets, unsaid, panels)))
        return
    if output == STDOUT:
        write_line("\n".join([*(sheet.shown for sheet in sheets), *shown_panels(panels)]))
    else:
        write_sheets(Path(output), sheets, panels)
    _tell(sheets, unsaid, panels, output)


def _chosen(
    settings: DetectionsSection, library: Library, packs: Sequence[str], names: Sequence[str]
) -> list[Rule]:
    """The rules that are asked for, all of them where none is named."""
    from m365watch.detection.rules.rule_library import list_packs

    for pack in packs:
        if pack not in list_packs():
            raise typer.BadParameter(f"--pack: there is no pack {pack}; there are {', '.join(list_packs())}")
    rules = [rule for rule in library.rules if not packs or rule.path.partition("/")[0] in packs]
    if not names:
        return rules
    wanted: dict[str, Rule] = {}
    for name in names:
        found = {rule.id: rule for rule in library.find(name) if rule in rules}
        if not found:
            raise no_such_rule(name, settings)
        wanted |= found
    if not any(rule.alerts for rule in wanted.values()):
        raise typer.BadParameter("what is named makes no alerts and only serves other rules")
    return list(wanted.values())


def _sheets(
    target: str, chosen: Sequence[Rule], library: Library, knowledge: Knowledge
) -> tuple[list[Sheet], Sequence[Unsaid]]:
    from m365watch.cli.rules.rules_export_view import devo_sheet, sigma_sheet

    if target == "devo":
        from m365watch.detection.export.linq.alert_definitions import export_rules

        export = export_rules(chosen, every=library.by_id(), knowledge=knowledge)
        return [devo_sheet(one) for one in export.exported], export.unsaid
    from m365watch.detection.export.sigma.sigma_documents import write_rules

    written = write_rules(chosen, every=library.by_id(), knowledge=knowledge)
    return [sigma_sheet(one) for one in written.exported], written.unsaid


def _tell(sheets: Sequence[Sheet], unsaid: Sequence[Unsaid], panels: Panels, output: str) -> None:
    """What was and what was not exported, on stderr."""
    from m365watch.cli.terminal.formatting import count

    console = stderr_console()
    for one in unsaid:
        called = f"{one.rule.extension.detection} {one.rule.title}".strip()
        console.print(plain(f"not exported: {called}: {one.reason}"), soft_wrap=True, markup=False)
    number = sum(map(len, panels.values()))
    drawn = f" and {count(number, 'panel')}" if number else ""
    place = "" if output == STDOUT else f" to {output}"
    left = f"; {len(unsaid):,} cannot be said there" if unsaid else ""
    told = f"{count(len(sheets), 'rule')}{drawn} exported{place}{left}"
    console.print(plain(told), soft_wrap=True, markup=False)
