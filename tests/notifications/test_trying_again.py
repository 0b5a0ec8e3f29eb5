"""What a target refused is tried again by hand, however long ago that was."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from promises import guarantee

from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.notifications.channel_status import ASIDE_SHOWN_MAX, list_aside, read_standings, try_again
from m365watch.notifications.notification import Notification, Tiding
from m365watch.notifications.notification_database import FILE_NAME
from m365watch.notifications.notifier import FORGET_EVERY_S
from m365watch.notifications.outbox import NotificationStore
from notifier_site import MINUTE_S, Site, at
from notify_scene import Receiver, make_alert, new_of, target_named


def now_ms(site: Site) -> int:
    return round(site.clock.now().timestamp() * 1000)


def test_what_was_refused_and_is_known_nowhere_else_holds_up_nobody(tmp_path: Path) -> None:
    """A withdrawal that was refused: what was told of the alert is forgotten, and it has its turn."""

    def is_withdrawal(one: Notification) -> bool:
        return one.tiding is Tiding.WITHDRAWN

    async def use(site: Site) -> None:
        soc = Receiver(refuses=is_withdrawal)

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(MINUTE_S)
            site.detections.drop(make_alert(1))
            await site.pass_by(10 * MINUTE_S)
            await site.pass_by(FORGET_EVERY_S + 2)
            soc.refuses = lambda _: False
            with site.file() as file:
                assert len(list_aside(file, "soc")) == 1
                assert try_again(file, ["soc"], now_ms=now_ms(site)) == 1
            await site.pass_by(MINUTE_S)
            site.detections.put(make_alert(2))
            await site.pass_by(MINUTE_S)

        await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1"), ("withdrawn", "1"), ("new", "2")]

    at(tmp_path, use)


@guarantee(41)
def test_a_digest_that_was_refused_is_told_again_whole(tmp_path: Path) -> None:
    """Alert by alert where they are known still, and counted where they are not."""

    def is_digest(one: Notification) -> bool:
        return one.digest is not None

    async def use(site: Site) -> None:
        soc = Receiver(refuses=is_digest)

        async def live() -> None:
            for number in range(1, 31):
                site.detections.put(make_alert(number))
            await site.pass_by(10 * MINUTE_S)
            with site.file() as file:
                [aside] = list_aside(file, "soc")
                assert aside.notification.digest is not None
                lost = aside.notification.digest.covered[0].alert_id
                file.run("DELETE FROM standing WHERE alert = ?", (lost,))
                soc.refuses = lambda _: False
                assert try_again(file, ["soc"], now_ms=now_ms(site)) == 1
            await site.pass_by(10 * MINUTE_S)

        await site.run_targets([(target_named(rate_limit_per_minute=4, digest_after=10), soc)], live)

        alone = {one.standing.alert.id for one in soc.got if one.standing is not None}
        digests = [one.digest for one in soc.got if one.digest is not None]
        covered = {covered.alert_id for digest in digests for covered in digest.covered}
        assert len(alone | covered) == 29
        assert len(alone) + sum(digest.count for digest in digests) == 30

    at(tmp_path, use)


@guarantee(41)
@pytest.mark.parametrize("state", [None, AlertState.ACKNOWLEDGED])
def test_an_alert_that_changes_before_its_turn_comes_again_is_told(
    tmp_path: Path, state: AlertState | None
) -> None:
    """The target has never taken it: it is new to it, whatever has become of it meanwhile."""

    async def use(site: Site) -> None:
        soc = Receiver(refuses=lambda _: True)

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(10 * MINUTE_S)
            soc.refuses = lambda _: False
            with site.file() as file:
                assert try_again(file, ["soc"], now_ms=now_ms(site)) == 1
            if state is None:
                site.detections.put(make_alert(1, count=9))
            else:
                site.detections.set(make_alert(1), state)
            await site.pass_by(MINUTE_S)

        await site.run_targets([(target_named(update_interval_secs=0), soc)], live)

        told = [("new", "1")] if state is None else [("new", "1"), ("acknowledged", "1")]
        assert soc.tidings == told

    at(tmp_path, use)


def test_what_one_target_refused_is_found_behind_all_that_others_did(tmp_path: Path) -> None:
    """However much that is: of each target the latest are looked at, and not of all together."""
    store = NotificationStore(tmp_path / FILE_NAME, survives_power_cuts=False)
    store.register(["soc", "other"], now_ms=1)
    body = msgspec.json.encode(new_of(make_alert(1)))
    for name in ("soc", *["other"] * ASIDE_SHOWN_MAX):
        store.run("INSERT INTO aside (target, at, reason, body) VALUES (?, 1, 'HTTP 400', ?)", (name, body))

    shown = read_standings(tmp_path, ["soc"], now_ms=2).aside
    count = try_again(store, ["soc"], now_ms=2)
    store.close()

    assert ([one.target for one in shown], count) == (["soc"], 1)
