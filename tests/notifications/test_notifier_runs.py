"""From one run to the next: what was before, what came meanwhile, and files that are made anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from channels_configured import wanting
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import NotificationsRefused, Unavailable, Unreachable
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.channel_status import list_figures
from m365watch.notifications.notification import Notification, Standing
from m365watch.notifications.notification_database import FILE_NAME
from m365watch.notifications.notification_erasure import count_told, forget_told
from m365watch.notifications.outbox import NotificationStore
from m365watch.registry.channel_specs import Sent
from notifier_site import HOUR_S, MINUTE_S, Site, at
from notify_scene import START_MS, Detections, Receiver, make_alert, notifier_of, target_named


@guarantee(41)
def test_a_target_hears_nothing_of_what_was_there_before_it(tmp_path: Path) -> None:
    """Nobody is woken by last month's alerts because a channel was added."""

    async def use(site: Site) -> None:
        site.detections.put(make_alert(1))
        first, second = Receiver(), Receiver()

        async def live() -> None:
            site.detections.put(make_alert(2))
            await site.pass_by(2)

        async def later() -> None:
            site.detections.put(make_alert(4))
            await site.pass_by(2)

        await site.run(live, first=first)
        site.detections.put(make_alert(3))
        await site.run(later, first=first, second=second)

        assert first.tidings == [("new", "2"), ("new", "3"), ("new", "4")]
        assert second.tidings == [("new", "4")]

    at(tmp_path, use)


def test_what_came_while_no_collector_ran_is_told_by_the_next(tmp_path: Path) -> None:
    """Acknowledged from another process, for example, after the run has ended."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)

        async def rest() -> None:
            await site.pass_by(2)

        await site.run(live, soc=soc)
        site.detections.set(make_alert(1), AlertState.CLOSED)
        await site.run(rest, soc=soc)

        assert soc.tidings == [("new", "1"), ("closed", "1")]

    at(tmp_path, use)


@guarantee(41)
def test_an_alert_that_becomes_another_stays_one_thread(tmp_path: Path) -> None:
    """A record that came late moves its start, and with it its id: it is the same incident."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)
            site.detections.drop(make_alert(1), became=make_alert(2))
            await site.pass_by(HOUR_S + 2)
            site.detections.set(make_alert(2), AlertState.CLOSED)
            await site.pass_by(2)

        await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1"), ("updated", "2"), ("closed", "2")]
        assert {one.thread for one in soc.got} == {make_alert(1).id}

    at(tmp_path, use)


def test_an_alert_that_was_nothing_is_withdrawn_where_it_was_told(tmp_path: Path) -> None:
    """And not told at all where it was not yet."""

    async def use(site: Site) -> None:
        there, away = Receiver(), Receiver(failing=Unavailable("away"))

        async def live() -> None:
            site.detections.put(make_alert(2))
            await site.pass_by(2)
            site.detections.put(make_alert(1))
            await site.pass_by(2)
            site.detections.drop(make_alert(1))
            away.failing = None
            await site.pass_by(MINUTE_S)

        await site.run(live, there=there, away=away)

        assert there.tidings == [("new", "2"), ("new", "1"), ("withdrawn", "1")]
        assert away.tidings == [("new", "2")]

    at(tmp_path, use)


def test_a_target_that_is_taken_out_is_told_what_it_will_not_hear(tmp_path: Path) -> None:
    """In a line, with how much waited for it."""

    async def use(site: Site) -> None:
        away = Receiver(failing=NotificationsRefused("HTTP 404", fix="give another URL"))

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)

        async def rest() -> None:
            """Nothing comes."""

        await site.run(live, away=away)
        with capture_logs() as lines:
            await site.run(rest, other=Receiver())

        [line] = [line["event"] for line in lines]
        assert "the target away is in the configuration no longer; 1 alerts" in line

    at(tmp_path, use)


def test_the_figures_say_how_each_target_stands(tmp_path: Path) -> None:
    """What it was told, what waits, and why."""

    async def use(site: Site) -> None:
        away = Receiver(failing=NotificationsRefused("HTTP 404", fix="give another URL"))
        there = Receiver()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)
            now_ms = round(site.clock.now().timestamp() * 1000)
            with site.file() as file:
                one, two = list_figures(file, now_ms=now_ms)
            assert (one.name, one.sent, one.waiting, one.trouble) == (
                "away",
                0,
                1,
                "HTTP 404; give another URL",
            )
            assert one.next_ms > now_ms
            assert (two.name, two.sent, two.waiting, two.trouble) == ("there", 1, 0, "")

        await site.run(live, away=away, there=there)

    at(tmp_path, use)


@guarantee(37)
def test_a_file_of_detections_that_was_made_anew_wakes_nobody_twice(tmp_path: Path) -> None:
    """What was told stays told; what nobody was told of the time of the targets is told now."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)

        async def rest() -> None:
            await site.pass_by(2)

        await site.run(live, soc=soc)
        site.detections.state.close()
        for path in site.folder.glob("detections.sqlite*"):
            path.unlink()
        site.detections = Detections(site.folder)
        later_ms = make_alert().last_at_ms + 10_000
        site.detections.put(make_alert(1))
        site.detections.put(make_alert(2, last_at_ms=later_ms))
        site.detections.put(make_alert(3, last_at_ms=later_ms - 86_400_000, first_at_ms=0))
        await site.run(rest, soc=soc)

        assert soc.tidings == [("new", "1"), ("new", "2")]

    at(tmp_path, use)


def test_a_target_that_fails_in_a_way_nobody_foresaw_is_tried_again(tmp_path: Path) -> None:
    """It is told with its type and place, and never with its words."""

    class Broken(Receiver):
        async def send(self, number: int, notifications: Sequence[Notification]) -> Sent:
            self.tries += 1
            raise ZeroDivisionError("a secret")

    async def use(site: Site) -> None:
        broken, there = Broken(), Receiver()

        async def live() -> None:
            with capture_logs() as lines:
                site.detections.put(make_alert(1))
                await site.pass_by(30)
            assert there.tidings == [("new", "1")]
            assert broken.tries >= 2
            text = " ".join(str(line) for line in lines)
            assert "unexpected ZeroDivisionError" in text
            assert "a secret" not in text

        await site.run(live, broken=broken, there=there)

    at(tmp_path, use)


@guarantee(41)
@pytest.mark.slow
def test_an_alert_that_a_flood_pushed_out_is_counted_in_a_digest(tmp_path: Path) -> None:
    """More alerts than may wait: the least severe are counted, by severity and title."""

    async def use(site: Site) -> None:
        soc = Receiver(failing=Unavailable("away"))

        async def live() -> None:
            with site.detections.state.transaction():
                for number in range(1, 5_031):
                    severity = Severity.HIGH if number > 100 else Severity.MEDIUM
                    site.detections.state.alerts.put(
                        KeptAlert(make_alert(number, severity=severity), shown=True)
                    )
            await site.pass_by(3)
            soc.failing = None
            await site.pass_by(120)
            [digest] = [one.digest for one in soc.got if one.digest is not None]
            assert (digest.count, digest.counts[0][0]) == (30, Severity.MEDIUM)
            assert len(soc.got) == 5_001

        soc.at_once_max = 500
        await site.run_targets([(target_named(), soc)], live)

    at(tmp_path, use)


@guarantee(41)
def test_one_file_of_notifications_serves_every_run(tmp_path: Path) -> None:
    """A repeat after a crash has the key of the first try; a receiver that knows keys tells it."""

    async def use(site: Site) -> None:
        soc = Receiver(failing=Unavailable("broken"), is_forgetful=True)

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)

        async def rest() -> None:
            soc.failing, soc.is_forgetful = None, False
            site.detections.put(replace(make_alert(1), count=50))
            await site.pass_by(2)

        await site.run(live, soc=soc)
        await site.run(rest, soc=soc)

        assert soc.tidings == [("new", "1"), ("new", "1")]
        assert len({one.key for one in soc.got}) == 1

    at(tmp_path, use)


def test_nobody_is_told_that_a_person_was_erased(tmp_path: Path) -> None:
    """What names them goes, also where it is being told; others that were told with them are told anew."""
    ann = make_alert(1)
    bob = make_alert(2, group=("bob",), entities=(("user", "bob@contoso.example"),), explanation="bob")

    async def use(site: Site) -> None:
        away = Receiver(failing=Unavailable("away"), at_once_max=9)

        async def live() -> None:
            site.detections.put(ann)
            site.detections.put(bob)
            await site.pass_by(2)
            assert forget_told(site.folder / "notifications.sqlite", lambda body: b"ann@" in body) == 2
            site.detections.drop(ann)
            away.failing = None
            await site.pass_by(60)
            assert away.tidings == [("new", "2")]
            assert count_told(site.folder / "notifications.sqlite", lambda body: b"ann@" in body) == 0

        await site.run(live, away=away)

    at(tmp_path, use)


@guarantee(37)
def test_an_old_alert_of_a_file_that_was_made_anew_wakes_nobody(tmp_path: Path) -> None:
    """It ended before the target was one, by more than the service serves."""

    async def use(site: Site) -> None:
        soc = Receiver()
        old_ms = make_alert().last_at_ms - 9 * 86_400_000

        async def live() -> None:
            site.detections.put(make_alert(1, first_at_ms=old_ms, last_at_ms=old_ms))
            site.detections.put(make_alert(2))
            await site.pass_by(2)

        await site.run(live, soc=soc)

        assert soc.tidings == [("new", "2")]

    at(tmp_path, use)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It tells whom attackers are after."""

    async def use(site: Site) -> None:
        async def live() -> None:
            """Nothing comes."""

        await site.run(live, soc=Receiver())
        assert (site.folder / "notifications.sqlite").stat().st_mode & 0o077 == 0

    at(tmp_path, use)


def test_a_file_of_detections_that_is_made_anew_meanwhile_is_followed(tmp_path: Path) -> None:
    """A run begins before it is complete: it is neither made by the notifier nor lost from sight."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def first() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)

        async def live() -> None:
            path = site.folder / "detections.sqlite"
            assert not path.exists()
            partial = Detections(site.folder, "detections-partial.sqlite")
            partial.put(make_alert(1))
            partial.put(make_alert(2, last_at_ms=make_alert().last_at_ms + 60_000))
            partial.state.close()
            partial.path.rename(path)
            await site.pass_by(3)
            site.detections = Detections(site.folder)
            site.detections.put(make_alert(3))
            await site.pass_by(3)

        await site.run(first, soc=soc)
        site.detections.state.close()
        for path in site.folder.glob("detections.sqlite*"):
            path.unlink()
        await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1"), ("new", "2"), ("new", "3")]

    at(tmp_path, use)


def test_the_end_of_a_run_waits_for_no_target_that_is_away(tmp_path: Path) -> None:
    """What is due is told to the others; the rest is told by the next run."""

    async def use(site: Site) -> None:
        away, there = Receiver(failing=Unavailable("away")), Receiver()
        targets = [(target_named("away"), away), (target_named("there"), there)]
        notifier = notifier_of(site.folder, *targets, clock=site.clock)
        await notifier.open()
        notifier.start()
        site.detections.put(make_alert(1))
        await site.pass_by(2)
        site.detections.put(make_alert(2))
        async with asyncio.timeout(PATIENCE_S):
            await notifier.finish(limit_s=3_600)
        await notifier.close()

        assert there.tidings == [("new", "1"), ("new", "2")]
        assert away.tries == 1

    at(tmp_path, use)


@guarantee(41)
def test_the_worst_of_a_first_batch_is_told_first(tmp_path: Path) -> None:
    """Though it came last, and the rate would have been spent on the others."""

    async def use(site: Site) -> None:
        soc = Receiver()
        notifier = notifier_of(site.folder, (target_named(rate_limit_per_minute=2), soc), clock=site.clock)
        await notifier.open()
        notifier.start()
        for number in range(1, 5):
            site.detections.put(make_alert(number, severity=Severity.MEDIUM))
        await site.pass_by(0.5)
        site.detections.put(make_alert(6))
        for number in range(7, 9):
            site.detections.put(make_alert(number, severity=Severity.CRITICAL))
        for _ in range(4):
            await site.pass_by(1)
        with capture_logs() as lines:
            await notifier.finish(limit_s=3_600)
        await notifier.close()

        assert soc.tidings == [("new", "7"), ("new", "8")]
        told = [line["event"] for line in lines]
        assert told == ["notifications soc: 5 alerts wait, and the next run tells of them"]

    at(tmp_path, use)


def test_what_is_gone_before_anybody_heard_of_it_is_told_nobody(tmp_path: Path) -> None:
    """Where the receiver could not be reached; one that may have heard of it is told that it is withdrawn."""

    async def use(site: Site) -> None:
        away = Receiver(at_once_max=100, failing=Unreachable("no connection"))
        mute = Receiver(at_once_max=100, failing=Unavailable("no answer"), is_forgetful=True)

        async def live() -> None:
            for number in range(1, 4):
                site.detections.put(make_alert(number))
            await site.pass_by(2)
            site.detections.drop(make_alert(2))
            away.failing = mute.failing = None
            mute.got.clear()
            mute.is_forgetful = False
            await site.pass_by(60)

        await site.run(live, away=away, mute=mute)

        assert away.tidings == [("new", "1"), ("new", "3")]
        assert mute.tidings == [("new", "1"), ("new", "2"), ("new", "3"), ("withdrawn", "2")]

    at(tmp_path, use)


def test_a_clock_that_was_set_back_holds_up_nothing(tmp_path: Path) -> None:
    """What was sent in its future is no matter of the rate, and what waits since then waits no longer."""

    async def use(site: Site) -> None:
        soc = Receiver()
        store = NotificationStore(tmp_path / FILE_NAME, survives_power_cuts=False)
        store.register(["soc"], now_ms=START_MS)
        for _ in range(5):
            store.run("INSERT INTO pace VALUES ('soc', ?)", (START_MS + 86_400_000,))
        store.take(
            [(make_alert(2).id, Standing(make_alert(2)))], {"soc": wanting()}, now_ms=START_MS + 86_400_000
        )
        store.close()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(MINUTE_S)

        await site.run_targets([(target_named(rate_limit_per_minute=2), soc)], live)

        assert sorted(soc.tidings) == [("new", "1"), ("new", "2")]

    at(tmp_path, use)
