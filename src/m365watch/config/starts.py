"""What is odd about the instants from which services are to be collected, seen from now."""

from __future__ import annotations

from datetime import datetime

from m365watch.config.mistakes import show_path
from m365watch.config.settings import ServiceSettings, Settings
from m365watch.feed.windows import SERVED
