"""Ways through the collector's inside that a seed may take: one that no seed takes proves nothing."""

from __future__ import annotations

from enum import StrEnum


class Way(StrEnum):
    """What the ledger of a seed has come by, in any of its lives."""

    MERGED_TWICE = "identities were merged into the table, several times"
    MERGE_IN_STEPS = "a merge took several steps"
    MERGE_CUT = "a life ended in the midst of a merge"
    FOUND_IN_TABLE = "a known record was found in the table"
    FILTER_SPARED = "a filter spared a look into the table"
    FILTER_ERRED = "a filter took a new record for one that may be known"
    FILTER_ANEW = "a filter was full, and another one took its place"
    BLOBS_FORGOTTEN = "blobs were forgotten"
    IDENTITIES_FORGOTTEN = "identities were forgotten"
    MOVED = "a record got another owner, because an output lacked its first copy"
    GROWN = "a blob that some outputs had brought more than they got"
    ADOPTED = "a ledger learned what outputs hold"
    ADOPTED_QUEUE = "a ledger learned what waits in a queue"
    ADOPTION_CUT = "a life ended while the ledger learned"
    LEFT_OUT_AS_HELD = "a record was left out for an output that was found to hold it"
    HELD_FORGOTTEN = "what outputs were found to hold was forgotten"
    COPIED = "the ledger was copied beside the running collector"
