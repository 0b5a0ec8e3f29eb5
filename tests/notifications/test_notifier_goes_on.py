"""Notifications go on after whatever has failed once: it is said, and tried again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import OutputUnusable, Unavailable, Unreachable
from m365watch.notifications import notifier as notifiers
from m365watch.notifications.alert_changes import Changes
from m365watch.notifications.channel_status import read_standings
from m365watch.notifications.notification_database import FILE_NAME, NotificationFile
from m365watch.notifications.outbox import NotificationStore
from notifier_site import MINUTE_S, Site, at
from notify_scene import Receiver, make_alert, notifier_of, target_named


class Trouble(Exception):
    """Nobody has thought of it."""


class Times:
    """Lets a verb fail so often, and counts how often it was tried."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tried = 0

    def before(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*given: object, **named: object) -> object:
            self.tried += 1
            if self.tried <= self.failures:
                raise Trouble
            return verb(*given, **named)

        return attempt


Lines = Sequence[MutableMapping[str, Any]]


def said(lines: Lines) -> list[tuple[str, str]]:
    """How grave each line was, and its text."""
    return [(line["log_level"], line["event"]) for line in lines if line["log_level"] != "debug"]


def is_one_defect(lines: Lines, where: str) -> bool:
    [(level, text)] = said(lines)
    says = text.startswith(f"{where}: unexpected Trouble in ") and "; report Trouble in " in text
    return level == "error" and says


@guarantee(41)
@pytest.mark.parametrize("verb", ["progress", "outgoing", "waiting", "begin_alone", "settle"])
def test_a_target_is_told_after_a_defect_of_its_turn(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once and not again and again, whatever fails meanwhile; and so is what comes next."""

    async def use(site: Site) -> None:
        soc, times = Receiver(), Times(3)
        monkeypatch.setattr(NotificationStore, verb, times.before(getattr(NotificationStore, verb)))

        async def live() -> None:
            await site.pass_by(MINUTE_S)
            site.detections.put(make_alert(1))
            await site.pass_by(MINUTE_S)
            site.detections.put(make_alert(2))
            await site.pass_by(MINUTE_S)

        with capture_logs() as lines:
            await site.run(live, soc=soc)

        assert times.tried > times.failures
        assert soc.tidings == [("new", "1"), ("new", "2")]
        assert is_one_defect(lines, "notifications soc")

    at(tmp_path, use)


@pytest.mark.parametrize("verb", ["tries", "fail", "take_back"])
def test_a_target_that_was_away_is_told_after_a_defect(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was the failure itself that could not be noted."""

    async def use(site: Site) -> None:
        soc, times = Receiver(failing=Unreachable("no connection")), Times(2)
        monkeypatch.setattr(NotificationStore, verb, times.before(getattr(NotificationStore, verb)))

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(MINUTE_S)
            soc.failing = None
            await site.pass_by(2 * MINUTE_S)

        with capture_logs() as lines:
            await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1")]
        errors = [line for line in lines if line["log_level"] == "error"]
        assert is_one_defect(errors, "notifications soc")

    at(tmp_path, use)


def test_a_way_to_a_target_that_opens_with_a_defect_is_tried_again(tmp_path: Path) -> None:
    """As one that is away; the others are told meanwhile."""

    class Troubled(Receiver):
        opened = 0

        async def open(self, *, last: int, position: str, newest: int) -> int:
            self.opened += 1
            if self.opened < 3:
                raise Trouble
            return await super().open(last=last, position=position, newest=newest)

    async def use(site: Site) -> None:
        soc, other = Troubled(), Receiver()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)
            assert other.tidings == [("new", "1")]
            await site.pass_by(MINUTE_S)

        with capture_logs() as lines:
            await site.run(live, soc=soc, other=other)

        assert soc.tidings == [("new", "1")]
        [(level, text), again] = said(lines)
        assert (level, again) == (
            "error",
            ("info", "notifications soc: the target takes notifications again"),
        )
        assert text.startswith("notifications soc: unexpected Trouble in ")

    at(tmp_path, use)


def test_a_target_is_told_once_the_file_can_be_read_again(tmp_path: Path) -> None:
    """What the file itself has against it is told as such, and is no defect."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def live() -> None:
            with site.file() as file:
                file.run("ALTER TABLE outgoing RENAME TO away")
                await site.pass_by(MINUTE_S)
                file.run("ALTER TABLE away RENAME TO outgoing")
            site.detections.put(make_alert(1))
            await site.pass_by(MINUTE_S)

        with capture_logs() as lines:
            await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1")]
        [(level, text)] = said(lines)
        assert level == "warning"
        path = tmp_path / "notifications.sqlite"
        assert text.startswith(
            f"notifications soc: {path}: the file of notifications cannot be read: no such table"
        )

    at(tmp_path, use)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    """It does not mend by itself."""
    path = tmp_path / "notifications.sqlite"
    NotificationStore(path, survives_power_cuts=False).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    file = NotificationFile(path, looks_only=True)

    with pytest.raises(OutputUnusable) as raised, file.reading():
        file.list_targets()
    file.close()

    assert "cannot be read: " in raised.value.what
    assert raised.value.fix.startswith("move it away: nobody is told of alerts until then, and a run goes on")
    assert "what waited in the file is told nobody" in raised.value.fix


def test_a_damaged_file_is_named_by_whoever_opens_it(tmp_path: Path) -> None:
    """What is read of it at a start, or by a command beside it, is no unforeseen error."""

    async def use(site: Site) -> None:
        async def rest() -> None:
            await site.pass_by(2)

        await site.run(rest, soc=Receiver())
        path = site.folder / FILE_NAME
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))

        with pytest.raises(OutputUnusable, match="the file of notifications cannot be used"):
            await site.run(rest, soc=Receiver())
        with pytest.raises(OutputUnusable, match="the file of notifications cannot be read"):
            read_standings(site.folder, ["soc"], now_ms=0)

    at(tmp_path, use)


@pytest.mark.parametrize("table", ["pace", "told", "outgoing", "aside"])
def test_a_file_in_which_what_was_told_cannot_be_noted_is_told_from_by_nobody(
    tmp_path: Path, table: str
) -> None:
    """Each try would tell it again: every five minutes, where only the page of what was sent is damaged."""
    path = tmp_path / FILE_NAME
    NotificationStore(path, survives_power_cuts=False).close()
    with closing(sqlite3.connect(path)) as database:
        [page] = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        [size] = database.execute("PRAGMA page_size").fetchone()
    whole = path.read_bytes()
    path.write_bytes(whole[: (page - 1) * size] + b"\xff" * size + whole[page * size :])

    with pytest.raises(OutputUnusable, match="malformed; move it away"):
        NotificationStore(path, survives_power_cuts=False)


@guarantee(41)
@pytest.mark.parametrize(
    ("owner", "verb"), [(Changes, "take"), (NotificationStore, "take"), (Changes, "forget")]
)
def test_changes_are_looked_for_after_a_defect(
    tmp_path: Path, owner: type, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next look; and it is said once."""

    async def use(site: Site) -> None:
        soc, times = Receiver(), Times(0)
        monkeypatch.setattr(owner, verb, times.before(getattr(owner, verb)))

        async def live() -> None:
            times.failures = times.tried + 3
            site.detections.put(make_alert(1))
            await site.pass_by(MINUTE_S)

        with capture_logs() as lines:
            await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1")]
        assert is_one_defect(lines, "notifications")

    at(tmp_path, use)


def test_changes_are_looked_for_after_a_defect_of_what_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which happens every hour."""

    async def use(site: Site) -> None:
        soc, times = Receiver(), Times(1)
        monkeypatch.setattr(NotificationStore, "forget", times.before(NotificationStore.forget))

        async def live() -> None:
            await site.pass_by(notifiers.FORGET_EVERY_S + 2)
            site.detections.put(make_alert(1))
            await site.pass_by(2)

        with capture_logs() as lines:
            await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1")]
        assert is_one_defect(lines, "notifications")

    at(tmp_path, use)


@pytest.mark.parametrize(("owner", "verb"), [(Changes, "take"), (notifiers, "list_figures")])
def test_a_defect_keeps_no_run_from_ending(
    tmp_path: Path, owner: object, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the end of a run would have told, or counted, waits for the next one."""

    async def use(site: Site) -> None:
        notifier = notifier_of(site.folder, (target_named("soc"), Receiver()), clock=site.clock)
        await notifier.open()
        notifier.start()
        monkeypatch.setattr(owner, verb, Times(100).before(getattr(owner, verb)))

        with capture_logs() as lines:
            await notifier.finish(limit_s=0.01)
            await notifier.close()

        assert is_one_defect(lines, "notifications")

    at(tmp_path, use)


@pytest.mark.parametrize("back_h", [0, 2, 24])
def test_a_target_that_failed_is_tried_in_time_though_the_clock_is_set_back(
    tmp_path: Path, back_h: int
) -> None:
    """As after a start with a clock that was ahead: the network is there only then."""

    async def use(site: Site) -> None:
        soc = Receiver(failing=Unavailable("no way there", where="soc"))

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(20)
            assert soc.tries
            soc.failing = None
            site.clock.set_back(hours=back_h)
            await site.pass_by(5 * MINUTE_S)
            assert soc.tidings == [("new", "1")]

        await site.run(live, soc=soc)

    at(tmp_path, use)
