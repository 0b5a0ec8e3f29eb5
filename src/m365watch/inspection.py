"""What a ledger says, for commands that only look; works beside a running collector."""

from __future__ import annotations

from m365watch.clock import SystemClock
from m365watch.config.settings import Settings
from m365watch.ledger.account import (
    BlobsAsked,
    BlobsFound,
    PiecesFound,
    kept_pieces,
    named_blobs,
    piece_body,
)
from m365watch.ledger.port import WaitingBlob
from m365watch.ledger.reading import feed_progress, ledger_for_reading, output_progress, remembered
from m365watch.ledger.reading import waiting_blobs as read_waiting_blobs
from m365watch.ledger.retrying import PutBack, put_back
from m365watch.ledger.sqlite import LEDGER_FILE
from m365watch.monitor import latency, vocabulary
from m365watch.monitor.latency import LatencyBook
from m365watch.monitor.vocabulary import Vocabulary
from m365watch.progress import RunProgress


def read_status(settings: Settings) -> RunProgress:
    """The figures of every feed, from the ledger alone; works beside a running collector.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    now = SystemClock().now()
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return RunProgress(
            started_at=now,
            feeds=feed_progress(connection, now),
            outputs=output_progress(connection),
        )


def read_latency(settings: Settings) -> LatencyBook:
    """How long records took on their way, as the collector last remembered it.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return LatencyBook.of_body(remembered(connection, latency.MEMORY))


def read_vocabularies(settings: Settings) -> list[Vocabulary]:
    """The vocabulary of each tenant of the settings, as the collector last remembered it.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    tenants = dict.fromkeys(tenant.tenant_id for tenant in settings.tenants)
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return [
            Vocabulary.of_body(tenant_id, remembered(connection, vocabulary.MEMORY + tenant_id))
            for tenant_id in tenants
        ]


def waiting_blobs(settings: Settings) -> list[WaitingBlob]:
    """The blobs that wait for a retry, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return read_waiting_blobs(connection)


def find_blobs(settings: Settings, asked: BlobsAsked) -> BlobsFound:
    """The blobs that are `asked` for, by name, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return named_blobs(connection, asked)


def find_pieces(settings: Settings, *, feed_part: str, count_max: int) -> PiecesFound:
    """What is in quarantine, without its bytes, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return kept_pieces(connection, feed_part=feed_part, count_max=count_max)


def read_piece(settings: Settings, number: int) -> bytes | None:
    """The bytes of one piece in quarantine, as they came; None where there is no such piece.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return piece_body(connection, number)


def retry_quarantined(settings: Settings, *, feed_part: str) -> PutBack:
    """Let quarantined blobs wait again, so that the next run fetches them.

    Raises: LedgerHeld: a collector is running; LedgerUnusable: there is no ledger yet; LedgerUnavailable.
    """
    return put_back(settings.state_directory / LEDGER_FILE, feed_part=feed_part, now=SystemClock().now())
