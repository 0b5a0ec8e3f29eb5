"""`m365watch alerts notify`: how targets stand, each tried by hand; `status` and `check` on them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from channels_configured import wanting
from typer.testing import CliRunner, Result

from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch.common.errors import OutputUnusable
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.notifications.notification import Standing
from m365watch.notifications.notification_database import FILE_NAME
from m365watch.notifications.outbox import NotificationStore
from m365watch_testing.loopback import LoopbackServer, Received, Reply

TENANT = "22222222-2222-2222-2222-222222222222"
NOW_MS = round(SystemClock().now().timestamp() * 1000)
ALERT = Alert(
    id=AlertId("aaaa1111" + "0" * 24),
    rule_id="r",
    title="Inbox rule \x1b[2J sends mail outside",
    severity=Severity.HIGH,
    tenant=TENANT,
    group=("g",),
    entities=(("user", "ann@contoso.example"),),
    first_at_ms=NOW_MS,
    last_at_ms=NOW_MS,
    count=2,
    evidence=("record-1",),
    explanation="ann@contoso.example made a rule.",
)


@contextmanager
def server_running(answer: Callable[[Received], Reply]) -> Iterator[LoopbackServer]:
    """A server in a loop of its own, for commands that run theirs."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[Any] = []

    async def serve() -> None:
        async with LoopbackServer(answer) as server:
            found.extend([server, asyncio.get_running_loop()])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield found[0]
    finally:
        found[1].call_soon_threadsafe(stop.set)
        thread.join(10)


class Site:
    """A configuration with a few targets, and the state of a collector that has run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "m365watch.json"
        self.url = "http://127.0.0.1:9"
        self.write()

    def write(self) -> None:
        targets = {
            "soc": {"type": "webhook", "webhook_url": f"{self.url}/ok", "signing_secret": "0123456789abcdef"},
            "chat": {"type": "slack", "webhook_url": f"{self.url}/gone"},
            "pager": {"type": "pagerduty", "routing_key": "made-up-key", "endpoint": f"{self.url}/page"},
        }
        document = {
            "inputs": {
                "office365": {
                    "credentials": {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made up"},
                    # Nobody listens there, and no test asks Microsoft's hosts.
                    "cloud": dict.fromkeys(("login_url", "management_url"), "http://127.0.0.1:9"),
                }
            },
            "detections": {"notifications": targets},
        }
        self.config.write_text(json.dumps(document))
        self.config.chmod(0o600)

    def run(self, *arguments: str) -> Result:
        """The command's outcome; nothing of it is a traceback."""
        return CliRunner().invoke(app, [*arguments, "--config", str(self.config)], catch_exceptions=False)

    def told(self) -> None:
        """A run has told one target, was refused by another, and could not reach the third."""
        state = self.folder / "state"
        SqliteLedger(state, outputs=frozenset({"lake", "detections"}), now=SystemClock().now()).close()
        store = NotificationStore(state / FILE_NAME)
        sections = dict.fromkeys(("soc", "chat", "pager"), wanting())
        store.register(sections, now_ms=NOW_MS - 1)
        store.take([(ALERT.id, Standing(ALERT))], sections, now_ms=NOW_MS)
        for name, refused in (("soc", {}), ("chat", {0: "HTTP 400: invalid_blocks"})):
            outgoing = store.begin_alone(name, most=1, now_ms=NOW_MS)
            assert outgoing is not None
            store.settle(name, outgoing, wanting(), now_ms=NOW_MS, refused=refused)
        store.fail("pager", "no connection", next_ms=NOW_MS + 900_000, now_ms=NOW_MS)
        store.close()


@pytest.fixture(autouse=True)
def _shell_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shell of whoever runs the tests says is not what a command here is told."""
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_target_that_no_run_has_known_says_so(site: Site) -> None:
    """Before the first run there is nothing to look at, which is no mistake."""
    result = site.run("alerts", "notify")

    assert result.exit_code == 0
    assert "soc (webhook): no run has begun to tell it anything" in result.output


def test_the_page_says_how_each_target_stands(site: Site) -> None:
    """What it took, what waits and why, and what it refused, with the way to more."""
    site.told()
    result = site.run("alerts", "notify")

    assert result.exit_code == 0
    assert "soc (webhook): 1 notification taken, the last at" in result.stdout
    assert "pager (pagerduty): 0 notifications taken; 1 alert waits" in result.stdout
    assert "no connection" in result.stdout
    assert "1 notification refused; tried again with `alerts notify chat --again`" in result.stdout
    assert "HTTP 400: invalid_blocks: [HIGH] Inbox rule" in result.stdout
    assert "`m365watch alerts show aaaa1111`" in result.stdout
    assert "\x1b[2J" not in result.stdout


def test_the_document_has_the_same_for_programs(site: Site) -> None:
    """With what waits since when, and what was refused."""
    site.told()
    document = json.loads(site.run("alerts", "notify", "--json").stdout)
    by_name = {one["name"]: one for one in document["targets"]}

    assert document["schema"] == 1
    assert {name: one["sent"] for name, one in by_name.items()} == {"soc": 1, "chat": 0, "pager": 0}
    assert by_name["pager"]["trouble"] == "no connection"
    assert by_name["pager"]["waiting"] == 1
    [refused] = document["refused"]
    assert (refused["target"], refused["reason"]) == ("chat", "HTTP 400: invalid_blocks")


def test_what_was_refused_waits_again_on_request(site: Site) -> None:
    """And only that of the target that is named."""
    site.told()

    assert "0 notifications that" in site.run("alerts", "notify", "soc", "--again").stdout
    assert "1 notification that had been refused wait again" in site.run("alerts", "notify", "--again").stdout
    assert json.loads(site.run("alerts", "notify", "--json").stdout)["refused"] == []


def test_a_test_is_sent_to_each_target_with_a_cure_where_it_fails(site: Site) -> None:
    """A line each; an incident is opened and resolved; the exit code says that one failed."""

    def answer(received: Received) -> Reply:
        gone = Reply(404, body=b"no_service", headers={"Content-Type": "text/plain"})
        return gone if received.target == "/gone" else Reply(202)

    with server_running(answer) as server:
        site.url = server.url
        site.write()
        result = site.run("alerts", "notify", "--test")
        sent = [(one.target, json.loads(one.body)) for one in server.received]
        only = site.run("alerts", "notify", "soc", "--test", "--json")

    assert result.exit_code == 1
    assert "ok  soc (webhook): a test was sent and taken" in result.stdout
    assert "FAILED  chat (slack): the receiver answered HTTP 404: no_service\n" in result.stdout
    assert "make a new incoming webhook in Slack, and give its URL as webhook_url" in result.stdout
    assert [body["event_action"] for target, body in sent if target == "/page"] == ["trigger", "resolve"]
    assert [body["test"] for target, body in sent if target == "/ok"] == [True]
    assert only.exit_code == 0
    assert [one["ok"] for one in json.loads(only.stdout)["targets"]] == [True]


def test_a_target_that_there_is_not_is_named(site: Site) -> None:
    """With those that there are."""
    result = site.run("alerts", "notify", "nobody")

    assert result.exit_code == 2
    assert "there is no target 'nobody'; there are soc, chat, pager" in " ".join(result.output.split())


def test_an_alert_says_who_was_told_of_it(site: Site) -> None:
    """So that nobody wakes the second one for what the first one knows."""
    site.told()
    state = DetectionState(site.folder / "state" / "detections.sqlite")
    state.alerts.put(KeptAlert(ALERT, shown=True))
    state.close()
    page = " ".join(site.run("alerts", "show", "aaaa1111").stdout.split())
    document = json.loads(site.run("alerts", "show", "aaaa1111", "--json").stdout)

    assert "told chat (2" in page
    assert "pager (waits), soc (2" in page
    assert [(one["target"], one["waits"]) for one in document["notifications"]] == [
        ("chat", False),
        ("pager", True),
        ("soc", False),
    ]


def test_status_says_what_is_wrong_with_a_target(site: Site) -> None:
    """A line for all of them, and one for each that something is wrong with."""
    site.told()
    page = site.run("status").stdout
    document = json.loads(site.run("status", "--json").stdout)

    assert "notifications: 1 notification taken by 3 targets; 1 alert waiting" in page
    assert "notifications: pager: for" in page
    assert "no connection; 1 alert waiting" in page
    assert "notifications: chat: 1 notification refused; `m365watch alerts notify`" in page
    assert {one["name"]: one["refused"] for one in document["notifications"]} == {
        "soc": 0,
        "chat": 1,
        "pager": 0,
    }


def test_check_tries_the_way_and_tells_nobody(site: Site) -> None:
    """A receiver that does not listen is found before it is needed."""
    with server_running(lambda _: Reply()) as server:
        site.url = server.url
        site.write()
        good = json.loads(site.run("check", "--json", "--timeout", "2").stdout)
        received = list(server.received)
    away = json.loads(site.run("check", "--json", "--timeout", "2").stdout)

    def steps(document: dict[str, Any]) -> dict[str, str]:
        groups = [group for group in document["groups"] if group["place"] == "outputs"]
        return {
            step["subject"]: step["verdict"]
            for group in groups
            for step in group["steps"]
            if step["step"] == "notification"
        }

    assert steps(good) == {"soc": "ok", "chat": "ok", "pager": "ok"}
    assert received == []
    assert steps(away) == {"soc": "broken", "chat": "broken", "pager": "broken"}


def harm(site: Site, how: str) -> Path:
    """Let the file of notifications be none any more."""
    path = site.folder / "state" / FILE_NAME
    match how:
        case "garbage":
            path.write_bytes(b"no database at all " * 300)
        case "cut short":
            path.write_bytes(path.read_bytes()[:-5000])
        case "emptied":
            path.write_bytes(b"")
        case "a folder":
            path.unlink()
            path.mkdir()
        case "newer":
            with closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA user_version = 99")
        case "garbled":
            with closing(sqlite3.connect(path, isolation_level=None)) as database:
                database.execute("UPDATE aside SET body = x'ff00'")
                database.execute("UPDATE told SET body = x'ff00'")
    return path


HARMS = ["garbage", "cut short", "emptied", "a folder", "newer", "garbled"]


@pytest.mark.parametrize("how", HARMS)
def test_status_shows_all_else_where_the_file_of_notifications_cannot_be_read(site: Site, how: str) -> None:
    """One line names it and says what to do; the figures say that no target can be told."""
    site.told()
    path = harm(site, how)
    before = path.read_bytes() if path.is_file() else b""
    shown = site.run("status")
    document = json.loads(site.run("status", "--json").stdout)
    metrics = site.run("status", "--metrics").stdout

    assert (shown.exit_code, "in all: " in shown.stdout) == (0, True)
    words = " ".join(shown.stdout.split())
    assert f"notifications: {path}: the file of notifications cannot be " in words
    assert any(
        one in words
        for one in ("or move it away", "; move it away", "; see to the disk", "; start `m365watch run`")
    )
    assert document["notifications_trouble"].startswith(f"{path}: the file of notifications cannot be ")
    assert "notifications" not in document
    assert 'm365watch_notifications_failing{target="soc"} 1' in metrics
    assert "m365watch_notifications_total" not in metrics
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.parametrize("how", HARMS)
def test_an_alert_is_shown_where_the_file_of_notifications_cannot_be_read(site: Site, how: str) -> None:
    """A note says so; `alerts notify` is about that file, and refuses by its name."""
    site.told()
    state = DetectionState(site.folder / "state" / "detections.sqlite")
    state.alerts.put(KeptAlert(ALERT, shown=True))
    state.close()
    path = harm(site, how)
    shown = site.run("alerts", "show", "aaaa1111")
    document = json.loads(site.run("alerts", "show", "aaaa1111", "--json").stdout)

    assert (shown.exit_code, "ann@contoso.example made a rule." in shown.stdout) == (0, True)
    assert shown.stderr.startswith(f"note: {path}: the file of notifications cannot be ")
    assert document["notifications"] is None
    with pytest.raises(OutputUnusable, match="the file of notifications cannot be "):
        site.run("alerts", "notify")


@pytest.mark.parametrize("how", HARMS)
def test_check_names_a_file_of_notifications_that_cannot_be_read(site: Site, how: str) -> None:
    """Before anybody waits for an alert that nobody is told of; the targets are tried all the same."""
    site.told()
    path = harm(site, how)
    document = json.loads(site.run("check", "--json", "--timeout", "2").stdout)

    [group] = [group for group in document["groups"] if group["place"] == "outputs"]
    [step] = [one for one in group["steps"] if one["step"] == "notification" and not one["subject"]]
    assert step["verdict"] == "broken"
    assert step["seen"].startswith(f"{path}: the file of notifications cannot be ")
    assert step["fix"]
    assert {one["subject"] for one in group["steps"]} >= {"soc", "chat", "pager"}
