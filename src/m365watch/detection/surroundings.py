"""What the detections have around them: lakes for alerts, what makes their file anew, files of rules."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from m365watch.common.clock import Clock
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.lake_sync import Shelf
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.database_recovery import Rebuilder

LOOK_EVERY_S = 3.0
"""Between two looks at the files of rules. What differs in one and is the same in the next is a change."""


class RulesRead(NamedTuple):
    """What the user's files say, and the settings that name them."""

    rules: Sequence[Rule]
    """With those of the packs, and with all that correlations join."""
    exceptions: Exceptions
    knowledge: Knowledge = NOTHING_KNOWN
    risk_points: int | None = None


class RuleFiles(Protocol):
    """The user's files of rules and exceptions, which may change while a run lasts."""

    def look(self) -> str:
        """What changes with the files, and with nothing else."""
        ...

    def read(self) -> RulesRead | None:
        """What they say now; None where they have mistakes that they did not have: those are told then."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run puts around the detections; a hunt and tests do without."""

    shelves: Sequence[Shelf] = ()
    """The lakes that the alerts are brought to."""
    rebuilder: Rebuilder | None = None
    """What makes the file anew where it was lost or damaged."""
    rule_files: RuleFiles | None = None
    """What is read again when it changes, or somebody asks; None: there is nothing to be read."""
    watches_files: bool = True
    """Whether changes are looked for; else they count when somebody asks."""


class RuleWatch:
    """Waits until the files have changed and lie still."""

    def __init__(self, files: RuleFiles, clock: Clock) -> None:
        """Changes count from now on; looks at the files."""
        self._files = files
        self._clock = clock
        self._known = files.look()

    def take_note(self) -> None:
        """The files are read as they are now: changes count from here on."""
        self._known = self._files.look()

    async def changed(self) -> None:
        """Return once the files are others than at the last time, and were the same in two looks."""
        last = self._known
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            now = await asyncio.to_thread(self._files.look)
            if now == last != self._known:
                self._known = now
                return
            last = now
