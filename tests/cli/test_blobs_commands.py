"""`m365watch blobs`, `quarantine` and `retry`: what was set aside, by name, and what can be done."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from promises import guarantee
from typer.testing import CliRunner, Result

from m365watch.cli.feeds.blobs_view import readable
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.config.loader import load_settings
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.ledger.sqlite_ledger import SqliteLedger
from one_feed import write_one_feed

OPERATING = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
FEED = Feed(TenantId("22222222-2222-2222-2222-222222222222"), ContentType.EXCHANGE)
BODY = b'<html>\x1b[2J\r\n\xff "caf\xc3\xa9"'
HOSTILE_ID = "20261124$\x1b[2J$audit_exchange$" + "na0022" * 30
WARNS_OF_LOSS = "hint: lost: fetch its time again from the audit search"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with one feed."""
    return write_one_feed(tmp_path, FEED.tenant_id)


@pytest.fixture
def ledger(config: Path) -> Iterator[SqliteLedger]:
    """The ledger of a collector that runs: one blob waits, one is quarantined, one is lost."""
    now = SystemClock().now()
    directory = load_settings(config, environment={}).state_directory
    one = SqliteLedger(directory, outputs=frozenset({"lake"}), now=now)
    names = (HOSTILE_ID, "kept", "lost")
    refs = [BlobRef(FEED, name, now - timedelta(hours=1), now + timedelta(days=6)) for name in names]
    one.commit_listing(FEED, Window(now - timedelta(hours=2), now), refs, complete=True, at=now)
    keys = {
        due.ref.content_id: due.key for due in one.due_blobs(FEED, now=now, count_max=9, besides=frozenset())
    }
    one.postpone(
        keys[HOSTILE_ID], attempts=6, next_try_at=now + timedelta(minutes=5), error="HTTP 503\x1b[2J"
    )
    one.quarantine(keys["kept"], BODY, "not a JSON array", whole=True, at=now)
    one.commit_lost(keys["lost"], "AF20051: expired", at=now)
    yield one
    one.close()


def call(config: Path, command: str, *arguments: str) -> Result:
    """What the command does on a terminal of 80 columns, or, without one, in a pipe."""
    environment = {"COLUMNS": "80", "NO_COLOR": "1"}
    return CliRunner().invoke(app, [command, "--config", str(config), *arguments], env=environment)


def document(config: Path, command: str, *arguments: str) -> dict[str, Any]:
    """What the command prints with --json."""
    result = call(config, command, "--json", *arguments)
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("command", ["status", "blobs", "quarantine"])
def test_who_looks_needs_no_secret(config: Path, command: str) -> None:
    """It is in the environment of the collector, not of the terminal beside it."""
    without_secret(config)

    result = call(config, command)

    assert (result.exit_code, result.stderr) == (0, "")


def test_who_queries_or_puts_back_needs_no_secret(config: Path, ledger: SqliteLedger) -> None:
    """Neither speaks with Microsoft."""
    ledger.close()
    without_secret(config)
    AuditWriter(config.parent / "lake", app_id="test")

    assert call(config, "retry").exit_code == 0
    assert call(config, "quarantine", "retry", "--all").exit_code == 0
    assert call(config, "query", "SELECT count(*) FROM audit").exit_code == 0


def without_secret(config: Path) -> None:
    """Let the configuration name a variable that is not set."""
    config.write_text(config.read_text(encoding="utf-8").replace("not-a-real-one", "${M365_SECRET}"))


@pytest.mark.usefixtures("ledger")
def test_blobs_says_why_each_is_not_delivered_and_what_to_do(config: Path) -> None:
    """Beside a running collector, whole names, and no control character of a server's making."""
    result = call(config, "blobs")

    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line for line in lines if not line.startswith((" ", "hint"))] == [
        f"{state}  {FEED}" for state in ("waiting", "quarantined", "lost")
    ]
    assert f"  {HOSTILE_ID}".replace("\x1b", " ") in lines
    assert any(line.startswith("  6 tries, next at ") for line in lines)
    assert any(line.endswith(": not a JSON array") for line in lines)
    assert any(line.startswith(WARNS_OF_LOSS) for line in lines)
    assert "".join(lines).isprintable()


@pytest.mark.usefixtures("ledger")
def test_blobs_can_be_narrowed_to_a_state_and_a_feed(config: Path) -> None:
    """And says on stderr, not among the answers, where there are more than it shows."""
    assert [blob["content_id"] for blob in document(config, "blobs", "--state", "lost")["blobs"]] == ["lost"]
    assert len(document(config, "blobs", "--feed", "EXCHANGE")["blobs"]) == 3
    assert call(config, "blobs", "--state", "delivered").stdout == "no blob is like that\n"

    cut = call(config, "blobs", "--limit", "1", "--json")
    assert [blob["state"] for blob in json.loads(cut.stdout)["blobs"]] == ["waiting"]
    assert cut.stderr == "only the first of 3 is shown; --limit N shows more\n"


@pytest.mark.usefixtures("ledger")
def test_a_blob_in_json_has_these_keys(config: Path) -> None:
    """Programs read it, so they are pinned; the id is what the service said, to the letter."""
    found = document(config, "blobs")["blobs"]

    assert found[0] | {"created_at": 0, "expires_at": 0, "next_try_at": 0} == {
        "tenant": FEED.tenant_id,
        "content_type": "Audit.Exchange",
        "content_id": HOSTILE_ID,
        "created_at": 0,
        "expires_at": 0,
        "state": "waiting",
        "attempts": 6,
        "next_try_at": 0,
        "missing_outputs": [],
        "reason": "HTTP 503\x1b[2J",
        "fix": None,
        "records": None,
        "duplicates": None,
        "finished_at": None,
    }
    assert [bool(blob["fix"]) for blob in found] == [False, True, True]


@pytest.mark.usefixtures("ledger")
def test_quarantine_names_each_piece_and_shows_none_unasked(config: Path) -> None:
    """A record's body stands in no listing."""
    result = call(config, "quarantine")
    (piece,) = document(config, "quarantine")["pieces"]

    assert result.stdout.startswith(f"1  {len(BODY)} bytes, not a record: not a JSON array\n")
    assert f"\n  {FEED}\n  kept\n" in result.stdout
    assert ", its blob is quarantined\n  kept " in result.stdout
    assert "html" not in result.stdout
    assert piece | {"created_at": 0, "quarantined_at": 0} == {
        "id": 1,
        "tenant": FEED.tenant_id,
        "content_type": "Audit.Exchange",
        "content_id": "kept",
        "created_at": 0,
        "state": "quarantined",
        "output": None,
        "bytes": len(BODY),
        "reason": "not a JSON array",
        "quarantined_at": 0,
    }


@pytest.mark.usefixtures("ledger")
def test_a_piece_goes_into_a_pipe_byte_for_byte(config: Path) -> None:
    """Nothing is added, not even a line break."""
    result = call(config, "quarantine", "--show", "1")

    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, BODY, "")


@pytest.mark.usefixtures("ledger")
def test_a_piece_on_a_terminal_cannot_steer_it(config: Path) -> None:
    """Whoever made the bytes may have thought of that."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "m365watch.cli.main", "quarantine", "-c", str(config), "--show", "1"]
    ended = subprocess.run(
        command, stdout=its, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=True
    )
    shown = os.read(ours, 10_000)
    os.close(its)
    os.close(ours)

    assert b"\x1b" not in shown
    assert shown.startswith(rb"<html>\x1b[2J\r")
    assert "redirect" in ended.stderr


def test_what_is_shown_of_a_piece_keeps_lines_and_letters() -> None:
    """It is read by a person."""
    assert readable(BODY) == '<html>\\x1b[2J\\r\n\\xff "café"'


@pytest.mark.usefixtures("ledger")
def test_a_piece_that_is_not_there_is_a_mistake_of_the_caller(config: Path) -> None:
    """Exit code 2, and nothing on stdout."""
    result = call(config, "quarantine", "--show", "7")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "no piece 7" in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("run", "--once"), 4),
        (("run", "--validate"), 4),
        (("recover", "--from", "2026-11-01", "--to", "2026-11-02", "--may-repeat"), 4),
        (("quarantine", "retry", "--all"), 4),
        (("ledger", "restore", "state/ledger.sqlite"), 4),
        (("ledger", "backup", "copy.sqlite"), 0),
        (("ledger", "check"), 0),
        (("retry",), 0),
        (("gaps",), 0),
        (("drift",), 0),
    ],
)
def test_which_commands_work_beside_a_collector_is_what_the_page_says(
    config: Path, arguments: tuple[str, ...], exit_code: int
) -> None:
    """docs/operating.md says it once, at its beginning."""
    command = [sys.executable, "-m", "m365watch", *arguments, "-c", str(config)]
    folder = config.parent
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=folder
    )
    first = " ".join(OPERATING.partition("```")[0].split())

    assert ended.returncode == exit_code, ended.stderr
    if exit_code:
        named = " ".join(word for word in arguments[:2] if word.isalpha())
        assert f"`{named}`" in first.partition("Only ")[2].partition("exit code 4")[0]


def test_an_option_that_would_not_count_before_a_command_is_refused(config: Path) -> None:
    """`quarantine --json list` printed the page, as if nobody had asked for JSON."""
    refused = CliRunner().invoke(app, ["quarantine", "--json", "list", "--config", str(config)])

    assert refused.exit_code == 2
    assert "--json goes behind list" in refused.stderr


@pytest.mark.slow
def test_quarantine_retry_puts_blobs_back_once_the_collector_has_stopped(
    config: Path, ledger: SqliteLedger
) -> None:
    """While it runs, exit code 4 and who holds the ledger."""
    command = [sys.executable, "-m", "m365watch.cli.main", "quarantine", "retry", "--all"]
    command += ["-c", str(config)]
    held = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    ledger.close()
    done, again = (call(config, "quarantine", "retry", "--feed", "Exchange") for _ in range(2))

    assert held.returncode == 4
    assert f"held by pid {os.getpid()} on " in held.stderr
    assert "hint: stop that process first" in held.stderr
    assert done.stdout == "1 blob will be fetched again by the next `m365watch run`\n"
    assert again.stdout.startswith("no blob to fetch again: none of these pieces has a blob in quarantine; ")
    assert [blob["state"] for blob in document(config, "blobs")["blobs"]] == ["waiting", "lost", "waiting"]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    "command", [("retry",), ("blobs",), ("quarantine",), ("quarantine", "list"), ("quarantine", "retry")]
)
def test_a_feed_that_there_is_not_is_a_mistake_of_the_caller(config: Path, command: tuple[str, ...]) -> None:
    """Nothing found of it would sound as if all were well; the feeds that there are, are named."""
    result = call(config, *command, "--feed", "nonsense")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "there are" in result.stderr
    assert "Audit.Exchange" in result.stderr


def test_a_piece_that_is_not_there_cannot_be_retried(config: Path, ledger: SqliteLedger) -> None:
    """As with `show`; what else was named is left as it is."""
    ledger.close()
    result = call(config, "quarantine", "retry", "1", "7")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no piece 7 in quarantine" in result.stderr
    assert call(config, "quarantine", "retry", "1").exit_code == 0


@pytest.mark.usefixtures("ledger")
def test_status_names_what_waits(config: Path) -> None:
    """Without --json too."""
    result = call(config, "status")

    assert f"waiting: Exchange {HOSTILE_ID}: 6 tries, next at ".replace("\x1b", " ") in result.stdout
    assert f"hint: the pieces kept: `m365watch quarantine --config {config}`\n" in result.stdout


@guarantee(3)
@pytest.mark.parametrize("arguments", [(), ("1", "--all"), ("--all", "--feed", "x")])
@pytest.mark.parametrize("command", ["retry", "drop"])
def test_which_pieces_are_meant_is_said_in_one_way(
    config: Path, command: str, arguments: tuple[str, ...]
) -> None:
    """Nothing is dropped or put back by mistake."""
    assert call(config, "quarantine", command, *arguments).exit_code == 2


@pytest.mark.usefixtures("ledger")
def test_list_and_show_are_what_the_bare_command_does(config: Path) -> None:
    """Scripts that were written for the options go on."""
    assert call(config, "quarantine", "list").stdout == call(config, "quarantine").stdout
    assert call(config, "quarantine", "show", "1").stdout_bytes == BODY
    assert call(config, "quarantine", "show", "7").exit_code == 2


@guarantee(3)
def test_a_piece_is_dropped_beside_a_running_collector_and_counted(
    config: Path, ledger: SqliteLedger
) -> None:
    """Not before somebody said yes; the blob stays what it is, and the collector writes on."""
    assert "piece kept in quarantine" in call(config, "status").stdout
    no = CliRunner().invoke(app, ["quarantine", "drop", "1", "-c", str(config)], input="n\n")
    assert (no.exit_code, document(config, "quarantine")["total"]) == (1, 1)
    assert "Remove 1 piece" in no.stderr

    done = call(config, "quarantine", "drop", "1", "--yes")
    assert (done.exit_code, done.stdout) == (0, "1 piece dropped from quarantine\n")
    assert document(config, "quarantine")["total"] == 0
    assert document(config, "status")["pieces_dropped"] == 1
    page = call(config, "status").stdout
    assert "quarantine: 1 piece dropped by hand" in page
    assert "kept in quarantine" not in page
    assert "piece in quarantine" not in page
    assert [blob["state"] for blob in document(config, "blobs", "--state", "quarantined")["blobs"]] == [
        "quarantined"
    ]
    ledger.remember("test", "1")
    assert call(config, "quarantine", "drop", "1", "--yes").exit_code == 2


def test_what_was_changed_is_counted_for_programs(config: Path, ledger: SqliteLedger) -> None:
    """One document each, in place of the sentence."""

    def said(*words: str) -> Any:
        return json.loads(call(config, *words, "--json").stdout)

    hastened, none = said("retry"), said("retry", "--feed", "exchange")
    ledger.close()
    put_back = said("quarantine", "retry", "--all")
    dropped = said("quarantine", "drop", "--all", "--yes")

    assert (hastened, none) == ({"schema": 1, "due": 1}, {"schema": 1, "due": 0})
    assert put_back == {"schema": 1, "waiting": 1, "left": 0}
    assert dropped == {"schema": 1, "dropped": 1}


def test_retry_makes_what_waits_due_beside_a_running_collector(config: Path, ledger: SqliteLedger) -> None:
    """The collector finds it at its next look; quarantined and lost blobs stay."""
    now = SystemClock().now()
    assert ledger.due_blobs(FEED, now=now, count_max=9, besides=frozenset()) == []

    assert call(config, "retry").stdout.startswith("1 blob due now: ")
    assert call(config, "retry", "--feed", "exchange").stdout == "no blob waits for a later try\n"

    due = ledger.due_blobs(FEED, now=now, count_max=9, besides=frozenset())
    assert [(one.ref.content_id, one.attempts) for one in due] == [(HOSTILE_ID, 6)]
