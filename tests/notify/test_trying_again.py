"""What a target refused is tried again by hand, however long ago that was."""

from __future__ import annotations

from pathlib import Path

from m365watch.notify.looking import list_aside, try_again
from m365watch.notify.notifier import FORGET_EVERY_S
from m365watch.notify.tidings import Notification, Tiding
from notifier_site import MINUTE_S, Site, at
from notify_scene import Receiver, make_alert


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
                assert len(list_aside(file)) == 1
                assert try_again(file, ["soc"], now_ms=round(site.clock.now().timestamp() * 1000)) == 1
            await site.pass_by(MINUTE_S)
            site.detections.put(make_alert(2))
            await site.pass_by(MINUTE_S)

        await site.run(live, soc=soc)

        assert soc.tidings == [("new", "1"), ("withdrawn", "1"), ("new", "2")]

    at(tmp_path, use)
