"""The notifier over real files: what changes is told, at its pace, to each target by itself."""

from __future__ import annotations

from pathlib import Path

from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import Throttled, Unavailable
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.channel_status import list_aside, try_again
from m365watch.notifications.channel_worker import FIRST_REFUSALS_MAX, REFUSALS_MAX, WAIT_MAX_S
from notifier_site import HOUR_S, Site, at
from notify_scene import Receiver, make_alert, target_named


def test_what_becomes_of_an_alert_is_told(tmp_path: Path) -> None:
    """New, grown after an hour, acknowledged and closed at once, opened again."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def live() -> None:
            alert, grown = make_alert(), make_alert(count=8)
            site.detections.put(alert)
            await site.pass_by(2)
            site.detections.put(grown)
            await site.pass_by(HOUR_S / 2)
            assert soc.tidings == [("new", "1")]
            await site.pass_by(HOUR_S / 2 + 2)
            for state in (AlertState.ACKNOWLEDGED, AlertState.CLOSED, AlertState.OPEN):
                site.detections.set(grown, state)
                await site.pass_by(2)

        await site.run(live, soc=soc)

        told = ["new", "updated", "acknowledged", "closed", "reopened"]
        assert soc.tidings == [(one, "1") for one in told]
        assert len({one.key for one in soc.got}) == 5
        assert {one.thread for one in soc.got} == {make_alert().id}

    at(tmp_path, use)


def test_what_no_target_wants_is_told_nobody(tmp_path: Path) -> None:
    """Signals below medium, episodes that only serve others, other severities for each target."""

    async def use(site: Site) -> None:
        soc, pager = Receiver(), Receiver()
        targets = [(target_named("soc"), soc), (target_named("pager", min_severity="critical"), pager)]

        async def live() -> None:
            site.detections.put(make_alert(1, severity=Severity.LOW))
            site.detections.put(make_alert(2), shown=False)
            site.detections.put(make_alert(3))
            site.detections.put(make_alert(4, severity=Severity.CRITICAL))
            await site.pass_by(2)

        await site.run_targets(targets, live)

        assert soc.tidings == [("new", "4"), ("new", "3")]
        assert pager.tidings == [("new", "4")]

    at(tmp_path, use)


@guarantee(41)
def test_a_target_that_is_away_holds_up_no_other_and_loses_nothing(tmp_path: Path) -> None:
    """It is tried less and less often, told once, and gets everything when it is back."""

    async def use(site: Site) -> None:
        away, there = Receiver(failing=Unavailable("no connection")), Receiver()

        async def live() -> None:
            with capture_logs() as lines:
                for number in range(1, 6):
                    site.detections.put(make_alert(number))
                    await site.pass_by(HOUR_S / 6)
                assert len(there.got) == 5
                assert away.got == []
                tries = away.tries
                away.failing = None
                await site.pass_by(WAIT_MAX_S * 1.3)
            assert 8 < tries < 13
            assert sorted(away.tidings) == [("new", str(number)) for number in range(1, 6)]
            told = [line["event"] for line in lines if "away" in line["event"]]
            assert told == [
                "notifications away: no connection; what waits for it is kept",
                "notifications away: the target takes notifications again",
            ]

        await site.run(live, away=away, there=there)

    at(tmp_path, use)


def test_a_target_that_asks_for_time_gets_it(tmp_path: Path) -> None:
    """`Retry-After` is kept also where it is longer than our own wait."""

    async def use(site: Site) -> None:
        soc = Receiver(failing=Throttled("HTTP 429", after_s=600))

        async def live() -> None:
            site.detections.put(make_alert())
            await site.pass_by(590)
            assert soc.tries == 1
            soc.failing = None
            await site.pass_by(20)
            assert soc.tidings == [("new", "1")]

        await site.run(live, soc=soc)

    at(tmp_path, use)


@guarantee(41)
def test_a_notification_that_is_refused_is_kept_aside(tmp_path: Path) -> None:
    """After a few tries, so that the next one has its turn; it can be tried again by hand."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def live() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)
            soc.refuses = lambda one: one.standing is not None and one.standing.alert.id.endswith("2")
            site.detections.put(make_alert(2))
            await site.pass_by(1.5)
            site.detections.put(make_alert(3))
            await site.pass_by(60)
            assert soc.tidings == [("new", "1"), ("new", "3")]
            assert soc.tries == 2 + REFUSALS_MAX
            with site.file() as file:
                [aside] = list_aside(file, "soc")
                assert (aside.target, aside.reason) == ("soc", "HTTP 400")
                soc.refuses = lambda _: False
                assert try_again(file, ["soc"], now_ms=0) == 1
                assert list_aside(file, "soc") == []
            await site.pass_by(60)
            assert soc.tidings[2:] == [("new", "2")]

        await site.run(live, soc=soc)

    at(tmp_path, use)


def test_a_target_that_has_never_taken_anything_gets_more_patience(tmp_path: Path) -> None:
    """A refusal of the first notification is as likely about the target itself."""

    async def use(site: Site) -> None:
        soc = Receiver(refuses=lambda _: True)

        async def live() -> None:
            site.detections.put(make_alert())
            await site.pass_by(HOUR_S)
            assert soc.tries == FIRST_REFUSALS_MAX

        await site.run(live, soc=soc)

    at(tmp_path, use)


def test_a_flood_becomes_a_digest_that_names_the_worst(tmp_path: Path) -> None:
    """Within the rate; every alert is in it or was told alone, and none twice."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def live() -> None:
            for number in range(1, 60):
                site.detections.put(make_alert(number))
            site.detections.put(make_alert(60, severity=Severity.CRITICAL))
            await site.pass_by(30)
            assert len(soc.got) == 4
            assert soc.tidings[0] == ("new", "3c")
            [digest] = [one.digest for one in soc.got if one.digest is not None]
            assert digest.count == 57
            assert len(digest.worst) == 20
            await site.pass_by(300)
            assert len(soc.got) == 4
            # What is in a digest has no thread of its own: only what gets worse is told.
            site.detections.put(make_alert(5, count=99))
            site.detections.put(make_alert(6, severity=Severity.CRITICAL))
            await site.pass_by(HOUR_S + 2)
            assert len(soc.got) == 5

        await site.run_targets([(target_named(rate_limit_per_minute=4, digest_after=10), soc)], live)

    at(tmp_path, use)
