"""`m365watch rules export`: the rules in the words of other products."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption
from m365watch.cli.failures import EXIT_FAILED
from m365watch.cli.terminal import plain, stderr_console, write_line

if TYPE_CHECKING:
    from m365watch.detect.library import Library
    from m365watch.detect.rule import Rule
    from m365watch.shipping.devo.export import Export, Exported

TARGETS = ("devo",)
STDOUT = "-"
_FOREIGN = re.compile(r"[^a-z0-9]+")


def export(
    target: Annotated[str, typer.Option("--to", metavar="PRODUCT", help="devo")],
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
        str, typer.Option("--output", metavar="DIRECTORY", help="Where files are written; - for stdout.")
    ] = STDOUT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write the rules in the words of another product.

    For Devo each becomes a LINQ query over its tables of Microsoft 365 and a definition for its Alerts
    API, with the kind of trigger and the columns that its words name. A rule that Devo has no words for is
    named with the reason, and not exported in part. `accepted_domains` and such are written into the queries.

    With --output a folder gets two files for each alert: NAME.linq, and NAME.json, the body for the API.
    Exit codes: 0 done; 1 none of the rules could be exported; 2 there is no such rule, or the configuration
    is wrong.
    """
    from m365watch.cli.rules import library_of, settings_of
    from m365watch.detecting import knowledge_of
    from m365watch.shipping.devo.export import export_rules

    if target not in TARGETS:
        raise typer.BadParameter(f"--to: there is no {target}; it is {' or '.join(TARGETS)}")
    library = library_of(config, job, collector_file, directories)
    chosen = _chosen(library, packs or [], names or [])
    knowledge = knowledge_of(settings_of(config, job, collector_file))
    found = export_rules(chosen, every=library.by_id(), knowledge=knowledge)
    if as_json:
        write_line(_json(found))
    elif output == STDOUT:
        for one in found.exported:
            write_line(_as_text(one))
    else:
        _write_files(Path(output), found)
    if not as_json:
        _tell(found, output)
    raise typer.Exit(0 if found.exported else EXIT_FAILED)


def _chosen(library: Library, packs: Sequence[str], names: Sequence[str]) -> list[Rule]:
    """The rules that are asked for, all of them where none is named."""
    from m365watch.detect.library import list_packs

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
            raise typer.BadParameter(f"there is no rule {name}; `m365watch rules list --all` names all")
        wanted |= found
    if not any(rule.alerts for rule in wanted.values()):
        raise typer.BadParameter("what is named makes no alerts and only serves other rules")
    return list(wanted.values())


def _as_text(one: Exported) -> str:
    """A query below what there is to say of it, as comments."""
    definition = one.definition
    trigger = definition.trigger.document()
    numbers = ", ".join(f"{key} {value}" for key, value in trigger.items() if key != "kind")
    lines = [
        definition.name,
        f"alert: {definition.headline}",
        f"kind {trigger['kind']}" + (f": {numbers}" if numbers else "") + f"; priority {definition.priority}",
        *(f"unlike here: {difference}" for difference in one.differences),
    ]
    return "\n".join([*(f"// {plain(line)}" for line in lines), definition.query, ""])


def _write_files(directory: Path, found: Export) -> None:
    import json

    from m365watch.entra.new_files import PUBLIC, NewFile, write_new_files

    files = []
    for one in found.exported:
        stem = directory / file_stem(one.rule)
        body = json.dumps(one.definition.document(), indent=2, ensure_ascii=False) + "\n"
        files.append(NewFile(stem.with_suffix(".linq"), _as_text(one).encode(), PUBLIC))
        files.append(NewFile(stem.with_suffix(".json"), body.encode(), PUBLIC))
    if files:
        write_new_files(files, replaces=True)


def file_stem(rule: Rule) -> str:
    """A name for the rule's files: its own, or one made of its title and id, so that no two are the same."""
    own = _FOREIGN.sub("_", rule.name.lower()).strip("_")
    if own:
        return own
    return f"{_FOREIGN.sub('_', rule.title.lower()).strip('_')[:60]}_{rule.id[:8]}"


def _tell(found: Export, output: str) -> None:
    """What was and what was not exported, on stderr."""
    from m365watch.cli.render import count

    console = stderr_console()
    for one in found.unsaid:
        console.print(plain(f"not exported: {_called(one.rule)}: {one.reason}"), soft_wrap=True, markup=False)
    place = "" if output == STDOUT else f" to {output}"
    left = f"; {len(found.unsaid):,} cannot be said there" if found.unsaid else ""
    console.print(
        plain(f"{count(len(found.exported), 'alert')} exported{place}{left}"), soft_wrap=True, markup=False
    )


def _called(rule: Rule) -> str:
    return f"{rule.extension.detection} {rule.title}".strip()


def _json(found: Export) -> str:
    from m365watch.cli.documents import as_json

    return as_json(export_document(found))


def export_document(found: Export) -> Mapping[str, Any]:
    """What `rules export --to devo --json` prints."""
    from m365watch.cli.documents import SCHEMA

    return {
        "schema": SCHEMA,
        "alerts": [
            {
                "rule": one.rule.id,
                "detection": one.rule.extension.detection,
                "kind": one.definition.trigger.document()["kind"],
                "query": one.definition.query,
                "definition": one.definition.document(),
                "unlike_here": list(one.differences),
            }
            for one in found.exported
        ],
        "not_exported": [
            {
                "rule": one.rule.id,
                "detection": one.rule.extension.detection,
                "title": one.rule.title,
                "reason": one.reason,
            }
            for one in found.unsaid
        ],
    }
