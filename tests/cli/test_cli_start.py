"""What a start of `m365watch run` loads: only what this run works with, for each module takes its time."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from m365watch.clock import SystemClock
from m365watch.model import ContentType
from m365watch.simulator.server import SimulationSettings, simulator_running

LOADED = """
import sys
from m365watch.cli.main import command_line
try:
    command_line()
finally:
    print(*sys.modules)
    if "pydantic" in sys.modules:
        from m365watch.config.outputs import OUTPUT_TYPES
        print(*(one.__name__ for one in OUTPUT_TYPES.values() if one.__pydantic_complete__))
"""
OTHER_COMMANDS = {
    "m365watch.cli.audit",
    "m365watch.cli.demo",
    "m365watch.cli.lake",
    "m365watch.cli.ledger",
    "m365watch.cli.query",
    "m365watch.cli.recover",
    "m365watch.cli.status",
    "m365watch.cli.version",
}
LAKE = {"deltalake", "pyarrow"}
NO_PLAIN_KEY: dict[str, object] = {"globals": {"queue_max_size_in_mb": 1024}}
"""With it a configuration is read by the library that checks all others."""


def run_once(output: str, *, directory: Path, **more: object) -> set[str]:
    """What `run --once --quiet` loads where there are no records, and the outputs' sections it builds."""

    async def run() -> set[str]:
        settings = SimulationSettings(days=0.1, records_per_day=0, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            for content_type in ContentType:
                running.tenants[0].subscriptions.start(str(content_type), running.started_at)
            config = directory / "config.json"
            config.touch(mode=0o600)
            document = running.configuration({"out": {"type": output}})
            config.write_text(json.dumps(document | more))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", LOADED, "run", "--config", str(config), "--once", "--quiet"),
                stdout=asyncio.subprocess.PIPE,
            )
            told, _ = await process.communicate()
        assert process.returncode == 0
        return set(told.decode().split())

    return asyncio.run(run())


@pytest.fixture(scope="module")
def with_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return run_once("files", directory=tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def with_lake(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    directory = tmp_path_factory.mktemp("lake")
    return run_once("lake", directory=directory, detections={"enabled": False}, **NO_PLAIN_KEY)


@pytest.fixture(scope="module")
def with_packs(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return run_once("lake", directory=tmp_path_factory.mktemp("packs"))


def test_a_run_loads_no_other_command(with_files: set[str]) -> None:
    """A command is imported once it is asked for, and what reads command lines where one is not plain."""
    assert "m365watch.cli.running" in with_files
    assert with_files & {"m365watch.cli.run", "typer"} == set()
    assert with_files & OTHER_COMMANDS == set()


def test_only_a_lake_loads_what_writes_lakes(with_files: set[str], with_lake: set[str]) -> None:
    """An output's libraries are imported when it is built."""
    assert with_lake >= LAKE
    assert with_files & LAKE == set()


def test_a_run_that_nobody_watches_draws_nothing(with_files: set[str]) -> None:
    """Rich and pygments are for terminals; structlog does not get to see them either."""
    assert with_files & {"rich", "pygments"} == set()


def test_a_plain_configuration_is_read_without_the_library_for_all_others(
    with_files: set[str], with_lake: set[str]
) -> None:
    """To import it and to let it build its checkers took 80 ms of CPU of each start."""
    assert with_files & {"pydantic", "pydantic_core", "m365watch.config.load"} == set()
    assert "pydantic" in with_lake


def test_a_run_builds_the_sections_of_its_own_outputs(with_lake: set[str]) -> None:
    """The schema of an output that no file names is not built."""
    sections = {"LakeOutput", "FilesOutput", "DevoPlatformOutput", "DevoHttpOutput", "SyslogOutput"}
    assert with_lake & sections == {"LakeOutput"}


def test_a_run_does_without_what_others_need(with_files: set[str], with_lake: set[str]) -> None:
    """Arrow's 300 documented functions, patterns of masks, the library's HTTP client: 26 ms of a start.

    And 11 ms for what looks for plugins of pydantic, and for the clients of storage far away.
    """
    unused = {"pyarrow.compute", "regex", "urllib.request", "http.client"}
    unused |= {"importlib.metadata", "email", "zipfile", "pyarrow._s3fs", "pyarrow._gcsfs"}
    assert (with_files | with_lake) & unused == set()
