"""Files of tests lie in memory where that does no harm."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_memory import lay_files_in_memory


@pytest.fixture(autouse=True)
def _places_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The place of this run comes back."""
    before = tempfile.tempdir
    monkeypatch.delenv("TMPDIR", raising=False)
    yield
    tempfile.tempdir = before


def test_temporary_files_are_made_where_there_is_room(tmp_path: Path) -> None:
    """Of this process and of those that it starts."""
    assert lay_files_in_memory(tmp_path, free_bytes_min=1)
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmp_path)


def test_a_small_memory_is_left_alone(tmp_path: Path) -> None:
    """A container has 64 MB of it, if nobody asked for more."""
    assert not lay_files_in_memory(tmp_path, free_bytes_min=1 << 60)
    assert "TMPDIR" not in os.environ


def test_a_machine_without_it_has_its_disk(tmp_path: Path) -> None:
    """Nothing is made."""
    assert not lay_files_in_memory(tmp_path / "shm", free_bytes_min=1)
    assert not (tmp_path / "shm").exists()


def test_a_place_that_somebody_has_named_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for what a disk does to the tests can have it."""
    monkeypatch.setenv("TMPDIR", "/tmp")

    assert not lay_files_in_memory(tmp_path, free_bytes_min=1)
    assert os.environ["TMPDIR"] == "/tmp"
