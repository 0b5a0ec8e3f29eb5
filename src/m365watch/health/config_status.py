"""What became of the configuration while a collector runs, as the ledger keeps it for `status`."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from m365watch.config.models.settings import Settings
from m365watch.config.validation_report import hide_secrets
from m365watch.ledger.queries import remembered
from m365watch.storage.database import Database

MEMORY = "configuration"
"""The name under which the ledger keeps it."""
LINES_MAX = 50
"""Mistakes that are kept, and keys that need a restart."""


LAKES_MAX = 10
"""Lakes of before that are kept, the newest."""
_LAKE = "the lake in "


class EarlierLake(msgspec.Struct, frozen=True):
    """A lake that was written to, and is no more."""

    directory: str
    until_s: float
    """When a run began without it."""


class ConfigurationNote(msgspec.Struct):
    """The last try to read the configuration."""

    loaded_s: float
    """When the settings were read that the run has, in seconds since 1970."""
    file: str = ""
    refused_s: float | None = None
    """When a later reading failed; None where the last one did not."""
    mistakes: list[str] = []
    """Why it failed, one line for each mistake."""
    needs_restart: list[str] = []
    """What the file says and the run cannot take up, one line for each key."""
    fix: str = ""
    """What to do about the mistakes."""
    outputs: dict[str, str] | None = None
    """Where each output of the run writes, by its name; None from a version that did not keep it."""

    earlier: list[EarlierLake] = []
    """The lakes that earlier runs have written to."""

    def body(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()

    @property
    def loaded_at(self) -> datetime:
        """When the settings were read that the run has."""
        return datetime.fromtimestamp(self.loaded_s, UTC)

    @property
    def refused_at(self) -> datetime | None:
        """When a later reading failed."""
        return None if self.refused_s is None else datetime.fromtimestamp(self.refused_s, UTC)


def places_of(settings: Settings) -> dict[str, str]:
    """Where each output of the settings writes, by its name, in words."""
    return {one.name: hide_secrets(one.place) for one in settings.outputs}


def earlier_lakes(
    before: ConfigurationNote | None, outputs: dict[str, str], *, now_s: float
) -> list[EarlierLake]:
    """The lakes that runs before one with these outputs have written to, and it does not, the newest last."""
    if before is None:
        return []
    present = {place.removeprefix(_LAKE) for place in outputs.values()}
    places = (before.outputs or {}).values()
    left = [EarlierLake(place.removeprefix(_LAKE), now_s) for place in places if place.startswith(_LAKE)]
    found = {one.directory: one for one in (*before.earlier, *left) if one.directory not in present}
    return sorted(found.values(), key=lambda one: one.until_s)[-LAKES_MAX:]


def configuration_note(connection: Database) -> ConfigurationNote | None:
    """What the ledger has; None before a run of a version that keeps it, and where it cannot be read."""
    return note_of(remembered(connection, MEMORY))


def note_of(body: str | None) -> ConfigurationNote | None:
    """What a ledger remembers under `MEMORY`; None where that is nothing, or cannot be read."""
    try:
        return None if body is None else msgspec.json.decode(body, type=ConfigurationNote)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
