"""What the output of detections asks of an engine, whether that is in this process or in another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Protocol

from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState


@dataclass(slots=True)
class Figures:
    """What an engine has done since it was made, or what it goes on from."""

    records: int = 0
    decoded: int = 0
    matches: int = 0
    too_old: int = 0
    alerts_new: int = 0
    alerts_updated: int = 0
    alerts_withdrawn: int = 0
    hours_full: int = 0
    groups_looked_at: int = 0
    """Groups judged again because time has passed."""

    def add(self, other: Figures) -> None:
        """Another engine on the same file has done this besides."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class Detects(Protocol):
    """An engine, wherever it is."""

    @property
    def rules(self) -> Sequence[Rule]:
        """With all that correlations join."""
        ...

    @property
    def state(self) -> DetectionState:
        """The file, as this process has it open."""
        ...

    @property
    def figures(self) -> Figures:
        """What has been done."""
        ...

    def expect(self, records: int, *, now: datetime) -> None:
        """A batch of at least so many records is on its way: get ready for it."""
        ...

    def take(self, portions: Sequence[Portion], *, number: int, now: datetime) -> list[Change]:
        """As the engine's."""
        ...

    def look(self, *, now: datetime) -> list[Change]:
        """As the engine's."""
        ...

    def catch_up(self, *, now: datetime) -> list[Change]:
        """As the engine's."""
        ...

    def hurry(self) -> None:
        """The end is near: wait for nothing that stands still. Called while another thread may be at work."""
        ...

    def close(self) -> None:
        """Let go of what it holds, but for the file."""
        ...


class MakesEngine(Protocol):
    """Makes an engine for a file."""

    def __call__(
        self, rules: Sequence[Rule], state: DetectionState, *, knowledge: Knowledge, exceptions: Exceptions
    ) -> Detects:
        """The engine with these rules; `state` is its alone."""
        ...
