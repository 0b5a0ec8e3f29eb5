"""Blobs and quarantined pieces as a person reads them: a few lines each, left to the terminal to wrap.

A line break of ours would get into a content id that is copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from m365watch.cli.terminal.formatting import count, cure_of, moment, quoted, whole_line
from m365watch.common.model import BlobState
from m365watch.common.progress import RETRIED
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.ledger.quarantine import BlobsFound, KeptPiece, NamedBlob, PiecesFound

_STYLES = {BlobState.WAITING: "yellow", BlobState.QUARANTINED: "red", BlobState.LOST: "bold red"}


def blobs_page(found: BlobsFound) -> Group:
    """Each blob with its times and its reason; at the end, once each, what a person can do."""
    if not found.blobs:
        return Group(Text("no blob is like that", style="dim"))
    cures = dict.fromkeys((blob.state, _cure(blob)) for blob in found.blobs)
    hints = [whole_line(f"hint: {state}: {plain(cure)}") for state, cure in cures if cure]
    return Group(*(part for blob in found.blobs for part in _blob_lines(blob)), *hints)


def _cure(blob: NamedBlob) -> str | None:
    patience = RETRIED if blob.state is BlobState.WAITING else None
    return cure_of(blob) or patience


def _blob_lines(blob: NamedBlob) -> list[Text]:
    head = Text.assemble((f"{blob.state}", _STYLES.get(blob.state, "green")), f"  {blob.feed}")
    times = f"created {moment(blob.created_at)}, served until {moment(blob.expires_at)}"
    return [whole_line(head), *_below(plain(blob.content_id), times, _course(blob))]


def _course(blob: NamedBlob) -> str:
    """How the blob came to where it stands."""
    reason = quoted(blob.reason) if blob.reason else None
    match blob.state:
        case BlobState.WAITING if blob.missing_outputs:
            return f"not in {', '.join(blob.missing_outputs)} yet, where other outputs have it"
        case BlobState.WAITING if blob.next_try_at is None:
            return "not fetched yet"
        case BlobState.WAITING:
            tries = count(blob.attempts, "try", "tries")
            return f"{tries}, next at {moment(blob.next_try_at)}; {reason}"
        case BlobState.QUEUED:
            return f"in the queue of the output {', '.join(blob.missing_outputs)}"
        case BlobState.LEFT_OUT:
            return f"owed to the output {', '.join(blob.missing_outputs)}, whose queue was full"
        case BlobState.DELIVERED:
            records, duplicates = count(blob.records or 0, "record"), count(blob.duplicates or 0, "duplicate")
            return f"delivered {moment(blob.finished_at)}: {records}, {duplicates} left out"
        case _:
            return f"{blob.state} {moment(blob.finished_at)}: {reason}"


def pieces_page(found: PiecesFound) -> Group:
    """Each piece with its size, its reason and the blob it came with."""
    if not found.pieces:
        return Group(Text("nothing is in quarantine", style="dim"))
    lines = [part for piece in found.pieces for part in _piece_lines(piece)]
    return Group(*lines, whole_line("hint: `quarantine show ID` writes the bytes of a piece to stdout"))


def _piece_lines(piece: KeptPiece) -> list[Text]:
    why = f", refused by the output {piece.output}" if piece.output else ", not a record"
    title = f"  {count(piece.size_bytes, 'byte')}{why}: {quoted(piece.reason)}"
    head = Text.assemble((f"{piece.number}", "bold"), title)
    if piece.feed is None or piece.content_id is None:
        return [whole_line(head), *_below(f"kept {moment(piece.quarantined_at)}; its blob is forgotten")]
    course = f"created {moment(piece.created_at)}, its blob is {piece.blob_state}"
    kept = f"kept {moment(piece.quarantined_at)}"
    return [whole_line(head), *_below(str(piece.feed), plain(piece.content_id), course, kept)]


def _below(*texts: str) -> Iterable[Text]:
    return [whole_line(f"  {text}") for text in texts]


def readable(body: bytes) -> str:
    """`body` for a terminal: lines and letters as they are, everything else in its escaped form."""
    return "".join(
        character if character.isprintable() or character == "\n" else repr(character)[1:-1]
        for character in body.decode("utf-8", "backslashreplace")
    )
