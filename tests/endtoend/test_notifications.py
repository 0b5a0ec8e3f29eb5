"""From a record of the service to whoever is told: a whole run, real receivers, and an analyst in between."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from channels_configured import channel_of, sender_of, slack
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.clock import SystemClock, system_random
from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts import triage as desk
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.factory import unknown_rules
from m365watch.notifications.notification import Notification, Standing, Tiding, make_notification
from m365watch.notifications.notification_database import FILE_NAME as NOTIFICATIONS
from m365watch.notifications.outbox import NotificationStore
from m365watch.registry.channel_specs import Channel
from m365watch.runtime.collector import Collector, Outcome
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_testing.certificates import Authority
from m365watch_testing.loopback import LoopbackServer, Received, Reply
from place import Place
from rsyslog_peer import CLIENT, Rsyslog, need_rsyslog

SECRET = "a secret that both sides know"
RULE = """\
title: A record of any kind
id: 5f1c6c0e-7d0b-4a51-9a4e-000000000001
status: test
logsource: {product: m365, service: exchange}
detection: {s: {Id|exists: true}, condition: s}
level: high
m365watch: {group_by: [Id]}
"""


class Scene:
    """A simulated tenant, a rule that finds something, and a webhook that answers as it is told."""

    def __init__(self, folder: Path, running: Any, server: LoopbackServer) -> None:
        self.folder = folder
        self.running = running
        self.server = server
        (folder / "rules").mkdir(exist_ok=True)
        (folder / "rules" / "any.yml").write_text(RULE, encoding="utf-8")

    def settings(self) -> Settings:
        target: dict[str, object] = {
            "type": "webhook",
            "webhook_url": f"{self.server.url}/in",
            "signing_secret": SECRET,
        }
        target["rate_limit_per_minute"] = 6_000  # The attack of a day may make more than the default of 300.
        outputs = {"files": {"type": "files"}}
        document = self.running.configuration(outputs=outputs)
        document["detections"] = {
            "enabled": True,
            "packs": [],
            "risk_points": 0,
            "rules_directories": [str(self.folder / "rules")],
            "notifications": {"soc": target, "archive": {"type": "output", "output": "files"}},
        }
        return Place(self.folder).settings(document)

    async def run(self) -> Outcome:
        collector = Collector(self.settings(), clock=SystemClock(), random=system_random(1))
        async with asyncio.timeout(PATIENCE_S):
            return await collector.run(once=True, stop=asyncio.Event())

    def alerts(self) -> dict[str, AlertState]:
        """The alerts that there are, with their states."""
        found = desk.list_alerts(self.settings().state_directory / FILE_NAME, desk.AlertsAsked())
        return {one.alert.id: one.state for one in found}


def verified(received: Received) -> dict[str, Any]:
    """The body, once its signature is what the receiver makes of it, too."""
    timestamp = received.headers["X-M365watch-Timestamp"]
    wanted = hmac.new(SECRET.encode(), timestamp.encode() + b"." + received.body, hashlib.sha256).hexdigest()
    assert received.headers["X-M365watch-Signature"] == f"v1={wanted}"
    document: dict[str, Any] = json.loads(received.body)
    return document


@guarantee(41)
def test_every_alert_of_a_run_is_told_and_so_is_what_becomes_of_it(tmp_path: Path) -> None:
    """By a webhook that is away at first, and in files; what is decided between two runs, by the next."""
    answers = {"status": 503}

    async def use() -> None:
        simulated = SimulationSettings(seed=3, days=1, records_per_day=60, live=False)
        async with (
            simulator_running(simulated, clock=SystemClock()) as running,
            LoopbackServer(lambda _: Reply(answers["status"])) as server,
        ):
            scene = Scene(tmp_path, running, server)
            assert (await scene.run()).exit_code == 0
            known = scene.alerts()
            refused = len(server.received)
            answers["status"] = 200
            assert (await scene.run()).exit_code == 0
            told = [verified(one) for one in server.received[refused:]]

            assert len(known) > 3
            assert 0 < refused < 10
            assert sorted(one["alert"]["id"] for one in told) == sorted(known)
            assert {one["tiding"] for one in told} == {"new"}

            first = min(known)
            path = scene.settings().state_directory / FILE_NAME
            desk.set_states(path, [first], AlertState.CLOSED, reason="a drill", by="bob", at_ms=1)
            assert (await scene.run()).exit_code == 0
            [closed] = [verified(one) for one in server.received[refused + len(told) :]]
            assert (closed["tiding"], closed["alert"]["id"], closed["thread"]) == ("closed", first, first)
            assert (closed["alert"]["reason"], closed["alert"]["changed_by"]) == ("a drill", "bob")
            assert archived(tmp_path) == sorted([*known, first])

    asyncio.run(use())


def test_a_target_that_waits_for_a_rule_that_there_is_not_is_told(tmp_path: Path) -> None:
    """By a word that a rule's number, id or title has nothing of: nobody would ever be woken by it."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "any.yml").write_text(RULE, encoding="utf-8")
    rules = ["any kind", "b99", "5f1c6c0e-7d0b-4a51-9a4e-000000000001", "risk"]
    settings = DetectionsSection(
        enabled=True,
        packs=(),
        rules_directories=(tmp_path / "rules",),
        notifications={"soc": slack("soc", rules=rules).section},
    )

    assert unknown_rules(settings) == {"soc": ["b99"]}


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 300)


def cut_short(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 - 100])


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def closed(path: Path) -> None:
    path.unlink()
    path.mkdir()


CURES: dict[Callable[[Path], None], str] = {
    garbage: "; move it away",
    cut_short: "; move it away",
    newer: "; use the m365watch that wrote it, or move it away",
    closed: "; see to the disk, its room and its rights",
}
"""What is said to do, by what was done to the file."""


@guarantee(41)
@pytest.mark.parametrize("harm", CURES)
def test_a_file_of_notifications_that_cannot_be_used_stops_no_collecting(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """What is found meanwhile is told once it is moved away, and before that it is said that nobody is."""

    async def use() -> None:
        simulated = SimulationSettings(seed=3, days=1, records_per_day=60, live=False)
        async with (
            simulator_running(simulated, clock=SystemClock()) as running,
            LoopbackServer(lambda _: Reply(200)) as server,
        ):
            scene = Scene(tmp_path, running, server)
            state = scene.settings().state_directory
            prepare(state)
            path = state / NOTIFICATIONS
            harm(path)
            with capture_logs() as lines:
                outcome = await scene.run()
            known = scene.alerts()

            assert outcome.exit_code == 0
            assert (len(known) > 3, len(server.received)) == (True, 0)
            [line] = [one for one in lines if one["log_level"] in {"warning", "error"}]
            assert (line["log_level"], line["code"]) == ("error", "output_unusable")
            assert line["event"].startswith(f"notifications: {path}: the file of notifications cannot be ")
            assert CURES[harm] in line["event"]

            path.rename(state / "away")
            assert (await scene.run()).exit_code == 0
            told = [verified(one)["alert"]["id"] for one in server.received]
            assert sorted(told) == sorted(known)

    asyncio.run(use())


def prepare(state: Path) -> None:
    """The file, as a run leaves it that has told targets of something."""
    state.mkdir(parents=True, exist_ok=True)
    store = NotificationStore(state / NOTIFICATIONS)
    store.register(["soc", "archive"], now_ms=0)
    store.close()


def archived(folder: Path) -> list[str]:
    """The ids of the alerts in the files of the output."""
    [table] = folder.rglob("cloud.office365.alerts")
    lines = [line for path in table.iterdir() for line in path.read_text().splitlines()]
    return sorted(json.loads(line)["alert"]["id"] for line in lines)


# Syslog -----------------------------------------------------------------------------------------


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[tuple[Rsyslog, Authority]]:
    """rsyslog, listening."""
    need_rsyslog()
    authority = Authority(tmp_path)
    with Rsyslog(tmp_path, authority) as peer:
        yield peer, authority


def target_of(peer: Rsyslog, authority: Authority, transport: str, framing: str, form: str) -> Channel[Any]:
    client = authority.issue(CLIENT)
    keys: dict[str, Any] = {
        "address": "localhost" if transport == "tls" else "127.0.0.1",
        "port": {"tcp": peer.tcp_port, "tls": peer.tls_port, "udp": peer.udp_port}[transport],
        "transport": transport,
        "framing": framing,
        "format": form,
        "hostname": "host.example",
    }
    if transport == "tls":
        keys |= {"chain": str(authority.chain), "cert": str(client.cert), "key": str(client.key)}
    return channel_of("syslog", "siem", **keys)


def notifications(count: int) -> list[Notification]:
    hostile = 'eve"] \\ <x> 漢字 |=\r\n<0>1 - - - - - - a line of its own'
    return [
        make_notification(
            Tiding.NEW,
            Standing(
                Alert(
                    id=AlertId(f"{number:032x}"),
                    rule_id="r",
                    title="A title",
                    severity=Severity.HIGH,
                    tenant="t",
                    group=("g",),
                    entities=(("user", hostile),),
                    first_at_ms=1_795_730_400_000,
                    last_at_ms=1_795_730_400_000,
                    count=1,
                    evidence=("e",),
                    explanation=hostile,
                )
            ),
            thread="t",
            made_at_ms=1_795_730_400_000,
        )
        for number in range(1, count + 1)
    ]


@guarantee(41)
@pytest.mark.parametrize(
    ("transport", "framing", "form"),
    [("tls", "octet-counting", "rfc5424"), ("tcp", "newline", "cef"), ("udp", "newline", "rfc5424")],
)
def test_rsyslog_reads_each_alert_as_one_line(
    peer: tuple[Rsyslog, Authority], transport: str, framing: str, form: str
) -> None:
    """With the alert's own severity; no hostile value begins another line."""
    running, authority = peer
    target = target_of(running, authority, transport, framing, form)

    async def use() -> None:
        sender = sender_of(target)
        assert "nothing was sent" in await sender.check() or transport == "udp"
        await sender.open(last=0, position="", newest=0)
        for number, notification in enumerate(notifications(3), 1):
            assert (await sender.send(number, [notification])).refused == {}
        await sender.close()

    asyncio.run(use())
    running.stop()

    # A connection whose end is not told in order is no proof: what it had is sent again, byte for byte.
    lines = list(dict.fromkeys(running.lines(f"{transport}.raw")))
    assert len(lines) == 3
    assert all(line.startswith(b"<83>1 2026-11-26T") for line in lines), lines
    assert [b"%032x" % number in line for number, line in enumerate(lines, 1)] == [True] * 3
    assert all("漢字".encode() in line for line in lines)
