"""Files beside the configuration that cannot be read: said on stderr, and gone without."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from m365watch.clock import SystemClock
from m365watch.plain import plain

if TYPE_CHECKING:
    from m365watch.config.settings import DetectionSettings

TOLD_MAX = 20


def warn(line: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"warning: {plain(line)}\n")


def tell_unreadable(settings: DetectionSettings) -> DetectionSettings:
    """Name the tables and lists that cannot be read; the settings without them."""
    from m365watch.detect.enrich.making import readable

    known, troubles = readable(settings, clock=SystemClock())
    for trouble in troubles[:TOLD_MAX]:
        warn(f"{trouble}; rules go without it")
    return known
