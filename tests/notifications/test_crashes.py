"""Whatever crashes, whenever: what a target ends up with is what is, and nothing is lost on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from channels_configured import channel_of, wanting
from promises import guarantee

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.alert_changes import Changes
from m365watch.notifications.notification import Notification, Tiding
from m365watch.notifications.notification_database import FILE_NAME
from m365watch.notifications.notification_policy import Move, choose
from m365watch.notifications.outbox import NotificationStore
from notify_scene import START_MS, Detections, make_alert

SEEDS = 30
STEPS = 60
TARGETS = {
    "soc": wanting(rate_limit_per_minute=20, digest_after=4, update_interval_secs=600),
    "siem": channel_of(
        "syslog", "siem", address="siem.example", port=514, min_severity="low", update_interval_secs=60
    ).section,
}


class Crash(Exception):
    """The process is gone."""


@dataclass
class Known:
    """What a receiver makes of what it is told, as a person or a program would."""

    keys: set[str] = field(default_factory=set)
    states: dict[str, str] = field(default_factory=dict)
    """By thread: the state of each alert that it was told of alone."""
    marks: dict[str, str] = field(default_factory=dict)
    in_digest: set[str] = field(default_factory=set)

    def hear(self, notification: Notification) -> None:
        """Take it, unless it was there before."""
        if notification.key in self.keys:
            return
        self.keys.add(notification.key)
        if notification.digest is not None:
            self.in_digest |= {one.alert_id for one in notification.digest.covered}
        elif notification.standing is not None:
            thread = notification.thread
            state = {Tiding.NEW: "open", Tiding.WITHDRAWN: "gone"}.get(notification.tiding)
            self.states[thread] = state or str(notification.standing.state)
            self.marks[thread] = notification.standing.mark


class World:
    """Files, what happens to alerts, and a collector that crashes between any two steps."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = Random(seed)
        self.folder = folder
        self.now_ms = START_MS
        self.detections = Detections(folder)
        self.alerts: dict[str, Alert] = {}
        self.states: dict[str, AlertState] = {}
        self.known = {name: Known() for name in TARGETS}
        self.crashes = True
        self.open()
        self.store.register(TARGETS, now_ms=self.now_ms)

    def open(self) -> None:
        self.store = NotificationStore(self.folder / FILE_NAME, survives_power_cuts=False)
        self.changes = Changes(self.detections.path, survives_power_cuts=False)
        self.changes.begin(lambda: None)

    def close(self) -> None:
        self.store.close()
        self.changes.close()

    def maybe_crash(self) -> None:
        if self.crashes and self.random.random() < 0.15:
            raise Crash

    def happen(self) -> None:
        """Something happens to an alert."""
        number = self.random.randrange(1, 12)
        alert_id = f"{number:032x}"
        known = self.alerts.get(alert_id)
        if known is None:
            severity = self.random.choice([Severity.LOW, Severity.MEDIUM, Severity.HIGH])
            self._put(make_alert(number, severity=severity))
            self.states[alert_id] = AlertState.OPEN
            return
        change: Callable[[Alert], None] = self.random.choice(
            [self._grow, self._worsen, self._decide, self._drop]
        )
        change(known)

    def _put(self, alert: Alert) -> None:
        self.alerts[alert.id] = alert
        self.detections.put(alert)

    def _grow(self, alert: Alert) -> None:
        self._put(make_alert(int(alert.id, 16), severity=alert.severity, count=alert.count + 1))

    def _worsen(self, alert: Alert) -> None:
        worse = list(Severity)[min(alert.severity.rank + 1, 4)]
        self._put(make_alert(int(alert.id, 16), severity=worse, count=alert.count))

    def _decide(self, alert: Alert) -> None:
        state = self.random.choice(list(AlertState))
        self.states[alert.id] = state
        self.detections.set(alert, state)

    def _drop(self, alert: Alert) -> None:
        self.detections.drop(alert)
        del self.alerts[alert.id], self.states[alert.id]

    def take(self) -> None:
        while True:
            found, number = self.changes.take()
            if not found:
                return
            self.maybe_crash()
            self.store.take(found, TARGETS, now_ms=self.now_ms)
            self.maybe_crash()
            self.changes.forget(number)

    def tell(self, name: str, *, is_away: bool) -> bool:
        """One turn of a target; whether there was one."""
        store, section = self.store, TARGETS[name]
        outgoing = store.outgoing(name)
        if outgoing is None:
            waiting, sent, _ = store.waiting(name, now_ms=self.now_ms)
            move, _ = choose(waiting, sent, section, now_ms=self.now_ms)
            if move is Move.NOTHING:
                return False
            begin = store.begin_digest if move is Move.DIGEST else self._alone
            outgoing = begin(name, now_ms=self.now_ms)
            if outgoing is None:
                return False
        self.maybe_crash()
        if is_away:
            store.fail(name, "away", next_ms=self.now_ms, now_ms=self.now_ms)
            return False
        for one in outgoing.notifications:
            self.known[name].hear(one)
            self.maybe_crash()
        store.settle(name, outgoing, section, now_ms=self.now_ms)
        return True

    def _alone(self, name: str, *, now_ms: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return self.store.begin_alone(name, most=3, now_ms=now_ms)

    def live(self) -> None:
        """A step of the collector, which may crash in it."""
        try:
            self.take()
            name = self.random.choice(list(TARGETS))
            self.tell(name, is_away=self.crashes and self.random.random() < 0.3)
        except Crash:
            self.close()
            self.open()

    def settle(self) -> None:
        """No crash any more, and time enough for everything."""
        self.crashes = False
        for _ in range(40):
            self.now_ms += 61_000
            self.take()
            for name in TARGETS:
                while self.tell(name, is_away=False):
                    """The next turn."""

    def broken_promises(self) -> list[str]:
        """What a target does not know, or knows wrongly."""
        broken = []
        for name, section in TARGETS.items():
            known = self.known[name]
            for alert_id, alert in self.alerts.items():
                state, told = self.states[alert_id], known.states.get(alert_id)
                wanted = alert.severity.rank >= Severity(section.min_severity).rank
                if told in (None, "gone"):
                    if wanted and alert_id not in known.in_digest and state is not AlertState.CLOSED:
                        broken.append(f"{name} was never told of {alert_id[-1]}")
                    continue
                if told != str(state) and alert_id not in known.in_digest:
                    broken.append(f"{name} takes {alert_id[-1]} for {told}, and it is {state}")
            gone = [one for one, state in known.states.items() if state != "gone" and one not in self.alerts]
            broken += [
                f"{name} was not told that {one[-1]} is gone"
                for one in gone
                if known.states[one] != "closed" and AlertId(one) not in known.in_digest
            ]
        return broken


@guarantee(41)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_target_ends_up_with_what_is(seed: int) -> None:
    """At least once, whatever crashes between any two steps and whoever is away for a while."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), seed)
        for _ in range(STEPS):
            if world.random.random() < 0.5:
                world.happen()
            world.now_ms += world.random.choice([0, 1_000, 30_000, 400_000])
            world.live()
        world.settle()

        assert world.broken_promises() == []
