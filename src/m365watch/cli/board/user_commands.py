"""`m365watch board user`: who may sign in to the board with a password."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, JsonOption, read_settings
from m365watch.cli.tenants.tenant_selection import configured_tenants
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.common.errors import NeedsOperator

if TYPE_CHECKING:
    from rich.console import RenderableType

    from m365watch.board.access.local_users import User, Users

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What they sign in as.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]
TenantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tenant",
        metavar="GUID",
        help="A tenant whose records they see, and no others; may be repeated. Left out: all.",
        show_default=False,
    ),
]
ContentsOption = Annotated[
    bool | None,
    typer.Option(
        "--contents/--no-contents",
        help="Whether they see subjects, names of files, texts and raw records, or only who did what.",
        show_default=False,
    ),
]

user = typer.Typer(
    help=(
        "Say who may sign in to the board with a password, and what they may do and see.\n\n"
        "They are kept in the state directory, passwords as argon2id hashes. Changes count at once, also"
        " while the board runs: whoever is removed or changed is signed out."
    ),
    rich_markup_mode=None,
    no_args_is_help=True,
)


class RoleName(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    ADMIN = "admin"


@user.command()
def add(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    role: Annotated[
        RoleName,
        typer.Option(
            "--role",
            help="viewer: sees; analyst: also changes alerts, exports and asks; admin: also configures.",
        ),
    ] = RoleName.VIEWER,
    tenant: TenantOption = None,
    contents: ContentsOption = None,
    password_stdin: StdinOption = False,
) -> None:
    """Add a user; for one who is there already, see `change` and `password`.

    Exit codes: 0 done; 1 there is one of that name, or the password will not do; 2 usage or configuration.
    """
    from m365watch.board.access.local_users import User, fault_of_name

    if (fault := fault_of_name(name)) is not None:
        raise typer.BadParameter(fault)
    users, known = _opened(context, config, job, collector_file)
    tenants = configured_tenants(tenant, known)
    if users.find(name) is not None:
        raise NeedsOperator(
            f"there is a user {name} already",
            fix=f"change them: m365watch board user change {name}, or: ... password {name}",
        )
    hashed = _hash_of(name, from_stdin=password_stdin)
    users.put(User(name, role, hashed, tenants, contents is not False))
    sys.stderr.write(f"{name} may sign in as {role}\n")


@user.command()
def change(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    role: Annotated[
        RoleName | None, typer.Option("--role", help="Their new role.", show_default=False)
    ] = None,
    tenant: TenantOption = None,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="They see every tenant again.")] = False,
    contents: ContentsOption = None,
) -> None:
    """Change what a user may do or see; what is left out stays. They are signed out.

    Exit codes: 0 done; 1 there is no such user; 2 the configuration is wrong.
    """
    from msgspec.structs import replace

    if tenant and all_tenants:
        raise typer.BadParameter("--tenant and --all-tenants do not go together")
    users, known = _opened(context, config, job, collector_file)
    old = _existing(users, name)
    tenants = () if all_tenants else configured_tenants(tenant, known) if tenant else old.tenants
    new = replace(
        old,
        role=role or old.role,
        tenants=tenants,
        contents=old.contents if contents is None else contents,
    )
    users.put(new)
    sys.stderr.write(f"{old.name}: {_rights(new)}\n")


@user.command()
def password(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    password_stdin: StdinOption = False,
) -> None:
    """Give a user another password. They are signed out.

    Exit codes: 0 done; 1 there is no such user, or the password will not do; 2 the configuration is wrong.
    """
    from msgspec.structs import replace

    users = _users(context, config, job, collector_file)
    old = _existing(users, name)
    hashed = _hash_of(old.name, from_stdin=password_stdin)
    users.put(replace(old, hash=hashed))
    sys.stderr.write(f"{old.name} has another password\n")


@user.command()
def remove(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
) -> None:
    """Remove a user. They are signed out.

    Exit codes: 0 done; 1 there is no such user; 2 the configuration is wrong.
    """
    users = _users(context, config, job, collector_file)
    old = _existing(users, name)
    users.remove(old.name)
    sys.stderr.write(f"{old.name} is removed\n")


@user.command("list")
def list_users(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the users, and what they may do and see.

    Exit codes: 0 done; 1 they cannot be read; 2 the configuration is wrong.
    """
    from m365watch.cli.terminal.json_output import as_json as to_json

    found = _users(context, config, job, collector_file).list()
    if as_json:
        write_line(to_json({"users": [_document(one) for one in found]}))
    else:
        stdout_console().print(_page(found), crop=False)


def _users(context: typer.Context, config: Path | None, job: Path | None, collector: Path | None) -> Users:
    return _opened(context, config, job, collector)[0]


def _opened(
    context: typer.Context, config: Path | None, job: Path | None, collector: Path | None
) -> tuple[Users, frozenset[str]]:
    """The users, and the tenants of the configuration."""
    from m365watch.board.access.local_users import Users
    from m365watch.cli.board.board_packages import require_board

    require_board()
    named = config or context.obj
    settings = read_settings(named, job=job, collector=collector, for_reading=True)
    return Users(settings.state_directory), frozenset(one.tenant_id.lower() for one in settings.tenants)


def _existing(users: Users, name: str) -> User:
    found = users.find(name)
    if found is None:
        raise NeedsOperator(f"there is no user {name}", fix="see who there is: m365watch board user list")
    return found


def _hash_of(name: str, *, from_stdin: bool) -> str:
    """The hash of a password that is asked for twice, or read from standard input."""
    from m365watch.board.access.passwords import Passwords, fault_of

    if from_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        given = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("Once more: ") != given:
            raise NeedsOperator("the two passwords differ", fix="begin again")
    else:
        raise NeedsOperator("there is no terminal to ask for a password at", fix="use --password-stdin")
    if (fault := fault_of(given, name=name)) is not None:
        raise NeedsOperator(fault, fix="choose another one")
    return Passwords().hashed(given)


def _rights(one: User) -> str:
    contents = "" if one.contents else ", without contents"
    tenants = f", {len(one.tenants)} tenant{'' if len(one.tenants) == 1 else 's'} only" if one.tenants else ""
    return f"{one.role}{contents}{tenants}"


def _document(one: User) -> dict[str, object]:
    return {
        "name": one.name,
        "role": one.role,
        "tenants": list(one.tenants) or None,
        "contents": one.contents,
    }


def _page(found: Sequence[User]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if not found:
        return Text("Nobody can sign in with a password yet: m365watch board user add NAME")
    table = Table(box=None, pad_edge=False, header_style="")
    for heading in ("NAME", "ROLE", "CONTENTS", "TENANTS"):
        table.add_column(heading, overflow="fold")
    for one in found:
        table.add_row(one.name, one.role, "yes" if one.contents else "no", ", ".join(one.tenants) or "all")
    return table
