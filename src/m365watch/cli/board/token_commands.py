"""`m365watch board token`: who else may read the API, and until when."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m365watch.board.access.roles import SAYS, Scope
from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, JsonOption, read_settings
from m365watch.cli.tenants.tenant_selection import configured_tenants
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.this_user import this_user

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from m365watch.board.access.api_tokens import ApiTokens, KeptToken

DAYS = 90
DAYS_MAX = 3_650
ScopeOption = Annotated[
    list[Scope] | None,
    typer.Option(
        "--scope",
        "-s",
        metavar="SCOPE",
        help="What it is good for; may be repeated: "
        + "; ".join(f"{one} ({SAYS[one]})" for one in Scope)
        + ". Left out: read.",
        show_default=False,
    ),
]
TenantOption = Annotated[
    list[str] | None,
    typer.Option("--tenant", metavar="ID", help="Only for this tenant; may be repeated. Left out: for all."),
]
ContentsOption = Annotated[
    bool,
    typer.Option(
        "--contents/--no-contents",
        help="Whether it is shown subjects, names of files, texts and raw records, or only who did what.",
        show_default=False,
    ),
]
DaysOption = Annotated[
    int, typer.Option("--days", metavar="N", min=1, max=DAYS_MAX, help="It expires after so many days.")
]

token = typer.Typer(
    help=(
        "Make tokens with which programs use the board's API, list them, and revoke them.\n\n"
        "They are kept as digests in the state directory, and count at once, also while the board runs."
    ),
    rich_markup_mode=None,
    no_args_is_help=True,
)


@token.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called: the program it is for.")],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    scope: ScopeOption = None,
    tenant: TenantOption = None,
    contents: ContentsOption = True,
    days: DaysOption = DAYS,
    as_json: JsonOption = False,
) -> None:
    """Make a token, and print it: it is shown this once, and kept nowhere.

    A program sends it as `Authorization: Bearer TOKEN`. With --json the document has it under `token`.

    Exit codes: 0 done; 1 there is one of that name already; 2 the configuration or an option is wrong.
    """
    from m365watch.board.access.api_tokens import TokenWanted
    from m365watch.common.clock import SystemClock

    _require_name(name)
    tokens, known = _opened(config or context.obj, job, collector_file)
    now = SystemClock().now().replace(microsecond=0)
    text, kept = tokens.create(
        TokenWanted(
            name=name,
            scopes=tuple(dict.fromkeys(scope or [Scope.READ])),
            tenants=configured_tenants(tenant, known) or None,
            created_by=this_user(),
            expires_at=now + timedelta(days=days),
            contents=contents,
        ),
        now,
    )
    if as_json:
        _print_json({"token": text, **_document(kept, now)})
        return
    write_line(text)
    said = f"{_what_for(kept)}; until {kept.expires_at:%Y-%m-%d}. It is not shown again.\n"
    sys.stderr.write(said)


@token.command("list")
def list_tokens(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tokens: what each is good for, for which tenants, and until when.

    Exit codes: 0 done; 1 they cannot be read; 2 the configuration is wrong.
    """
    from m365watch.common.clock import SystemClock

    tokens, _ = _opened(config or context.obj, job, collector_file)
    now, found = SystemClock().now(), tokens.kept()
    if as_json:
        _print_json({"tokens": [_document(one, now) for one in found]})
    else:
        stdout_console().print(_page(found, now), crop=False)


@token.command()
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The token's name, or its id.")],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a token: the next request with it is refused.

    Exit codes: 0 done; 1 there is no such token; 2 the configuration is wrong.
    """
    from m365watch.common.clock import SystemClock

    tokens, _ = _opened(config or context.obj, job, collector_file)
    gone = tokens.revoke(name)
    if as_json:
        _print_json({"revoked": _document(gone, SystemClock().now())})
    else:
        write_line(f"revoked: {gone.name} ({gone.id})")


def _opened(config: Any, job: Any, collector_file: Any) -> tuple[ApiTokens, frozenset[str]]:
    """The tokens, and the tenants of the configuration."""
    from m365watch.board.access.api_tokens import ApiTokens

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    known = frozenset(one.tenant_id.lower() for one in settings.tenants)
    return ApiTokens(settings.state_directory), known


def _require_name(name: str) -> None:
    from m365watch.board.access.api_tokens import NAME_LENGTH_MAX

    if not name.strip() or not name.isprintable() or len(name) > NAME_LENGTH_MAX:
        raise typer.BadParameter(f"NAME: 1 to {NAME_LENGTH_MAX} characters that can be printed")


def _what_for(kept: KeptToken) -> str:
    tenants = "all tenants" if kept.tenants is None else ", ".join(kept.tenants)
    return f"{kept.name}: {', '.join(kept.scopes)}; {tenants}"


def _page(found: Sequence[KeptToken], now: datetime) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from m365watch.common.text import plain

    if not found:
        return Text("no tokens; make one: m365watch board token create NAME")
    table = Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for heading in ("name", "id", "good for", "tenants", "made", "until"):
        table.add_column(heading, overflow="fold")
    for one in found:
        until = f"{one.expires_at:%Y-%m-%d}"
        table.add_row(
            Text(plain(one.name), style="bold"),
            Text(one.id),
            Text(", ".join(one.scopes) + ("" if one.contents else "; no contents")),
            Text("all" if one.tenants is None else "\n".join(one.tenants)),
            Text(f"{one.created_at:%Y-%m-%d} by {plain(one.created_by)}"),
            Text(until) if one.is_in_force(now) else Text(f"{until}, expired", style="red"),
        )
    return table


def _document(kept: KeptToken, now: datetime) -> dict[str, Any]:
    from m365watch.cli.terminal.json_output import instant

    return {
        "id": kept.id,
        "name": kept.name,
        "scopes": [str(one) for one in kept.scopes],
        "tenants": None if kept.tenants is None else list(kept.tenants),
        "created_at": instant(kept.created_at),
        "created_by": kept.created_by,
        "contents": kept.contents,
        "expires_at": instant(kept.expires_at),
        "expired": not kept.is_in_force(now),
    }


def _print_json(document: dict[str, Any]) -> None:
    from m365watch.cli.terminal.json_output import SCHEMA
    from m365watch.cli.terminal.json_output import as_json as to_json

    write_line(to_json({"schema": SCHEMA, **document}))
