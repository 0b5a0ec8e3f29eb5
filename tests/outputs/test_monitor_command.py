"""`m365watch monitor` as it is typed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee
from typer.testing import CliRunner

from devo_stand_in import TOKEN, DevoStandIn
from m365watch.cli.monitor import region_api
from m365watch.cli.program import app
from m365watch.config.loader import load_settings
from m365watch.health.devo_alerts import collector_alerts
from m365watch_testing.loopback import LoopbackServer


def configuration(folder: Path, *, outputs: dict[str, object] | None = None) -> Path:
    """A configuration file of a collector named west."""
    credentials = {
        "client_id": "11111111-1111-4111-8111-111111111111",
        "tenant_id": "22222222-2222-4222-8222-222222222222",
        "client_secret": "s",
    }
    document = {
        "globals": {"name": "west"},
        "inputs": {"office365": {"id": "1", "credentials": credentials, "services": {"exchange": {}}}},
        "outputs": outputs or {"lake": {"type": "lake", "config": {}}},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


@contextmanager
def served(devo: DevoStandIn) -> Iterator[str]:
    """Devo on loopback beside the command, which has a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = LoopbackServer(devo)
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    try:
        yield f"{server.url}/alerts"
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def typed(*words: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and what was printed."""
    found = CliRunner(env={"COLUMNS": "80"} | (environment or {})).invoke(app, ["monitor", *words])
    return found.exit_code, found.output


def test_without_apply_nothing_is_sent_and_each_query_is_whole(tmp_path: Path) -> None:
    """To be pasted into Devo's form."""
    code, printed = typed("--config", str(configuration(tmp_path)))

    assert code == 0
    assert "m365watch west: collector failed" in printed
    assert "low: at most 0 in 1 h" in printed
    queries = [line for line in printed.splitlines() if line.startswith("from ")]
    assert queries == [
        one.query for one in collector_alerts("west", says_every=timedelta(minutes=5), records_after=None)
    ]


@guarantee(30)
def test_applied_twice_they_are_there_once_and_removed_they_are_gone(tmp_path: Path) -> None:
    """With the token from the environment."""
    config, devo = str(configuration(tmp_path)), DevoStandIn()
    with served(devo) as api:

        def call(*words: str) -> list[str]:
            code, printed = typed(
                "--config", config, "--api", api, "--json", *words, environment={"DEVO_ALERTS_TOKEN": TOKEN}
            )
            assert code == 0, printed
            assert TOKEN not in printed
            return [one["outcome"] for one in json.loads(printed)["alerts"]]

        assert call("--apply") == ["created", "created"]
        assert call("--apply", "--records-after", "12") == ["unchanged", "unchanged", "created"]
        assert len(devo.kept) == 3
        assert call("--remove") == ["removed", "removed", "removed"]
        assert devo.kept == {}


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As every secret's file."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)

    code, printed = typed(
        "--config", str(configuration(tmp_path)), "--api", "https://api-us.devo.com/alerts",
        "--apply", "--token-file", str(token),
    )  # fmt: skip

    assert code == 2
    assert "chmod 600" in printed.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--apply", "--remove"), "--apply or --remove"),
        (("--apply",), "no output tells Devo's region"),
        (("--apply", "--api", "http://devo.example/alerts"), "unencrypted"),
        (("--apply", "--api", "https://api-us.devo.com/alerts"), "DEVO_ALERTS_TOKEN"),
    ],
)
def test_a_wrong_call_says_what_would_be_right(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """In one line, with exit code 2."""
    code, printed = typed("--config", str(configuration(tmp_path)), *words)

    assert code == 2
    assert said in " ".join(printed.replace("│", " ").split())


@pytest.mark.parametrize(
    ("endpoint", "api"),
    [
        ("https://http-eu.devo.io", "https://api-eu.devo.com/alerts"),
        ("https://http-us.devo.io:443", "https://api-us.devo.com/alerts"),
        ("https://http-eu.devo.io.evil.example", None),
        ("https://relay.contoso.example", None),
    ],
)
def test_the_region_of_an_output_tells_the_api(tmp_path: Path, endpoint: str, api: str | None) -> None:
    """And a host that is not Devo's never gets the token."""
    config = {"endpoint": endpoint, "domain": "d", "token": "t" * 32}
    path = configuration(tmp_path, outputs={"devo": {"type": "devo_http", "config": config}})

    assert region_api(load_settings(path, environment={})) == api
