"""What a health check is told: whether a collector runs and gets on."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee
from typer.testing import CliRunner

from m365watch.cli.program import app
from m365watch.cli.status.liveness import alive_line
from m365watch.common.clock import SystemClock
from m365watch.config.loader import load_settings
from m365watch.ledger.sqlite_ledger import SqliteLedger
from run_figures import NOW, TENANT, feed_progress

QUARTER = timedelta(minutes=15)
HOLDER = "process 7 on host"


@guarantee(29)
def test_nobody_holds_the_ledger() -> None:
    """Not alive, however new the figures are that somebody left."""
    assert alive_line(None, [feed_progress(listed_at=NOW)], now=NOW, within=QUARTER)[0] is False


def test_a_collector_that_has_listed_nothing_yet_has_just_begun() -> None:
    """Its first token may take minutes where Entra is away: no reason to begin anew."""
    feed = feed_progress(listed_at=None, last_error_at=None)

    assert alive_line(HOLDER, [feed], now=NOW, within=QUARTER)[0] is True
    assert alive_line(HOLDER, [], now=NOW, within=QUARTER)[0] is True


@guarantee(29)
@pytest.mark.parametrize(
    ("listed_min", "refused_min", "is_alive"),
    [(15, None, True), (16, None, False), (600, 15, True), (600, 16, False), (2, 600, True)],
)
def test_the_last_answer_of_any_feed_counts_a_refusal_too(
    listed_min: int, refused_min: int | None, *, is_alive: bool
) -> None:
    """A service that is away is no fault of the collector's."""
    old = feed_progress(listed_at=NOW - timedelta(days=1), last_error_at=None)
    feed = feed_progress(
        listed_at=NOW - timedelta(minutes=listed_min),
        last_error_at=None if refused_min is None else NOW - timedelta(minutes=refused_min),
    )

    alive, line = alive_line(HOLDER, [old, feed], now=NOW, within=QUARTER)

    assert alive is is_alive
    assert HOLDER in line
    assert ("has asked Microsoft nothing since" in line) is not is_alive


@guarantee(29)
def test_the_command_says_it_in_one_line_and_by_its_exit_code(tmp_path: Path) -> None:
    """Without a collector 1, with one 0; it needs no secret."""
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "${NOBODY_HAS_IT}"}
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({"inputs": {"office365": {"credentials": credentials, "services": {"exchange": {}}}}})
    )
    config.chmod(0o600)
    asked = ["status", "--alive", "--config", str(config)]

    before = CliRunner().invoke(app, asked)
    directory = load_settings(config, environment={}, for_reading=True).state_directory
    ledger = SqliteLedger(directory, outputs=frozenset({"lake"}), now=SystemClock().now())
    during = CliRunner().invoke(app, asked)
    ledger.close()

    assert (before.exit_code, before.stdout.count("\n")) == (1, 1)
    assert "no collector runs" in before.stdout
    assert (during.exit_code, during.stdout.count("\n")) == (0, 1)
    assert f"{os.getpid()}" in during.stdout
    assert CliRunner().invoke(app, [*asked, "--json"]).exit_code == 2
