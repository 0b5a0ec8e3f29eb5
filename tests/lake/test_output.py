"""The output contract over the lake, and what is the lake's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from promises import guarantee

from lake_place import LakePlace
from m365watch.common.errors import OutputUnusable
from m365watch_testing.output_contract import OutputContract


@guarantee(9, 12, 14)
class TestLake(OutputContract):
    """Every promise of an output: exactly once, durable on return."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> LakePlace:
        """A directory that does not exist yet."""
        return LakePlace(tmp_path / "lake")


def test_a_missing_library_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the lake's libraries says what to install."""
    monkeypatch.setitem(sys.modules, "deltalake", None)

    async def open_without() -> None:
        output = LakePlace(tmp_path).make()
        output.preload()
        try:
            await output.open(last_batch=0, position="")
        finally:
            await output.close()

    with pytest.raises(OutputUnusable, match="package deltalake; run: pip install pyarrow deltalake"):
        asyncio.run(open_without())


def test_to_load_the_libraries_beforehand_touches_nothing(tmp_path: Path) -> None:
    """Nothing is there before `open`, and everything after it."""
    place = LakePlace(tmp_path / "lake")

    async def preload_and_open() -> bool:
        output = place.make()
        output.preload()
        # Behind it in the same thread, and it makes nothing either.
        assert await output.take_over() == 0
        was_there = place.directory.exists()
        await output.open(last_batch=0, position="")
        await output.close()
        return was_there

    assert not asyncio.run(preload_and_open())
    assert (place.directory / "audit").is_dir()


def test_the_libraries_are_loaded_only_when_opened() -> None:
    """Files can be written where the lake's libraries are not installed."""
    loaded = "{'pyarrow', 'deltalake', 'duckdb'} & set(sys.modules)"
    code = f"import m365watch.outputs.lake.lake_output, sys; print({loaded})"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "set()\n"
