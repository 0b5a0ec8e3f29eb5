"""docs/api.md does what it says: its commands are run as they stand, and answer what it shows."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from shifted import DAY

from api_calls import ClosedGate
from collected_week import CLOCK
from m365watch.board.access.api_tokens import ApiTokens, TokenGate
from m365watch.board.access.roles import Scope
from m365watch.board.app.application import Board, Listening
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.config.loader import load_settings
from m365watch.config.models.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BETWEEN = "=== next block ==="
LIMIT_S = 120


@contextmanager
def served(settings: Settings) -> Iterator[int]:
    """The port at which the board of the settings is served, in a thread of this process."""
    assert settings.lake_directory is not None
    clock, facts = CLOCK, FactsReader(settings.lake_directory)
    gate = TokenGate(ApiTokens(settings.state_directory), clock=clock, otherwise=ClosedGate())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # who comes before the server does, waits
        port: int = listener.getsockname()[1]
        board = Board(Sources(settings, facts, clock), gate=gate, listening=Listening("127.0.0.1", port))
        server = uvicorn.Server(uvicorn.Config(board.app, log_config=None, lifespan="off"))
        serving = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        serving.start()
        try:
            yield port
        finally:
            server.should_exit = True
            serving.join()
            facts.close()


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Language and text of each block, in their order."""
    return [(match[1], match[2]) for match in BLOCK.finditer(page)]


def lacks_of(shown: object, found: object, where: str = "") -> list[str]:
    """The keys that the page shows and the answer does not have."""
    if isinstance(shown, dict):
        if not isinstance(found, dict):
            return [where]
        missing = [f"{where}/{key}" for key in shown if key not in found]
        return missing + [
            one for key in shown if key in found for one in lacks_of(shown[key], found[key], f"{where}/{key}")
        ]
    if isinstance(shown, list):
        if not isinstance(found, list) or not found:
            return [where]
        return [one for part in shown for one in lacks_of(part, found[0], f"{where}/0")]
    return []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="its commands are curl's")
def test_the_commands_of_the_page_answer_what_it_shows(collected: Path, tmp_path: Path) -> None:
    """From the first line to the last, in one shell; every key that is shown is there."""
    shutil.copytree(collected.parent, tmp_path / "copy")
    folder = tmp_path / "copy"
    (folder / collected.name).rename(folder / "m365watch.yaml")
    command = tmp_path / "bin" / "m365watch"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m m365watch.cli.main "$@"\n')
    command.chmod(0o755)
    blocks = blocks_of(PAGE.read_text())
    commands = [text for language, text in blocks if language == "sh"]

    settings = load_settings(folder / "m365watch.yaml", environment={}, for_reading=True)
    with served(settings) as port:
        script = f"echo '{BETWEEN}'\n".join(commands).replace(":8365", f":{port}", 1)
        done = subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=folder,
            env={"PATH": f"{command.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "NO_PROXY": "*"} | DAY,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    printed = done.stdout.split(f"{BETWEEN}\n")
    assert len(printed) == len(commands)
    shown = dict(answers_of(blocks))
    assert len(shown) > 3
    for place, text in shown.items():
        assert lacks_of(json.loads(text), json.loads(printed[place])) == [], commands[place]
    assert printed[-1].startswith('ok\n{"ready":true')
    assert "m365watch_feed_records_total" in (folder / "scraped.txt").read_text()
    assert len((folder / "failing.csv").read_text().splitlines()) > 1


def answers_of(blocks: list[tuple[str, str]]) -> Iterator[tuple[int, str]]:
    """Of each answer that the page shows, which command it is of, and its text."""
    place = -1
    for language, text in blocks:
        place += language == "sh"
        if language == "json":
            yield place, text


def test_the_page_names_every_scope() -> None:
    """A scope that is new is explained."""
    page = PAGE.read_text()

    assert not [one for one in Scope if f"| `{one}` |" not in page]
