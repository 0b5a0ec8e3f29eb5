"""The configuration and the run that uses it, as pages read them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from m365watch.board.config_editor.config_file import Current
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.board.widgets.widget_types import Empty
from m365watch.common.errors import LedgerUnusable, SettingsRefused
from m365watch.config.models.settings import Settings
from m365watch.health.collector_status import read_configuration, who_collects
from m365watch.health.config_status import ConfigurationNote

NEVER_AGAIN = "the running collector does not read its file again: restart it"


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be read."""

    mistakes: tuple[str, ...]
    fix: str

    @property
    def empty(self) -> Empty:
        """What a panel says of it."""
        return Empty(f"The configuration cannot be read: {'; '.join(self.mistakes)}", self.fix)


@dataclass(frozen=True, slots=True)
class Standing:
    """A run, and what it has of the configuration."""

    collector: str | None
    """Who collects; None: nobody is seen to."""
    loaded_at: datetime | None = None
    is_behind: bool = False
    """Whether the file was written after it was read last."""
    mistakes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    fix: str = ""
    """What to do about the mistakes."""
    outputs: Mapping[str, str] | None = None
    """Where each output of the run writes, by its name; None where that is not known."""
    mark: str = ""
    """Another one whenever the file, the run, or what the run made of the file is another."""

    @property
    def unread(self) -> str:
        """Why a run has not what the file says; empty where it has, and where none is seen."""
        if self.collector is None:
            return ""
        if self.mistakes:
            return "the collector refuses the file"
        if self.loaded_at is None:
            return NEVER_AGAIN
        return "the collector has not read it yet" if self.is_behind else ""


async def read_current(sources: Sources) -> Current | Refused:
    """The file as it is, or why it cannot be read."""
    try:
        return await asyncio.to_thread(sources.desk.read, sources.settings)
    except SettingsRefused as error:
        return Refused(tuple(error.mistakes), error.fix or "")


async def read_standing(view: View, sources: Sources) -> Standing:  # noqa: ARG001 - a source's signature
    """How the run of the configuration stands."""
    return await asyncio.to_thread(_standing, sources.settings)


def _standing(settings: Settings) -> Standing:
    collector = who_collects(settings)
    note = _note_of(settings)
    written_at = _written_at(settings.path)
    runs = collector is not None
    if note is None:
        return Standing(collector, mark=f"{runs} {written_at}")
    read_s = max(note.loaded_s, note.refused_s or 0.0)
    return Standing(
        collector,
        note.loaded_at,
        runs and written_at is not None and written_at.timestamp() > read_s,
        tuple(note.mistakes) if note.refused_s is not None else (),
        tuple(note.needs_restart),
        note.fix,
        note.outputs,
        f"{runs} {written_at} {note.loaded_s} {note.refused_s}",
    )


def _note_of(settings: Settings) -> ConfigurationNote | None:
    try:
        return read_configuration(settings)
    except LedgerUnusable:
        return None


def _written_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
