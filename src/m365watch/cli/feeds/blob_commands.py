"""`m365watch blobs` and `m365watch retry`: blobs by name, and those that wait made due."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.common.model import BlobState

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings

FEEDS_NAMED_MAX = 10
"""Feeds that a mistake in --feed names, of those there are."""
NOT_DELIVERED = tuple(state for state in BlobState if state is not BlobState.DELIVERED)

FeedOption = Annotated[
    str,
    typer.Option(
        "--feed", metavar="TEXT", help="Only feeds whose name (TENANT/Audit.Exchange) has TEXT in it."
    ),
]

LimitOption = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most so many of them.")
]


def blobs(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    state: Annotated[
        list[BlobState] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="Only waiting, queued, left-out, quarantined, lost or delivered ones; may be repeated.",
            show_default=False,
        ),
    ] = None,
    feed: FeedOption = "",
    limit: LimitOption = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Name the blobs that are not delivered: why, and what to do.

    Waiting ones are still to be fetched, queued ones are in the queue of an output that cannot take them,
    left-out ones found that queue full; the others are quarantined or lost.

    Reads the ledger only, so it is free to use while `m365watch run` is running. A blob that was
    delivered or lost is forgotten 15 days after it was created; the counts of `status` stay.
    """
    from m365watch.cli.feeds.blobs_view import blobs_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.cli.terminal.json_output import blobs_document
    from m365watch.common.clock import SystemClock
    from m365watch.health.collector_status import find_blobs
    from m365watch.ledger.quarantine import BlobsAsked

    asked = BlobsAsked(frozenset(state or NOT_DELIVERED), feed_part=feed, count_max=limit)
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    require_feed(settings, feed)
    found = find_blobs(settings, asked)
    if as_json:
        write_line(to_json(blobs_document(found, now=SystemClock().now())))
    else:
        stdout_console().print(blobs_page(found), crop=False)
    say_if_cut(len(found.blobs), found.total)


def retry(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    feed: FeedOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make the blobs that wait after a failed try due now, in place of after their pause.

    For when the cause is gone, such as a network that works again. A collector that is running takes
    them up within 30 seconds, otherwise the next `m365watch run` does. Quarantined blobs are put back by
    `m365watch quarantine retry`.

    Exit codes: 0 done; 1 failed; 2 the configuration or the call is wrong.
    """
    from m365watch.cli.terminal.formatting import count
    from m365watch.cli.terminal.json_output import done_document
    from m365watch.health.collector_status import hasten_waiting

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    require_feed(settings, feed)
    hastened = hasten_waiting(settings, feed_part=feed)
    if as_json:
        write_line(done_document(due=hastened))
        return
    due = f"{count(hastened, 'blob')} due now: a running collector fetches within 30 s, or else the next run"
    write_line(due if hastened else "no blob waits for a later try")


def require_feed(settings: Settings, feed_part: str) -> None:
    """Nothing, where some feed has `feed_part` in its name: what names none would find nothing, ever.

    Raises: typer.BadParameter: there is none.
    """
    from m365watch.health.collector_status import feeds_named

    if not feed_part:
        return
    named, every = feeds_named(settings, feed_part=feed_part)
    if not named:
        more = f" and {len(every) - FEEDS_NAMED_MAX:,} more" if len(every) > FEEDS_NAMED_MAX else ""
        there = ", ".join(map(str, every[:FEEDS_NAMED_MAX]))
        raise typer.BadParameter(f"--feed {feed_part}: no feed is named so; there are {there}{more}")


def say_if_cut(shown: int, total: int) -> None:
    """On stderr, how many there are beyond those shown."""
    if shown < total:
        first, are = ("", "is") if shown == 1 else (f" {shown:,}", "are")
        sys.stderr.write(f"only the first{first} of {total:,} {are} shown; --limit N shows more\n")
