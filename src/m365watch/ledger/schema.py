"""The ledger's tables."""

from __future__ import annotations

from m365watch.storage.database import Schema

NUMBERS = 8192
"""Rows of the table `number`: how many identities one statement takes."""
_TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE feed (
    id INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    content_type TEXT NOT NULL,
    listed_at REAL,
    relisted_at REAL,
    blobs_delivered INTEGER NOT NULL DEFAULT 0,
    blobs_quarantined INTEGER NOT NULL DEFAULT 0,
    blobs_lost INTEGER NOT NULL DEFAULT 0,
    records_delivered INTEGER NOT NULL DEFAULT 0,
    records_duplicate INTEGER NOT NULL DEFAULT 0,
    records_quarantined INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    last_error_at REAL,
    fix TEXT,
    needs_operator INTEGER NOT NULL DEFAULT 0,
    error_code TEXT,
    UNIQUE (tenant_id, content_type)
);

-- Listed spans of contentCreated, in whole seconds, disjoint within a feed.
CREATE TABLE coverage (
    feed INTEGER NOT NULL REFERENCES feed,
    start_s INTEGER NOT NULL,
    end_s INTEGER NOT NULL,
    PRIMARY KEY (feed, start_s)
) WITHOUT ROWID;

-- Spans of contentCreated that were never listed and that the service no longer lists.
CREATE TABLE gap (
    feed INTEGER NOT NULL REFERENCES feed,
    start_s INTEGER NOT NULL,
    end_s INTEGER NOT NULL,
    found_at REAL NOT NULL,
    PRIMARY KEY (feed, start_s)
) WITHOUT ROWID;

-- state: 0 known, 1 delivered, 2 quarantined, 3 lost, 4 queued (nothing is left to fetch: every
-- output that lacks its records has them in its queue on disk), 5 left out (an output whose queue
-- is full lacks them; known again once there is room). missing: the outputs that lack an
-- blob's records, as JSON; NULL while no output has them, and once all do. queued: those of them that
-- have the records in their queue on disk; NULL for none. next_try_s: of a blob with failed rounds
-- (attempts), when it is due; of another one, when it was first listed, 0 where that is forgotten.
CREATE TABLE blob (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    feed INTEGER NOT NULL REFERENCES feed,
    content_id TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    missing TEXT,
    queued TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try_s REAL NOT NULL DEFAULT 0,
    last_error TEXT,
    records INTEGER,
    duplicates INTEGER,
    finished_s REAL,
    UNIQUE (feed, content_id, created_us)
);
CREATE INDEX blob_unfinished ON blob (feed, state, created_us DESC) WHERE finished_s IS NULL;
CREATE INDEX blob_created ON blob (created_us);

-- A batch that was shown to outputs. parts: [[blob, new identities, records, duplicates], ...], each
-- with the outputs that it is for where those are not all of the batch's; identities: the new ones
-- of all parts, 16 bytes each, in the order of the parts; empty once they are in the table identity_page.
-- waiting_for: the outputs that have not acknowledged it, and spaces for those that have; queued: those of
-- them that have it in their queue on disk. committed: whether an output or a queue has it, or an output was
-- left out of it.
CREATE TABLE batch (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    parts TEXT NOT NULL,
    identities BLOB NOT NULL,
    waiting_for TEXT NOT NULL,
    queued TEXT NOT NULL DEFAULT '[]',
    committed INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE output (
    name TEXT PRIMARY KEY,
    last_batch INTEGER NOT NULL,
    position TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE output_error (
    name TEXT PRIMARY KEY,
    last_error TEXT NOT NULL,
    last_error_at REAL NOT NULL,
    fix TEXT,
    needs_operator INTEGER NOT NULL
) WITHOUT ROWID;

-- What parts of the collector learn and want to know again after a restart, as JSON; losing a row
-- costs what was learned and never a record.
CREATE TABLE memory (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;

-- Identities older than the batches still kept, in pages: rows has up to some hundred of them, in order,
-- each with the blob that brought it (its key, 6 bytes) behind it; first is the first of them (`stored.py`).
CREATE TABLE identity_page (first BLOB PRIMARY KEY, rows BLOB NOT NULL);
-- 0..n-1, to look many identities up in one statement.
CREATE TABLE number (n INTEGER PRIMARY KEY);
WITH RECURSIVE below (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM below WHERE n < {NUMBERS - 1})
    INSERT INTO number SELECT n FROM below;

-- What outputs were found to hold when a ledger was begun anew or put back from a copy: no such record
-- goes to that output again. key: an identity, or what `held.body_key` makes of a record without Id.
CREATE TABLE held (output TEXT NOT NULL, key BLOB NOT NULL, PRIMARY KEY (output, key)) WITHOUT ROWID;

-- Identities that another blob owns now than the one that brought them first, since the batch with this
-- number, because an output lacked the first copy; of several rows the last one counts.
CREATE TABLE moved (
    key BLOB NOT NULL, batch INTEGER NOT NULL, blob INTEGER NOT NULL, PRIMARY KEY (key, batch)
) WITHOUT ROWID;

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    blob INTEGER NOT NULL,
    output TEXT NOT NULL,
    digest BLOB NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    quarantined_at REAL NOT NULL,
    UNIQUE (blob, output, digest)
);
"""  # noqa: S608 - our own number
LEDGER = Schema(
    7,
    _TABLES,
    (
        "page_size = 8192",
        "journal_mode = WAL",
        "cache_size = -4000",
        "wal_autocheckpoint = 4000",
    ),
)

IS_OPEN = "rtrim(batch.waiting_for) != '[]'"
"""Whether an output is still to acknowledge a batch."""
