"""`status` where the file of detections is damaged: it is one line of the page, and the rest is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch.detection.detection_output import FILE_NAME
from m365watch.ledger.sqlite_ledger import SqliteLedger

TENANT = "22222222-2222-2222-2222-222222222222"


def status(folder: Path, *arguments: str) -> Result:
    document = {
        "inputs": {
            "office365": {
                "credentials": {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made up"},
                "cloud": dict.fromkeys(("login_url", "management_url"), "http://127.0.0.1:9"),
            }
        },
    }
    config = folder / "m365watch.json"
    config.write_text(json.dumps(document))
    config.chmod(0o600)
    return CliRunner().invoke(app, ["status", *arguments, "--config", str(config)], catch_exceptions=False)


@pytest.mark.parametrize("content", [b"", b"no database at all " * 300])
def test_status_shows_all_else_where_the_file_of_detections_is_damaged(
    tmp_path: Path, content: bytes
) -> None:
    """Whether records are collected is what one asks first, just then."""
    state = tmp_path / "state"
    SqliteLedger(state, outputs=frozenset({"lake", "detections"}), now=SystemClock().now()).close()
    path = state / FILE_NAME
    path.write_bytes(content)
    page = status(tmp_path)
    words = " ".join(page.stdout.split())
    document = json.loads(status(tmp_path, "--json").stdout)

    assert (page.exit_code, "in all: " in words) == (0, True)
    assert f"detections: {path}: the file of detections " in words
    assert "; start `m365watch run` again: it sets a damaged file aside, and makes it anew from" in words
    assert document["detections_trouble"].startswith(f"{path}: the file of detections ")
    assert "detections" not in document
    assert "m365watch_read_timestamp_seconds" in status(tmp_path, "--metrics").stdout
