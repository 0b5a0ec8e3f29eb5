"""`m365watch quarantine`: what could not go on, by name, and its bytes on request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.feeds.blob_commands import FeedOption, LimitOption, require_feed, say_if_cut
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.terminal.prompts import require_yes

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings


quarantine = typer.Typer(
    help=(
        "List what is kept in quarantine, show a piece, have blobs fetched again, or drop pieces.\n\n"
        "A piece is a record that an output refused, bytes of a blob that are no record, or a whole body"
        " that cannot be read. It is kept byte for byte. Without a command, the pieces are listed."
    ),
    rich_markup_mode=None,
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, without bytes.")]
NumbersArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", min=1, help="The pieces' numbers.", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them.")]


@quarantine.callback(invoke_without_command=True)
def list_or_go_on(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    feed: FeedOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    show_number: Annotated[
        int | None,
        typer.Option("--show", metavar="ID", help="As the command show.", min=1),
    ] = None,
) -> None:
    """List the pieces, or take one out, where no command is named."""
    if context.invoked_subcommand is not None:
        _refuse_options_before_command(context)
        context.obj = config
        return
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    if show_number is None:
        _list(settings, feed=feed, limit=limit, as_json=as_json)
    else:
        _show(settings, show_number)


@quarantine.command("list")
def list_pieces(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    feed: FeedOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the pieces that are kept, the latest first.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    settings = read_settings(config or context.obj, job=job, collector=collector_file, for_reading=True)
    _list(settings, feed=feed, limit=limit, as_json=as_json)


@quarantine.command("show")
def show_piece(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="The piece's number.")],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
) -> None:
    """Write a piece's own bytes to stdout.

    On a terminal, control characters are replaced; into a file or a pipe the bytes go as they are:
    `m365watch quarantine show --config FILE 7 > piece-7`.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    settings = read_settings(config or context.obj, job=job, collector=collector_file, for_reading=True)
    _show(settings, number)


@quarantine.command("retry")
def retry_blobs(
    context: typer.Context,
    numbers: NumbersArgument = None,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    everything: AllOption = False,
    feed: FeedOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put quarantined blobs back, so that the next `m365watch run` fetches them again.

    Those of the pieces that are named, those of --feed, or --all. For when the cause is gone, such as a
    proxy that changed what it passed on. No record of such a blob has been delivered, so none arrives twice;
    the pieces that are kept of it stay. Left alone are blobs that the service no longer serves, the rare one
    whose records are in one of several outputs, and those that were delivered but for a piece.

    Exit codes: 0 done; 1 failed; 2 the configuration or the call is wrong; 4 a collector is running: stop it
    first.
    """
    from m365watch.cli.terminal.formatting import count
    from m365watch.cli.terminal.json_output import done_document
    from m365watch.health.collector_status import count_meant, retry_quarantined
    from m365watch.ledger.quarantine import PiecesAsked

    _require_choice(numbers, feed=feed, everything=everything)
    settings = read_settings(config or context.obj, job=job, collector=collector_file, for_reading=True)
    require_feed(settings, feed)
    for number in numbers or ():
        if not count_meant(settings, PiecesAsked((number,)))[0]:
            raise typer.BadParameter(_no_piece(number))
    done = retry_quarantined(settings, feed_part=feed, numbers=numbers or ())
    if as_json:
        write_line(done_document(waiting=done.waiting, left=done.left))
        return
    left = f"; {done.left:,} left in quarantine, expired or delivered in part" if done.left else ""
    again = f"{count(done.waiting, 'blob')} will be fetched again by the next `m365watch run`"
    write_line((again if done.waiting else "no blob to fetch again") + (left or _why_none(done.waiting)))


@quarantine.command("drop")
def drop(
    context: typer.Context,
    numbers: NumbersArgument = None,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    everything: AllOption = False,
    feed: FeedOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove pieces from quarantine for good: those that are named, those of --feed, or --all.

    Their bytes are gone then, and nothing else is changed: a blob in quarantine stays so, and `status` says
    how many pieces were ever dropped. It asks before; works while `m365watch run` is running.

    Exit codes: 0 done; 1 failed, or you said no; 2 the configuration or the call is wrong.
    """
    from m365watch.cli.terminal.formatting import count
    from m365watch.cli.terminal.json_output import done_document
    from m365watch.health.collector_status import count_meant, drop_quarantined
    from m365watch.ledger.quarantine import PiecesAsked

    _require_choice(numbers, feed=feed, everything=everything)
    settings = read_settings(config or context.obj, job=job, collector=collector_file, for_reading=True)
    asked = PiecesAsked(tuple(numbers or ()), feed_part=feed)
    pieces, size_bytes = count_meant(settings, asked)
    if not pieces:
        raise typer.BadParameter("there is no such piece in quarantine")
    if not yes:
        require_yes(f"Remove {count(pieces, 'piece')} ({size_bytes:,} bytes) for good?")
    dropped = drop_quarantined(settings, asked)
    write_line(
        done_document(dropped=dropped) if as_json else f"{count(dropped, 'piece')} dropped from quarantine"
    )


def _require_choice(numbers: list[int] | None, *, feed: str, everything: bool) -> None:
    """Nothing, where it is said in one way which pieces are meant."""
    if sum((bool(numbers), bool(feed), everything)) != 1:
        raise typer.BadParameter("name pieces by their numbers, or give --feed TEXT, or --all")


def _why_none(waiting: int) -> str:
    """Nothing where some blob waits; else that no other blob would do."""
    if waiting:
        return ""
    return (
        ": none of these pieces has a blob in quarantine; of one that was delivered otherwise, "
        "`quarantine show ID` writes the bytes"
    )


def _no_piece(number: int) -> str:
    return f"there is no piece {number} in quarantine; `quarantine list` names all"


def _refuse_options_before_command(context: typer.Context) -> None:
    """Nothing, where only --config stands before the command: what else stands there would not count."""
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if option.name != "config" and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{option.opts[-1]} goes behind {context.invoked_subcommand}")


def _list(settings: Settings, *, feed: str, limit: int, as_json: bool) -> None:
    from m365watch.cli.feeds.blobs_view import pieces_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.cli.terminal.json_output import quarantine_document
    from m365watch.common.clock import SystemClock
    from m365watch.health.collector_status import find_pieces

    require_feed(settings, feed)
    found = find_pieces(settings, feed_part=feed, count_max=limit)
    if as_json:
        write_line(to_json(quarantine_document(found, now=SystemClock().now())))
    else:
        stdout_console().print(pieces_page(found), crop=False)
    say_if_cut(len(found.pieces), found.total)


def _show(settings: Settings, number: int) -> None:
    from m365watch.cli.feeds.blobs_view import readable
    from m365watch.health.collector_status import read_piece

    body = read_piece(settings, number)
    if body is None:
        raise typer.BadParameter(_no_piece(number))
    if sys.stdout.isatty():
        write_line(readable(body))
        sys.stderr.write("control characters are not shown as they are; redirect stdout for the very bytes\n")
    else:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
