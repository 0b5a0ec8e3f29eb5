"""What a run keeps, and who else on the machine can read it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from promises import guarantee

from commands import ended, scene_in
from place import LAKE


async def run_once(folder: Path, *, umask: int) -> None:
    """Collect and judge into the lake, by a process as a shell with that umask starts it."""
    async with scene_in(folder, records_per_day=40) as scene:
        scene.configure({"lake": LAKE})
        document = json.loads(scene.file.read_text()) | {"detections": {"enabled": True}}
        scene.file.write_text(json.dumps(document))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "m365watch.cli.main", "run", "--config", str(scene.file), "--once"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NO_COLOR": "1"},
            umask=umask,
        )
        run = await ended(process)
    assert (run.exit_code, run.complaints) == (0, [])


@guarantee(13)
@pytest.mark.slow
@pytest.mark.parametrize(("umask", "at_most"), [(0, 0o750), (0o077, 0o700)])
def test_nobody_else_can_read_the_lake(tmp_path: Path, umask: int, at_most: int) -> None:
    """Records, commits, alerts, notices and locks, also in a folder from before; a stricter umask stays."""
    lake = tmp_path / "lake"
    lake.mkdir()
    lake.chmod(0o755)
    asyncio.run(run_once(tmp_path, umask=umask))

    modes = {str(path.relative_to(lake)): stat.S_IMODE(path.stat().st_mode) for path in lake.rglob("*")}
    assert {"alerts", "audit", "collectors_out", "upkeep.lock"} <= set(modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode & ~at_most} == {}
