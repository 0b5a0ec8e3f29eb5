"""What the ledger remembers of the ends of credentials: for `status`, and for the next run.

Nothing of a credential is in it but the instant of its end, its kind, and a mark (`present.py`).
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

import msgspec

from m365watch.health.expiry.credential_expiry import CredentialEnd
from m365watch.ledger.queries_reading import remembered

MEMORY = "expiry"
"""Under which name."""


class Told(msgspec.Struct, frozen=True):
    """The warning of a credential that was last told."""

    threshold: int
    ends_at: datetime


class KnownApplication(msgspec.Struct):
    """What is known of one application's credentials."""

    input_name: str
    client_id: str
    tenants: list[str]
    """The tenants that it reads."""
    credentials: list[CredentialEnd] = []
    told: list[Told | None] = []
    """Per credential."""
    asked_at: datetime | None = None
    """When Graph was last asked."""
    home: str = ""
    """The tenant that Graph found it in; empty where none is known."""

    @property
    def key(self) -> tuple[str, str]:
        """No other application has it."""
        return self.input_name, self.client_id


class _Memory(msgspec.Struct):
    applications: list[KnownApplication]


def body_of(applications: list[KnownApplication]) -> str:
    """As JSON, for the ledger."""
    return msgspec.json.encode(_Memory(applications)).decode()


def applications_of(body: str | None) -> list[KnownApplication]:
    """What `body_of` made the text of; nothing for None, and for what another version wrote otherwise."""
    try:
        return msgspec.json.decode(body or '{"applications":[]}', type=_Memory).applications
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []


def known_applications(connection: sqlite3.Connection) -> list[KnownApplication]:
    """What the collector last remembered, read from another process."""
    return applications_of(remembered(connection, MEMORY))


def seed_of(connection: sqlite3.Connection) -> int:
    """The ledger's secret seed, which keys the marks."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'identity_seed'").fetchone()
    return int(row[0]) if row else 0
