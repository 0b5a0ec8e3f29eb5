"""A file of detections made anew in the middle of a run: whatever fails just then, all of it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from m365watch.common.errors import OutputUnavailable
from m365watch.notifications.alert_changes import Changes
from m365watch.notifications.outbox import NotificationStore
from notifier_site import Site, at
from notify_scene import Detections, Receiver, make_alert

MINUTE_MS = 60_000


def failing_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """Like `real`, but for the first call."""
    calls = []

    def call(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise OutputUnavailable("database is locked", where="x")
        return real(*given, **named)

    return call


@guarantee(41)
@pytest.mark.parametrize(
    ("owner", "verb"), [(NotificationStore, "take"), (Changes, "begin"), (Changes, "list_all")]
)
def test_what_a_new_file_has_is_told_though_it_could_not_be_taken_at_once(
    tmp_path: Path, owner: type, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of changes is begun with what is there, or not at all: who found it would look no further."""

    async def use(site: Site) -> None:
        soc = Receiver()

        async def first() -> None:
            site.detections.put(make_alert(1))
            await site.pass_by(2)

        async def made_anew() -> None:
            monkeypatch.setattr(owner, verb, failing_once(getattr(owner, verb)))
            anew = Detections(site.folder, "detections-partial.sqlite")
            anew.put(make_alert(1))
            anew.put(make_alert(2, last_at_ms=make_alert().last_at_ms + MINUTE_MS))
            anew.state.close()
            anew.path.rename(site.folder / "detections.sqlite")
            await site.pass_by(3)
            site.detections = Detections(site.folder)
            site.detections.put(make_alert(3))
            await site.pass_by(300)

        await site.run(first, soc=soc)
        site.detections.state.close()
        for path in site.folder.glob("detections.sqlite*"):
            path.unlink()
        await site.run(made_anew, soc=soc)

        assert sorted(soc.tidings) == [("new", "1"), ("new", "2"), ("new", "3")]

    at(tmp_path, use)


def test_what_a_new_file_has_of_late_records_is_told_to_a_new_target(tmp_path: Path) -> None:
    """At once: it was made before the list began, of records of acts before there was the target."""

    async def use(site: Site) -> None:
        soc = Receiver()
        site.detections.state.close()
        site.detections.path.unlink()

        async def made_anew() -> None:
            anew, end_ms = Detections(site.folder, "detections-partial.sqlite"), make_alert().last_at_ms
            anew.put(make_alert(1, last_at_ms=end_ms - 5 * 60 * MINUTE_MS))
            anew.put(make_alert(2, last_at_ms=end_ms - 30 * 60 * MINUTE_MS))
            anew.state.close()
            anew.path.rename(site.folder / "detections.sqlite")
            await site.pass_by(3)

        await site.run(made_anew, soc=soc)

        assert soc.tidings == [("new", "1")]

    at(tmp_path, use)
