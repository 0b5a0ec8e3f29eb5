"""`m365watch rules`: what the detections look for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    JsonOption,
    named_config,
    read_settings,
)
from m365watch.cli.rules.rule_export import export
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.terminal.error_output import EXIT_FAILED, EXIT_USAGE, no_such_rule
from m365watch.cli.terminal.input_warnings import tell_unreadable
from m365watch.common.file_access import closed_to
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.config.models.detections import DetectionsSection
    from m365watch.config.models.settings import Settings
    from m365watch.detection.rule_test_cases import Cases
    from m365watch.detection.rules.rule import Rule
    from m365watch.detection.rules.rule_library import Library

rules = typer.Typer(
    help=(
        "List the rules of the detections, show one, check rules of your own, and try them on records.\n\n"
        "Without a configuration they are those of the packs that come along."
    ),
    rich_markup_mode=None,
    no_args_is_help=True,
)

DirectoryOption = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="PATH", help="Also the rules of this file or folder; may be repeated."),
]


@rules.command("list")
def list_rules(
    text: Annotated[
        str, typer.Argument(metavar="[TEXT]", help="Only rules with this in a name, title or technique.")
    ] = "",
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    directories: DirectoryOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that make no alerts and only serve others.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the rules that are in force.

    Exit codes: 0 done; 2 the configuration is wrong.
    """
    from m365watch.cli.rules.rules_view import rules_document, rules_page
    from m365watch.cli.terminal.json_output import as_json as to_json

    settings = settings_of(config, job, collector_file)
    library = library_of(settings, directories)
    lacks = _lacks_of(library, settings)
    found = [
        rule
        for rule in library.rules
        if (every or rule.alerts) and (not text or _is_about(rule, text.lower()))
    ]
    found.sort(key=lambda rule: (rule.extension.detection or "~", rule.title))
    if as_json:
        write_line(to_json(rules_document(found, mistakes=library.mistakes, lacks=lacks)))
    else:
        stdout_console().print(rules_page(found, mistakes=library.mistakes, lacks=lacks), crop=False)


@rules.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="RULE", help="Its number, id, title, or the name it has at Devo.")
    ],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    directories: DirectoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a rule looks for, what it was verified on, its false alarms, and what can be turned.

    Exit codes: 0 done; 2 there is no such rule, or the configuration is wrong.
    """
    from m365watch.cli.rules.rules_view import rule_page, shown_document
    from m365watch.cli.terminal.json_output import as_json as to_json

    settings = settings_of(config, job, collector_file)
    library = library_of(settings, directories)
    lacks = _lacks_of(library, settings)
    found = library.find(name)
    if not found:
        raise no_such_rule(name, settings)
    if as_json:
        write_line(to_json(shown_document(found, lacks=lacks)))
        return
    console = stdout_console()
    titles = {rule.id: rule.title for rule in library.rules}
    for place, rule in enumerate(found):
        if place:
            console.print()
        joins = [titles[source] for source in rule.correlation.sources] if rule.correlation else []
        console.print(rule_page(rule, lacks=lacks.get(rule.id, ()), joins=joins), crop=False)


@rules.command("validate")
def validate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Files or folders; left out, all of the configuration."),
    ] = None,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read rules as a run would, and name every mistake in a line of its own.

    With a configuration also the file of exceptions. Exit codes: 0 all will do; 1 there are mistakes;
    2 the configuration is wrong.
    """
    from m365watch.cli.rules.rules_view import mistakes_document
    from m365watch.cli.terminal.formatting import count
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.config.models.detections import DetectionsSection
    from m365watch.detection.factory import list_vain, load_exceptions, load_rules
    from m365watch.detection.rules.rule_library import load_beside_packs

    if paths:
        library, lines = load_beside_packs(paths), list[str]()
    else:
        settings = whole_settings(config, job, collector_file)
        detections = DetectionsSection() if settings is None else settings.detections
        library = load_rules(detections)
        exceptions, lines = load_exceptions(detections)
        lines += [] if settings is None else list_vain(exceptions, library, settings)
    found = [*map(str, library.mistakes), *lines]
    if as_json:
        write_line(to_json(mistakes_document(library, lines)))
    else:
        for line in found:
            write_line(plain(line))
        mistakes = f"; {count(len(found), 'mistake')}" if found else ""
        write_line(f"{count(len(library.rules), 'rule')} will do{mistakes}")
    raise typer.Exit(EXIT_FAILED if found else 0)


@rules.command("test")
def try_cases(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="CASES...", help="Files of cases, or folders of them.", exists=True),
    ],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    directories: DirectoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try rules on cases: records that a rule has to find, and near misses that it must not.

    Each case is run by itself, with the rules of the configuration, or of the packs, and those of --rules.
    Exit codes: 0 every case is as it claims; 1 some are not; 2 a file of cases, or the configuration, is
    wrong.
    """
    from m365watch.cli.rules.rules_view import verdicts_document, verdicts_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.detection.rule_test_cases import run_cases

    settings = settings_of(config, job, collector_file)
    library = library_of(settings, directories)
    by_domains: dict[frozenset[str], Library] = {}
    judged = []
    for cases in _read_all(paths):
        # What cases say of the organisation's domains holds for the lists of rules too.
        domains = _domains_of(cases)
        if domains and (settings.rules_directories or directories) and domains not in by_domains:
            by_domains[domains] = library_of(
                settings.model_copy(update={"accepted_domains": domains}), directories
            )
        judged.append((cases, run_cases(cases, by_domains.get(domains, library))))
    if as_json:
        write_line(to_json(verdicts_document(judged, mistakes=library.mistakes)))
    else:
        lacks = not all(library.find(cases.rule) for cases, _ in judged)
        page = verdicts_page(judged, mistakes=library.mistakes, lacks_rules=lacks)
        stdout_console().print(page, crop=False)
    is_good = judged and all(not verdict.faults for _, verdicts in judged for verdict in verdicts)
    raise typer.Exit(0 if is_good else EXIT_FAILED)


def _domains_of(cases: Cases) -> frozenset[str]:
    written = [case.settings.get("accepted_domains") or () for case in cases.cases]
    return frozenset(str(one) for some in written for one in ([some] if isinstance(some, str) else some))


def _read_all(paths: list[Path]) -> list[Cases]:
    """The cases of all files; where some have mistakes, each is told, and none is tried."""
    from m365watch.detection.rule_test_cases import CasesRefused, read_cases
    from m365watch.detection.rules.rule_library import list_rule_files

    found: list[Cases] = []
    mistakes: list[str] = []
    for place in paths:
        files, closed = list_rule_files(place) if place.is_dir() else ([place], [])
        mistakes += [f"{folder}: {closed_to()}" for folder in closed]
        for path in files:
            try:
                found.append(read_cases(path))
            except CasesRefused as error:
                mistakes += [f"{path}: {line}" for line in error.lines]
            except (ValueError, OSError) as error:
                mistakes.append(f"{path}: {error}")
    if mistakes:
        sys.stderr.writelines(f"error: {plain(line)}\n" for line in mistakes)
        raise typer.Exit(EXIT_USAGE)
    return found


def library_of(settings: DetectionsSection, directories: list[Path] | None) -> Library:
    """The rules that are in force, that about risk among them, and those of `directories`."""
    from m365watch.detection.factory import load_rules

    return load_rules(settings, tried=directories or ()).with_risk(settings.risk_points)


def settings_of(config: Path | None, job: Path | None, collector: Path | None) -> DetectionsSection:
    """The settings of the configuration that is named; where none is, the packs that come along.

    To be asked once: what comes by a pipe is not there a second time.
    """
    from m365watch.config.models.detections import DetectionsSection

    settings = whole_settings(config, job, collector)
    return DetectionsSection() if settings is None else settings.detections


def whole_settings(config: Path | None, job: Path | None, collector: Path | None) -> Settings | None:
    """The configuration that is named; None where none is."""
    if job is None and collector is None and named_config(config, os.environ) is None:
        return None
    return read_settings(config, job=job, collector=collector, for_reading=True)


def _lacks_of(library: Library, settings: DetectionsSection) -> Mapping[str, Sequence[str]]:
    """What the rules go without; what cannot be read is said, and gone without as if it were not named."""
    from m365watch.detection.enrichment.missing_sources import all_lacks
    from m365watch.detection.factory import knowledge_of

    return all_lacks(library.rules, knowledge_of(tell_unreadable(settings)))


def _is_about(rule: Rule, text: str) -> bool:
    return any(
        text in name.lower() for name in (*rule.names, *rule.techniques, *rule.tactics, rule.description)
    )


rules.command("export")(export)
