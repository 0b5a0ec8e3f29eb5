"""Whether the file of detections is gone: it must not read as if nobody had ever looked."""

from __future__ import annotations

from pathlib import Path

from m365watch.common.errors import LedgerUnusable, OutputUnusable
from m365watch.config.models.settings import DETECTIONS, Settings
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.store.rebuilt import rebuilt_percent
from m365watch.health.collector_status import has_delivered
from m365watch.lake.schema import ALERTS

_AGAIN = "start `m365watch run` again"
_FROM_LAKE = f"{_AGAIN}: it makes it anew from the lake"
_FROM_COPY = (
    f"put it back from a copy; else {_AGAIN}: it judges what comes, and has no lake to make it anew from"
)


def loss_of_alerts(settings: Settings) -> OutputUnusable | None:
    """That the file was there and is no more, with what makes it anew; None where it is there, or never was.

    The ledger knows whether detections have run, and the lake whether they have found something.
    """
    path = settings.state_directory / FILE_NAME
    if path.exists() or rebuilt_percent(path) is not None or not settings.detections.enabled:
        return None
    try:
        have_run = has_delivered(settings, DETECTIONS)
    except LedgerUnusable:  # nobody has run here, or why it cannot be read is said by itself
        return None
    lake = settings.lake_directory
    if not have_run and (lake is None or not (lake / ALERTS / "_delta_log").is_dir()):
        return None
    fix = _FROM_COPY if lake is None else _FROM_LAKE
    return OutputUnusable("the file of detections is gone", fix=fix, where=str(path))


def file_of_alerts(settings: Settings) -> Path:
    """The file of detections, be there none yet. Raises: OutputUnusable: it was there, and is gone."""
    lost = loss_of_alerts(settings)
    if lost is not None:
        raise lost
    return settings.state_directory / FILE_NAME
