"""Alerts to be told of, and a receiver that keeps what it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from channels_configured import wanting

from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.notifications.notification import Notification, Standing, Tiding, make_notification
from m365watch.notifications.notifier import Notifier
from m365watch.registry.channel_specs import Channel, Sender, Sent
from m365watch_testing.clock import START

TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
START_MS = round(START.timestamp() * 1000)
HOSTILE = (
    '<!channel> *b* _i_ `c` [x](http://evil.example) </td><script>a("b")</script> |=]\\ '
    "\r\nBcc: all@evil.example"
)
"""What an attacker would like to be read as something else."""


def make_alert(number: int = 1, **changes: object) -> Alert:
    """An alert about ann; no two numbers are alike."""
    alert = Alert(
        id=AlertId(f"{number:032x}"),
        rule_id="b0800000-0000-4000-8000-000000000000",
        title="Mailbox forwards to an external address",
        severity=Severity.HIGH,
        tenant=TENANT,
        group=("ann@contoso.example",),
        entities=(("user", "ann@contoso.example"), ("address", "203.0.113.9")),
        first_at_ms=START_MS - 60_000,
        last_at_ms=START_MS,
        count=3,
        evidence=("11111111-0000-4000-8000-000000000001",),
        explanation="ann@contoso.example made a rule that forwards all mail to eve@evil.example.",
        detection="B08",
        techniques=("T1114.003",),
        check=("Ask ann whether she made the rule.", "Look for other rules."),
        contain=("remove_inbox_rule",),
    )
    return replace(alert, **changes)  # type: ignore[arg-type]


def make_hostile() -> Alert:
    """An alert whose every value from a record is hostile."""
    return make_alert(
        entities=(("user", HOSTILE), ("mailbox", HOSTILE)),
        explanation=f"{HOSTILE} signed in.",
        title="A title",
    )


def new_of(alert: Alert, **changes: object) -> Notification:
    """The news of it."""
    standing = Standing(alert, **changes)  # type: ignore[arg-type]
    return make_notification(Tiding.NEW, standing, thread=alert.id, made_at_ms=START_MS)


class Detections:
    """The file of detections, changed as the engine and an analyst do."""

    def __init__(self, folder: Path, name: str = "detections.sqlite") -> None:
        """The file is made."""
        self.path = folder / name
        self.state = DetectionState(self.path, survives_power_cuts=False)

    def put(self, alert: Alert, *, shown: bool = True) -> None:
        """The engine has made the alert, or made it anew; what an analyst made of it stays."""
        kept = self.state.alerts.find(alert.id)
        with self.state.transaction():
            if kept is not None and kept.alert.id == alert.id:
                self.state.alerts.put(replace(kept, alert=alert, shown=shown))
            else:
                self.state.alerts.put(KeptAlert(alert, shown))

    def drop(self, alert: Alert, *, became: Alert | None = None) -> None:
        """There was nothing, or it has become another."""
        with self.state.transaction():
            self.state.alerts.drop(alert.id, became=became.id if became else None)
            if became is not None:
                self.state.alerts.put(KeptAlert(replace(became, formerly=(alert.id,)), shown=True))

    def set(self, alert: Alert, state: AlertState, *, by: str = "bob", reason: str = "a drill") -> None:
        """An analyst has decided."""
        with self.state.transaction():
            self.state.alerts.set_state(alert.id, state, reason=reason, by=by, at_ms=START_MS)


@dataclass
class Receiver:
    """A `Sender` whose target keeps everything that it is told, or fails as it is told to."""

    at_once_max: int = 1
    got: list[Notification] = field(default_factory=list)
    failing: CollectorError | None = None
    refuses: Callable[[Notification], bool] = lambda _: False
    tries: int = 0
    is_forgetful: bool = False
    """Whether it takes what comes and then fails, as a broken connection does."""

    async def open(self, *, last: int, position: str, newest: int) -> int:
        """Ready."""
        return last

    async def send(self, number: int, notifications: Sequence[Notification]) -> Sent:
        """Keep them."""
        self.tries += 1
        if self.is_forgetful:
            self.got += notifications
        if self.failing is not None:
            raise self.failing
        refused = {place: "HTTP 400" for place, one in enumerate(notifications) if self.refuses(one)}
        self.got += [one for place, one in enumerate(notifications) if place not in refused]
        return Sent(refused)

    async def check(self) -> str:
        """It is there."""
        return "there"

    async def close(self) -> None:
        """Nothing to close."""

    @property
    def tidings(self) -> list[tuple[str, str]]:
        """What it was told, each with the alert's last digit."""
        return [
            (str(one.tiding), "digest" if one.standing is None else one.standing.alert.id.lstrip("0"))
            for one in self.got
        ]


def target_named(name: str = "soc", **keys: object) -> Channel[Any]:
    """A target of no kind, which wants this."""
    return Channel(name, wanting(**keys))


class Here(Executor):
    """Does at once what it is given: under a fake clock nobody waits for a thread."""

    def submit(self, work: Callable[..., Any], /, *values: Any, **options: Any) -> Future[Any]:
        """The answer, which is there."""
        done: Future[Any] = Future()
        try:
            done.set_result(work(*values, **options))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            done.set_exception(error)
        return done


def notifier_of(
    folder: Path, *targets: tuple[Channel[Any], Sender], clock: Clock, seed: float = 0.5
) -> Notifier:
    """The notifier of a run in that folder."""

    class Half:
        """Chance that has no say."""

        def random(self) -> float:
            """Always the same."""
            return seed

    return Notifier(
        targets,
        directory=folder,
        detections=folder / "detections.sqlite",
        clock=clock,
        random=Half(),
        survives_power_cuts=False,
        executor=Here(),
    )
