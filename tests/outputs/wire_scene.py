"""A sender and a peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from ports import kept_port

from m365watch_testing.devo_server import Faults
from wire_places import (
    Papers,
)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def first(faults: Faults, *, count: int = 1) -> Callable[[int], Faults]:
    """`faults` for the first connections, none for those after them."""
    return lambda number: replace(faults) if number < count else Faults()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nothing listens but what the test has listen there."""
    with kept_port() as port:
        yield port
