"""What the output of detections asks of an engine, whether that is in this process or in another one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.engine.figures import Figures
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState


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
