"""`m365watch quarantine`: what could not go on, by name, and its bytes on request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.blobs import FeedOption, LimitOption, say_if_cut
from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal import stdout_console, write_line

if TYPE_CHECKING:
    from m365watch.config.settings import Settings


def quarantine(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    feed: FeedOption = "",
    limit: LimitOption = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, without bytes.")] = False,
    show: Annotated[
        int | None,
        typer.Option("--show", metavar="ID", help="Write this piece's own bytes to stdout.", min=1),
    ] = None,
) -> None:
    """List the pieces that are kept in quarantine, the latest first; with --show take one out.

    A piece is a record that an output refused, bytes of a blob that are no record, or a whole body that
    cannot be read. It is kept byte for byte. On a terminal, --show replaces control characters; into a
    file or a pipe the bytes go as they are: `m365watch quarantine --config FILE --show 7 > piece-7`.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    if show is None:
        _list(settings, feed=feed, limit=limit, as_json=as_json)
    else:
        _show(settings, show)


def _list(settings: Settings, *, feed: str, limit: int, as_json: bool) -> None:
    from m365watch.cli.blobs_view import pieces_page
    from m365watch.cli.documents import as_json as to_json
    from m365watch.cli.documents import quarantine_document
    from m365watch.clock import SystemClock
    from m365watch.inspection import find_pieces

    found = find_pieces(settings, feed_part=feed, count_max=limit)
    if as_json:
        write_line(to_json(quarantine_document(found, now=SystemClock().now())))
    else:
        stdout_console().print(pieces_page(found), crop=False)
    say_if_cut(len(found.pieces), found.total)


def _show(settings: Settings, number: int) -> None:
    from m365watch.cli.blobs_view import readable
    from m365watch.inspection import read_piece

    body = read_piece(settings, number)
    if body is None:
        raise typer.BadParameter(f"there is no piece {number} in quarantine; without --show all are listed")
    if sys.stdout.isatty():
        write_line(readable(body))
        sys.stderr.write("control characters are not shown as they are; redirect stdout for the very bytes\n")
    else:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
