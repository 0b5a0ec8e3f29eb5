"""What a run loads, and what it leaves on the disk."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import LIMIT_S, scene_in

SHOW = """
import atexit, sys
atexit.register(lambda: print("loaded:", *sorted({"aiohttp", "httptools", "m365watch"} & set(sys.modules))))
from m365watch.cli.main import main
main()
"""


@pytest.mark.slow
def test_a_server_s_library_is_no_part_of_collecting(tmp_path: Path) -> None:
    """The simulator is served by aiohttp; importing it took an eighth of a second of every start."""

    async def main() -> tuple[int | None, str]:
        async with scene_in(tmp_path, records_per_day=5) as scene:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", SHOW, "run", "--once", "--config", str(scene.file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
            )
            async with asyncio.timeout(LIMIT_S):
                out, _ = await process.communicate()
            return process.returncode, out.decode().splitlines()[-1]

    code, loaded = asyncio.run(main())

    assert (code, loaded) == (0, "loaded: httptools m365watch")


def test_what_masks_is_loaded_only_where_something_is_masked() -> None:
    """The library for its patterns took 8 ms of every start."""
    show = "import sys, m365watch.runtime.collector, m365watch.config.loader; print('regex' in sys.modules)"

    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)

    assert run.stdout == "False\n"
