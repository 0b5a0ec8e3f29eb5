"""Alerts as records of real outputs: exactly once in files, whatever crashes; one line each over the wire."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from channels_configured import wanting
from made_outputs import console, files_in, syslog_to
from promises import guarantee

from m365watch.common.clock import SystemClock, system_random
from m365watch.notifications.channels.output.record_sender import TABLE, RecordSender
from m365watch.notifications.notification import Standing
from m365watch.notifications.outbox import NotificationStore
from m365watch.outputs.factory import make_output
from m365watch.outputs.files.spec import FilesSection
from m365watch.outputs.syslog.spec import SyslogSection
from m365watch.registry.channel_specs import Sent
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import Output
from notify_scene import START_MS, make_alert, new_of

NAME = "archive"
SECTIONS = {NAME: wanting()}


def build(settings: OutputSettings) -> Output:
    return make_output(settings, clock=SystemClock(), random=system_random(1), collector_name="c")


def files(folder: Path) -> FilesSection:
    return files_in(folder / "records")


BEFORE_SENDING, MID_WRITE, BEFORE_SETTLING, AFTER_SETTLING = (
    *("before sending", "in the middle of the write"),
    *("before settling", "after settling"),
)


class Site:
    """A file of notifications and an output of files, used by one life after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = files(folder)
        self.store = NotificationStore(folder / "notifications.sqlite", survives_power_cuts=False)
        self.store.register([NAME], now_ms=START_MS)

    async def life(self, *numbers: int, crashes: str = "") -> Site:
        """New alerts come; what a life leaves that ends in order, or at the first such place of it."""
        changes = [(make_alert(one).id, Standing(make_alert(one))) for one in numbers]
        self.store.take(changes, SECTIONS, now_ms=START_MS)
        sender = RecordSender(self.output, build=build, collector="c", clock=SystemClock())
        last, position, newest = self.store.progress(NAME)
        durable = await sender.open(last=last, position=position, newest=newest)
        outgoing = self.store.outgoing(NAME)
        if outgoing is not None and durable >= outgoing.number:
            self.store.settle(NAME, outgoing, SECTIONS[NAME], now_ms=START_MS, position=position)
        self.store.count_from(NAME, durable)
        left = await self._hand_all(sender, crashes)
        await sender.close()
        return left or self

    async def _hand_all(self, sender: RecordSender, crashes: str) -> Site | None:
        while outgoing := self.store.outgoing(NAME) or self.store.begin_alone(NAME, most=2, now_ms=START_MS):
            if crashes == BEFORE_SENDING:
                return self._left()
            before = self._sizes()
            sent = await sender.send(outgoing.number, outgoing.notifications)
            if crashes == MID_WRITE:
                return self._left(written={one for one in self._sizes().items() if one not in before.items()})
            if crashes == BEFORE_SETTLING:
                return self._left()
            self.store.settle(
                NAME, outgoing, SECTIONS[NAME], now_ms=START_MS, position=sent.position, refused=sent.refused
            )
            if crashes == AFTER_SETTLING:
                return self._left()
        return None

    def _sizes(self) -> dict[Path, int]:
        folder = self.folder / "records-alerts"
        return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    def _left(self, written: Iterable[tuple[Path, int]] = ()) -> Site:
        """What is on the disk at this instant; of the files just written, the first part alone."""
        folder = self.folder / "left"
        shutil.copytree(self.folder, folder)
        for path, size in written:
            os.truncate(folder / path.relative_to(self.folder), size - 10)
        return Site(folder)

    def without_its_file(self) -> Site:
        """The same, where the file of notifications was lost."""
        self.store.close()
        for path in self.folder.glob("notifications.sqlite*"):
            path.unlink()
        return Site(self.folder)

    def records(self) -> list[str]:
        """The ids of the alerts in the folder, in order."""
        lines = [
            line
            for path in sorted((self.folder / "records-alerts" / TABLE).iterdir())
            for line in path.read_text().splitlines()
        ]
        return [json.loads(line)["alert"]["id"].lstrip("0") for line in lines]


@guarantee(41)
@pytest.mark.parametrize("crashes", [BEFORE_SENDING, MID_WRITE, BEFORE_SETTLING, AFTER_SETTLING])
def test_every_alert_is_in_the_files_exactly_once(tmp_path: Path, crashes: str) -> None:
    """Wherever the collector dies: before, in and after the output's write, and after its own."""

    async def use() -> None:
        site = Site(tmp_path)
        await site.life(1, 2, 3)
        left = await site.life(4, 5, crashes=crashes)
        assert left is not site
        await left.life(6)

        assert sorted(left.records()) == ["1", "2", "3", "4", "5", "6"]

    asyncio.run(use())


def test_files_take_alerts_after_the_file_of_notifications_was_lost(tmp_path: Path) -> None:
    """Its numbers begin anew then, and the files know higher ones, in both lives that follow."""

    async def use() -> None:
        site = Site(tmp_path)
        await site.life(1)
        await site.life(2)
        site = site.without_its_file()
        left = await site.life(3, crashes=BEFORE_SETTLING)
        await left.life(4)
        await left.life(5)

        assert sorted(left.records()) == ["1", "2", "3", "4", "5"]

    asyncio.run(use())


def test_the_folder_of_the_records_stays_the_records_own(tmp_path: Path) -> None:
    """Two writers in one would undo each other's files."""
    made = files(tmp_path).for_alerts("copy-alerts", TABLE)

    assert isinstance(made, FilesSection)
    assert made.folder == tmp_path / "records-alerts"


def test_an_output_that_renames_unknown_tables_knows_this_one() -> None:
    """Devo's lines would otherwise go to the fallback."""
    made = syslog_to("h", 514, "relay", format="devo").for_alerts("relay-alerts", TABLE)

    assert isinstance(made, SyslogSection)
    assert TABLE in made.config.known_tables


def test_the_console_has_the_alert_among_its_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """One line, as every record."""

    async def use() -> Sent:
        sender = RecordSender(console("screen"), build=build, collector="c", clock=SystemClock())
        await sender.open(last=0, position="", newest=0)
        sent = await sender.send(1, [new_of(make_alert())])
        await sender.close()
        return sent

    assert asyncio.run(use()).refused == {}
    [line] = capfd.readouterr().out.splitlines()
    assert json.loads(line)["Operation"] == "AlertNew"
