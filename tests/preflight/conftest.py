"""What several tests of the preflight need."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from m365watch.config.settings import ServiceSettings
from m365watch.model import Service


@pytest.fixture
def make_service() -> Callable[[Service], ServiceSettings]:
    """A service with the defaults."""
    return lambda service: ServiceSettings(service, None, None, 300.0, None, None)
