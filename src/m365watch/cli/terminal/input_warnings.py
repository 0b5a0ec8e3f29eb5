"""What is missing, or cannot be read, of files and lakes: said on stderr, and gone without."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from m365watch.common.clock import SystemClock
from m365watch.common.errors import LakeUnusable
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.config.models.detections import DetectionsSection
    from m365watch.config.models.settings import Settings

TOLD_MAX = 20


def warn(line: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"warning: {plain(line)}\n")


def look_at_lake(settings: Settings, lake: Path) -> None:
    """Say what is missing from a lake of the configuration. Raises: LakeUnusable: it is gone."""
    from m365watch.health.collector_status import acknowledged_in, refuse_lost_lake

    refuse_lost_lake(settings, lake)
    warn_of_missing(lake, acknowledged_in(settings, lake))


def warn_of_missing(lake: Path, acknowledged: Mapping[str, int]) -> None:
    """Say which batch is missing from the lake, if one is; `acknowledged` is what the ledger knows there."""
    from m365watch.lake.delta.table_files import missing_batch

    # Of a lake that cannot be read whoever asks it is told.
    with suppress(LakeUnusable, OSError):
        missing = missing_batch(lake, acknowledged)
        if missing is not None:
            told = "the lake is not whole, so that answers lack records or count some twice"
            warn(f"{told}: {missing.what}; {missing.fix}")


def warn_of_lakes(settings: Settings) -> None:
    """Say which lake of the configuration is not whole, before an answer that goes by the ledger alone."""
    from m365watch.health.collector_status import fault_of_lake
    from m365watch.outputs.lake.spec import LakeSection

    for output in settings.outputs:
        if isinstance(output, LakeSection):
            fault = fault_of_lake(settings, output.folder)
            if fault is not None:
                told = f"the lake `{output.name}` is not as the ledger has it, or cannot be read"
                warn(f"{told}: {fault.what}; {fault.fix}")


def tell_unreadable(settings: DetectionsSection) -> DetectionsSection:
    """Name the tables and lists that cannot be read; the settings without them."""
    from m365watch.detection.enrichment.context_loader import readable

    known, troubles = readable(settings, clock=SystemClock())
    for trouble in troubles[:TOLD_MAX]:
        warn(f"{trouble}; rules go without it")
    return known
