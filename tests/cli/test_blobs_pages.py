"""Blobs and pieces as `m365watch blobs` and `m365watch quarantine` show them."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console, RenderableType

from m365watch.cli.feeds.blobs_view import blobs_page, pieces_page
from m365watch.common.model import BlobState
from m365watch.ledger.quarantine import BlobsFound, NamedBlob, PiecesFound
from run_figures import BLOB, EXCHANGE, NOW, PIECE


def drawn(page: RenderableType) -> list[str]:
    """The lines of the page on a narrow terminal."""
    console = Console(width=40, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(page, crop=False)
    return capture.get().splitlines()


def course(blob: NamedBlob) -> str:
    """The line that says how the blob came to where it stands."""
    return drawn(blobs_page(BlobsFound([blob], 1)))[3]


def test_a_blob_has_four_lines_that_are_left_whole() -> None:
    """State and feed; name; times; course. A name that is broken cannot be copied."""
    blob = replace(BLOB, content_id="x" * 100)

    assert drawn(blobs_page(BlobsFound([blob], 1))) == [
        f"waiting  {EXCHANGE}",
        f"  {'x' * 100}",
        "  created 2026-11-24 12:00:00Z, served until 2026-12-01 12:00:00Z",
        "  not fetched yet",
        "hint: waiting: m365watch keeps trying",
    ]


def test_every_state_has_its_course() -> None:
    """Each says what there is to know, in its own words."""
    tried = replace(BLOB, attempts=1, next_try_at=NOW, reason="HTTP 503")
    done = replace(BLOB, state=BlobState.DELIVERED, records=2, duplicates=1, finished_at=NOW)
    lost = replace(BLOB, state=BlobState.LOST, reason="AF20051", finished_at=NOW)

    assert course(tried) == "  1 try, next at 2026-11-24 12:00:00Z; HTTP 503"
    assert (
        course(replace(BLOB, missing_outputs=("a", "b"))) == "  not in a, b yet, where other outputs have it"
    )
    assert course(done) == "  delivered 2026-11-24 12:00:00Z: 2 records, 1 duplicate left out"
    assert course(lost) == "  lost 2026-11-24 12:00:00Z: AF20051"


def test_a_cure_that_blobs_share_is_told_once() -> None:
    """A hundred blobs may wait for one permission."""
    blob = replace(BLOB, feed_fix="grant it")

    lines = drawn(blobs_page(BlobsFound([blob, blob, replace(BLOB, missing_outputs=("lake",))], 3)))

    assert [line for line in lines if line.startswith("hint")] == [
        "hint: waiting: grant it",
        "hint: waiting: see what the running collector says of the output lake",
    ]


def test_a_piece_says_who_refused_it_and_where_it_came_from() -> None:
    """Or that the blob it came with is forgotten."""
    forgotten = replace(PIECE, feed=None, content_id=None, created_at=None, blob_state=None, output="")

    lines = drawn(pieces_page(PiecesFound([PIECE, forgotten], 2)))

    assert lines == [
        "7  1 byte, refused by the output files: a line break",
        f"  {EXCHANGE}",
        "  20261124$a$b",
        "  created 2026-11-24 12:00:00Z, its blob is delivered",
        "  kept 2026-11-24 12:00:00Z",
        "7  1 byte, not a record: a line break",
        "  kept 2026-11-24 12:00:00Z; its blob is forgotten",
        "hint: `quarantine show ID` writes the bytes of a piece to stdout",
    ]


def test_where_nothing_is_set_aside_the_page_says_so() -> None:
    """An empty answer is an answer."""
    assert drawn(blobs_page(BlobsFound([], 0))) == ["no blob is like that"]
    assert drawn(pieces_page(PiecesFound([], 0))) == ["nothing is in quarantine"]
