"""`m365watch enrich`: what your tables and lists say of an address, a person, a domain or a hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption
from m365watch.cli.terminal.console import stderr_console, stdout_console, write_line
from m365watch.cli.terminal.error_output import EXIT_FAILED
from m365watch.common.text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from m365watch.detection.enrichment.entity_facts import Told

CommandValue = Annotated[
    str, typer.Argument(metavar="VALUE", help="An address, a user, a domain, a hash or an application id.")
]


def enrich(
    value: CommandValue,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what rules know of an address, a person, a domain or a hash, and out of which file.

    That is what the tables and lists of `detections.enrich` say, and the settings. A file that cannot be read
    is told on stderr. Exit codes: 0 something is known; 1 nothing is; 2 the configuration is wrong.
    """
    from m365watch.cli.rules.rule_library import settings_of
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.detection.enrichment.context_loader import troubles_of
    from m365watch.detection.enrichment.entity_facts import tell_of
    from m365watch.detection.factory import knowledge_of

    knowledge = knowledge_of(settings_of(config, job, collector_file))
    told = tell_of(value, knowledge)
    troubles = troubles_of(knowledge)
    if as_json:
        write_line(to_json(_document(told, troubles)))
    else:
        for trouble in troubles:
            stderr_console().print(plain(trouble), soft_wrap=True, markup=False)
        stdout_console().print(_page(told), crop=False)
    raise typer.Exit(0 if told.facts else EXIT_FAILED)


def _page(told: Told) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    title = Text(plain(told.value), style="bold")
    if not told.facts:
        return Group(title, Text("nothing is known of it; detections.enrich names tables and lists"))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for fact in told.facts:
        table.add_row(fact.words, Text(plain(fact.value)), fact.field, Text(plain(fact.source)))
    return Group(title, table)


def _document(told: Told, troubles: list[str]) -> dict[str, Any]:
    from m365watch.cli.terminal.json_output import SCHEMA

    return {
        "schema": SCHEMA,
        "value": told.value,
        "kind": told.kind,
        "known": [
            {"field": fact.field, "words": fact.words, "value": fact.value, "source": fact.source}
            for fact in told.facts
        ],
        "troubles": troubles,
    }
