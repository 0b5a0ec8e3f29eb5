from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from collecting import first_alone, without_looking_for_garbage
from hypothesis import HealthCheck, settings
from in_memory import lay_files_in_memory
from quick import choose_cases
from spending import Spending

if TYPE_CHECKING:
    from m365watch.board.app.application import Board
    from m365watch.board.query.data_sources import Sources

# Nothing that is judged by the wall: on a busy machine an example takes as long as it takes. Nor by luck:
# each run has the same examples, and others come with `--hypothesis-profile=others`.
settings.register_profile("others", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("others"), derandomize=True, database=None)
settings.register_profile("quick", settings.get_profile("same"), max_examples=20)
settings.load_profile("same")


OF_A_TERMINAL = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""What rich goes by. A test whose commands are to find one of them says so."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="leave slow tests out, and run a few cases of each other"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.quick:
        settings.load_profile("quick")
    for name in OF_A_TERMINAL:
        os.environ.pop(name, None)
    lay_files_in_memory()
    config.pluginmanager.register(Spending())


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    with first_alone(session.config.rootpath), without_looking_for_garbage():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long tests unless an expression asks for markers, and with `--quick` the slow ones too.

    Where `tools/days.py` shifts the clock, files have the machine's own times all the same.
    """
    if "PYTHON_TESTS_CLOCK_AHEAD_S" in os.environ:
        for test in items:
            if test.get_closest_marker("file_times"):
                test.add_marker(pytest.mark.skip(reason="the clock is shifted, the times of files are not"))
    kept = items[:]
    if not config.option.markexpr:
        kept = [test for test in kept if not test.get_closest_marker("long")]
    if config.option.quick:
        quick = [test for test in kept if not test.get_closest_marker("slow")]
        chosen = choose_cases(test.nodeid for test in quick)
        kept = [test for test in quick if test.nodeid in chosen]
    ids = {test.nodeid for test in kept}
    config.hook.pytest_deselected(items=[test for test in items if test.nodeid not in ids])
    items[:] = kept


@pytest.fixture(autouse=True)
def _as_nobody_has_configured_it() -> Iterator[None]:
    """A command that runs in this process leaves a hook for errors and a level that hides what a run says."""
    hook = sys.excepthook
    structlog.reset_defaults()
    yield
    sys.excepthook = hook


# Of tests/board: they stand here because a session's fixture is shared from the conftest alone.


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a collector that has run over some days of a tenant, attacks included."""
    from collected_week import copy_of_week

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "week"
    return copy_of_week(shared, tmp_path_factory.mktemp("board") / "week")


@pytest.fixture(scope="session")
def sources(collected: Path) -> Iterator[Sources]:
    """Where the pages come from, opened once as by a board that serves for days.

    A test that changes it, or is about a first answer, opens its own: `sources_of(collected)`.
    """
    from asking import sources_of

    found = sources_of(collected)
    yield found
    assert found.facts is not None
    found.facts.close()


@pytest.fixture(scope="session")
def board(sources: Sources) -> Board:
    """The pages over the lake, for whoever is at the machine."""
    from asking import board_of

    return board_of(sources)
