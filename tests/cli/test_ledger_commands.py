"""`m365watch ledger`: what it says, what it prints as JSON, and its exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m365watch.cli.main import command_line
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.config.loader import load_settings
from m365watch.ledger.sqlite_ledger import SqliteLedger
from one_feed import write_one_feed

FEED = Feed(TenantId("22222222-2222-2222-2222-222222222222"), ContentType.EXCHANGE)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with one feed, whose secret is not there."""
    return write_one_feed(tmp_path, FEED.tenant_id, secret="${NOBODY_HAS_IT}")


@pytest.fixture
def ledger(config: Path) -> Iterator[SqliteLedger]:
    """The ledger of a collector that runs, with one blob."""
    now = SystemClock().now()
    directory = load_settings(config, environment={}, for_reading=True).state_directory
    one = SqliteLedger(directory, outputs=frozenset({"lake"}), now=now)
    refs = [BlobRef(FEED, "one", now - timedelta(hours=1), now + timedelta(days=6))]
    one.commit_listing(FEED, Window(now - timedelta(hours=2), now), refs, complete=True, at=now)
    yield one
    one.close()


def call(config: Path, *arguments: str) -> Result:
    environment = {"COLUMNS": "80", "NO_COLOR": "1"}
    return CliRunner().invoke(app, ["ledger", *arguments, "--config", str(config)], env=environment)


def harm(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(3 * 8192)
        file.write(b"\x55" * 8192 * 4)


@pytest.mark.usefixtures("ledger")
def test_a_copy_is_told_beside_a_running_collector(config: Path, tmp_path: Path) -> None:
    """What is in it, and that it was looked at."""
    copy = tmp_path / "copy"

    said = call(config, "backup", str(copy))
    document = json.loads(call(config, "backup", str(copy), "--json").stdout)

    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout.startswith(f"{copy}: ")
    assert said.stdout.endswith("; sound\n")
    assert "1 blob, 0 identities, as of " in said.stdout
    assert (document["file"], document["sound"], document["blobs"]) == (str(copy), True, 1)


def test_what_is_put_back_is_told_with_what_follows(
    config: Path, tmp_path: Path, ledger: SqliteLedger
) -> None:
    """As of when it is, where the other one went, and what the next run will do."""
    call(config, "backup", str(tmp_path / "copy"))
    ledger.close()

    said = call(config, "restore", str(tmp_path / "copy"))
    document = json.loads(call(config, "restore", str(tmp_path / "copy"), "--json").stdout)

    assert said.exit_code == 0
    first, second, third = said.stdout.splitlines()
    assert first.startswith("the ledger is as of 20")
    assert second.startswith("the one before is kept as ")
    assert second.endswith(".replaced.sqlite")
    assert third.startswith("the next `m365watch run` reads what the lake and files hold")
    assert Path(document["kept"]).exists()
    assert document["as_of"] is not None


@pytest.mark.usefixtures("ledger")
def test_nothing_is_put_back_while_a_collector_runs(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4, with its pid."""
    call(config, "backup", str(tmp_path / "copy"))
    arguments = ["m365watch", "ledger", "restore", str(tmp_path / "copy"), "--config", str(config)]
    monkeypatch.setattr(sys, "argv", arguments)

    with pytest.raises(SystemExit) as left:
        command_line()

    assert left.value.code == 4
    error, hint = capsys.readouterr().err.splitlines()
    assert "held by pid" in error
    assert hint.startswith("hint: stop that process first")


def test_a_look_tells_what_is_damaged_and_what_to_do(config: Path, ledger: SqliteLedger) -> None:
    """Exit code 1, line by line, or as JSON."""
    good = call(config, "check")
    ledger.close()
    harm(ledger.path)

    said = call(config, "check")
    document = call(config, "check", "--json")

    assert (good.exit_code, good.stdout.rstrip().rpartition("; ")[2]) == (0, "sound")
    assert (said.exit_code, document.exit_code) == (1, 1)
    assert "; damaged:\n  " in said.stdout
    assert said.stdout.splitlines()[-1].startswith("hint: start `m365watch run` again")
    assert json.loads(document.stdout)["sound"] is False
    assert json.loads(document.stdout)["problems"]


@pytest.mark.usefixtures("ledger")
def test_a_copy_can_be_looked_at_too(config: Path, tmp_path: Path) -> None:
    """Before somebody relies on it."""
    call(config, "backup", str(tmp_path / "copy"))
    assert call(config, "check", "--file", str(tmp_path / "copy")).exit_code == 0

    harm(tmp_path / "copy")
    assert call(config, "check", "--file", str(tmp_path / "copy")).exit_code == 1


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("content", [None, b"", b"globals: {}"])
def test_a_copy_that_is_none_is_told_with_what_helps(
    config: Path, tmp_path: Path, content: bytes | None
) -> None:
    """A start of the collector would do nothing for it."""
    if content is not None:
        (tmp_path / "copy").write_bytes(content)
    result = call(config, "check", "--file", str(tmp_path / "copy"))

    assert result.exit_code == 1
    said = f"{result.output}{result.exception}"
    assert "m365watch run" not in said
    assert "ledger backup" in said
