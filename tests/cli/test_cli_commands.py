"""The commands as a shell sees them: processes with exit codes, stdout and stderr."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import run_forked
from promises import guarantee
from typer.main import get_command
from typer.testing import CliRunner

from m365watch.cli.demo.demo_command import write_private
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch_simulator.service.server import SimulationSettings, simulator_running

COMMANDS = ("demo", "run", "status", "blobs", "quarantine", "retry", "query", "simulate", "version")
FILLED_IN = {
    "inputs": {
        "office365": {
            "id": "12345",
            "enabled": True,
            "credentials": {
                "client_id": "11111111-1111-1111-1111-111111111111",
                "tenant_id": "22222222-2222-2222-2222-222222222222",
                "client_secret": "not-a-real-one",
            },
            "cloud": {"login_url": "http://127.0.0.1:9", "management_url": "http://127.0.0.1:9"},
            "services": {"exchange": {}},
        }
    }
}


def m365watch(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_forked("m365watch.cli.main", *arguments, folder=cwd, environment=os.environ | environment)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FILLED_IN), encoding="utf-8")
    path.chmod(0o600)
    return path


def test_called_bare_it_shows_help_and_exits_with_0(tmp_path: Path) -> None:
    """A newcomer's first try is no mistake."""
    ended = m365watch(cwd=tmp_path)

    assert ended.returncode == 0
    assert all(f"  {command} " in ended.stdout for command in COMMANDS)
    assert ended.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_short_help(command: str) -> None:
    """At most a screen, and every option says what it does."""
    shown = CliRunner().invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) <= 60
    assert "Usage: " in shown.stdout


@pytest.mark.parametrize("arguments", [["run", "--konfig", "x"], ["walk"], ["run"], ["demo", "--days", "9"]])
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    """Usage is the caller's to correct; nothing of it goes to stdout."""
    ended = CliRunner().invoke(app, arguments)

    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert "Usage: " in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query"], "Error: Missing argument 'SQL'."),
        (["alerts", "close", "0123abcd"], "Error: Missing option '--reason'."),
        (["rules", "export"], "Error: Missing option '--to'."),
    ],
)
def test_what_is_left_out_is_called_missing_and_not_invalid(arguments: list[str], said: str) -> None:
    assert CliRunner().invoke(app, arguments).stderr.splitlines()[-1] == said


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """Help is there at once: no engine, no HTTP, no tables are loaded for it."""
    listing = (
        "import sys; import m365watch.cli.program; "
        "print(sorted({'aiohttp', 'deltalake', 'duckdb', 'pyarrow', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", listing], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert ended.stdout.strip() == "[]"


def test_a_missing_configuration_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    """The most usual mistake of all."""
    ended = m365watch("run", "--config", "nowhere.json", cwd=tmp_path)

    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert "hint: " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_every_mistake_of_a_configuration_is_told_in_one_run(tmp_path: Path) -> None:
    """One line each, exit code 2."""
    wrong = json.loads(json.dumps(FILLED_IN))
    wrong["inputs"]["office365"]["credentials"]["tenant_id"] = "<tenant_id_value>"
    wrong["inputs"]["office365"]["services"] = {"exchang": {}}
    (tmp_path / "config.json").write_text(json.dumps(wrong), encoding="utf-8")

    ended = m365watch("run", "--config", "config.json", cwd=tmp_path)

    assert ended.returncode == 2
    assert "2 mistakes" in ended.stderr
    assert "credentials.tenant_id" in ended.stderr
    assert "exchange" in ended.stderr
    assert ended.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "blobs", "quarantine", "retry"])
def test_asking_before_the_first_run_says_what_to_do(config: Path, command: str) -> None:
    """There is no ledger yet: one line and a hint, exit code 1."""
    ended = m365watch(command, "--config", config.name, cwd=config.parent)

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "hint: " in ended.stderr


def run_against_a_tenant(
    folder: Path, *arguments: str, change: Callable[[dict[str, Any]], None], times: int = 1
) -> subprocess.CompletedProcess[str]:
    """`run --once` on a small simulated tenant, the last of `times`; `change` has seen the configuration."""

    async def simulate_and_run() -> subprocess.CompletedProcess[str]:
        settings = SimulationSettings(days=0.2, records_per_day=500, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            document = running.configuration(outputs={"files": {"type": "files", "config": {}}})
            change(document)
            write_private(folder / "config.json", document)
            command = ("run", "--config", "config.json", "--once", *arguments)
            for _ in range(times):
                ended = await asyncio.to_thread(m365watch, *command, cwd=folder)
            return ended

    return asyncio.run(simulate_and_run())


@pytest.mark.slow
def test_run_once_ends_with_the_account_of_every_blob(tmp_path: Path) -> None:
    """The completeness line on stderr, the document on stdout."""
    ended = run_against_a_tenant(tmp_path, "--json", change=lambda _document: None)

    document = json.loads(ended.stdout)
    assert (ended.returncode, document["exit_code"], document["problems"]) == (0, 0, [])
    assert document["totals"]["blobs"]["delivered"] == document["totals"]["blobs"]["listed"] > 0
    assert "blobs listed" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_second_run_accounts_for_itself_first(tmp_path: Path) -> None:
    """Nothing was new in it; what earlier runs collected is labelled as such."""
    ended = run_against_a_tenant(tmp_path, "--json", change=lambda _document: None, times=2)

    document = json.loads(ended.stdout)
    this_run, in_all = ended.stderr.splitlines()[-2:]
    assert this_run.startswith("this run: 0 blobs listed, 0 delivered, ")
    assert in_all.startswith(f"in all: {document['totals']['blobs']['listed']} blobs listed, ")
    assert document["this_run"]["records"]["delivered"] == 0 < document["totals"]["records"]["delivered"]


@pytest.mark.slow
def test_records_on_the_console_have_stdout_to_themselves(tmp_path: Path) -> None:
    """Each line is a record; the document of --json goes to stderr."""

    def to_console(document: dict[str, Any]) -> None:
        document["outputs"] = {"console": {"type": "console"}}

    ended = run_against_a_tenant(tmp_path, "--json", "--quiet", change=to_console)

    document = json.loads(ended.stderr.splitlines()[-1])
    records = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(records) == document["totals"]["records"]["delivered"] > 0
    assert all("CreationTime" in record for record in records)


def test_a_wrong_secret_is_one_clear_line(tmp_path: Path) -> None:
    """Exit code 1, what Entra says, what to do; the secret itself nowhere."""

    def spoil(document: dict[str, Any]) -> None:
        document["inputs"]["office365"]["credentials"]["client_secret"] = "quite-another-secret"

    ended = run_against_a_tenant(tmp_path, change=spoil)

    assert ended.returncode == 1
    assert "AADSTS7000215" in ended.stderr
    assert "quite-another-secret" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_version_names_the_parts(tmp_path: Path) -> None:
    """What a report of a fault needs, for people and for programs."""
    told = m365watch("version", cwd=tmp_path).stdout
    assert told.startswith("m365watch ")
    assert m365watch("--version", cwd=tmp_path).stdout == told
    assert json.loads(m365watch("version", "--json", cwd=tmp_path).stdout)["parts"]["duckdb"]


@guarantee(29)
@pytest.mark.slow
def test_an_unforeseen_error_shows_its_traceback_with_debug_only(tmp_path: Path) -> None:
    """Exit code 1 in both cases."""
    spoil = "import sys; sys.modules['m365watch.config.loader'] = None; "
    spoil += "from m365watch.cli.main import main; main()"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", spoil, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    short, long = run("run", "-c", "x"), run("--debug", "run", "-c", "x")

    assert (short.returncode, long.returncode) == (1, 1)
    assert short.stderr.startswith("error: unexpected ModuleNotFoundError")
    assert "Traceback" not in short.stderr
    assert "Traceback" in long.stderr


@guarantee(24)
def test_no_option_takes_a_secret() -> None:
    """Everybody on the machine sees what a command is called with: a file holds it, or stdin brings it."""
    named = {
        f"{path} {name}": option.type_descriptor.annotation
        for path, command in every_command()
        for option in command.params
        for name in option.opts
        if {"secret", "password", "token", "key"} & set(name.strip("-").split("-"))
    }

    assert {one for one, kind in named.items() if kind not in {Path, bool}} == {
        "m365watch init --secret-expires-at"
    }, "which is no secret"
    assert len(named) > 8


def every_command() -> Iterator[tuple[str, Any]]:
    """Every command with the way to it."""
    waiting: list[tuple[str, Any]] = [("m365watch", get_command(app))]
    while waiting:
        path, command = waiting.pop()
        yield path, command
        waiting += [(f"{path} {name}", one) for name, one in getattr(command, "commands", {}).items()]
