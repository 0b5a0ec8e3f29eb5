"""Calls of the commands for certificates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from m365watch.auth.certificates.generation import make_certificate, parse_subject
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock

NOW = SystemClock().now()
SECRET = "only-the-owner-knows"
MADE = make_certificate(parse_subject("collector"), bits=2048, days=90, now=NOW)


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.delenv("CONFIG_FILE", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands are called."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pw", f"{SECRET}\n".encode())
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["certificate", *arguments], env={"COLUMNS": "80", "NO_COLOR": "1"})


def create(*arguments: str) -> Any:
    made = call("create", "--bits", "2048", "--json", *arguments)
    assert made.exit_code == 0, made.stderr
    return json.loads(made.stdout)


def show(*arguments: str, code: int = 0) -> Any:
    shown = call("show", "--json", *arguments)
    assert shown.exit_code == code, shown.output
    return json.loads(shown.stdout)


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path
