"""The board that the benchmark keeps busy rests for the collector that is measured, and for nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.board import settings_of
from benchmarks.contenders import CONTENDERS, state_of
from m365watch.config.loader import load_settings

TENANT = "11111111-2222-3333-4444-555555555555"
CREDENTIALS = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "x"}


def test_the_busy_board_has_the_state_of_the_measured_collector(tmp_path: Path) -> None:
    """Which it finds by that one's lock, as it does by itself or under `run --board`."""
    board, collector = tmp_path / "board.json", tmp_path / "collector"
    collector.mkdir()
    contender = next(one for one in CONTENDERS if one.name == "lake")
    contender.command({"tenant": {"type": "office365", "credentials": CREDENTIALS}}, collector)
    board.touch(mode=0o600)
    board.write_text(json.dumps(settings_of(tmp_path / "lake", state=state_of(collector))))

    shown, measured = (
        load_settings(file, environment={}, for_reading=True) for file in (board, collector / "config.json")
    )

    assert shown.state_directory == measured.state_directory
    assert shown.lake_directory != measured.lake_directory
