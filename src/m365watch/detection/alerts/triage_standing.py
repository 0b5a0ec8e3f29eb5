"""How detections stand, as their file says it: for pages, beside a collector that may be running."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m365watch.detection.alerts.triage import opened
from m365watch.detection.store.detection_store import RECORDS, TROUBLE


@dataclass(frozen=True, slots=True)
class DetectionStanding:
    """What the engine has kept."""

    records: int
    """Records that were judged, each once, since collectors of this version have had the file."""
    trouble: str
    """Why the search for matches is slower than it should be; empty where it is not."""


def read_standing(path: Path) -> DetectionStanding:
    """How the file's detections stand. Raises: OutputUnusable: there is none, or it cannot be used."""
    with opened(path) as state:
        return DetectionStanding(int(state.read(RECORDS) or 0), state.read(TROUBLE))
