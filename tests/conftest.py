from __future__ import annotations

import gc

import pytest
import structlog
from spending import Spending


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with `-m slow`")
    config.pluginmanager.register(Spending())


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end: modules, and some thousand tests."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out unless some expression asks for tests by their markers."""
    if config.option.markexpr:
        return
    slow = [test for test in items if test.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [test for test in items if test not in slow]


@pytest.fixture(autouse=True)
def _log_as_nobody_has_configured_it() -> None:
    """A command that ran in this process may have set a level that hides what a run says."""
    structlog.reset_defaults()
