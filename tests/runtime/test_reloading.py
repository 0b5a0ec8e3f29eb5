"""A run that reads its configuration again: what it takes up, and what it says where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from made_outputs import lake_in
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import CollectorError, LedgerUnavailable, SettingsRefused
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.health.config_status import ConfigurationNote, configuration_note
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.runtime.config_changes import Change
from m365watch.runtime.config_reload import LOOK_EVERY_S, Reload, Reloader
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping

Result = TypeVar("Result")
ONE, TWO = (f"{number}1111111-1111-4111-8111-111111111111" for number in (1, 2))
APPLICATION = "99999999-8888-4777-8666-555555555555"
AGAIN = "correct what is named; the file is read again once it is saved"
SETTLED_S = 4 * LOOK_EVERY_S
REFUSED = SettingsRefused(["inputs: is missing", "globals.name: is 7"], where="m365.json")


def settings_of(
    *tenants: str, name: str = "m365watch", watches: bool = True, state: str = "state"
) -> Settings:
    credentials = {"tenant_id": list(tenants), "client_id": APPLICATION, "client_secret": "secret-of-ours"}
    document = {
        "globals": {
            "name": name,
            "watch_configuration": watches,
            "persistence": {"config": {"directory_name": state}},
        },
        "inputs": {"office365": {"credentials": credentials}},
    }
    return parse_settings(document, path=Path("/etc/m365.json"), environment={})


class Site:
    """A file that is watched, what it says, and a run that takes it up."""

    def __init__(self, folder: Path, *, watches: bool) -> None:
        self.clock = LoopClock()
        self.file = folder / "m365.json"
        self.save("first")
        self.says: Settings | CollectorError | ValueError = settings_of(ONE)
        self.ledger = SqliteLedger(folder / "state", outputs=frozenset({"lake"}), now=self.clock.now())
        self.applied: list[Change] = []
        self.renewals: list[Change] = []
        self.reads = 0
        self.started_s = self.clock.now().timestamp()
        self.begin(settings_of(ONE, watches=watches))

    def begin(self, settings: Settings) -> None:
        """A run with these settings."""
        calls = CallsInLine()
        self.reload = Reload([self.file], self._load, self.clock, work=calls)
        self.reloader = Reloader(
            self.reload,
            settings,
            apply=self._apply,
            renew=self.renewals.append,
            ledger=self.ledger,
            calls=calls,
            clock=self.clock,
        )

    def save(self, text: str) -> None:
        self.file.write_text(text)

    def _load(self, _running: Settings) -> Settings:
        self.reads += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def _apply(self, change: Change) -> None:
        self.applied.append(change)

    async def settle(self, says: Settings | CollectorError | ValueError, text: str) -> None:
        """The file says so from now on, for long enough to be noticed."""
        self.says = says
        self.save(text)
        await asyncio.sleep(SETTLED_S)

    @property
    def note(self) -> ConfigurationNote:
        with ledger_for_reading(self.ledger.path) as connection:
            found = configuration_note(connection)
        assert found is not None
        return found


def run(
    folder: Path, use: Callable[[Site], Awaitable[Result]], *, watches: bool = True
) -> tuple[Result, list[tuple[str, str]]]:
    async def main() -> Result:
        site = Site(folder, watches=watches)
        async with site.reloader.running():
            await asyncio.sleep(1)
            try:
                return await use(site)
            finally:
                site.ledger.close()

    with capture_logs() as lines:
        result = run_jumping(main())
    return result, [(line["log_level"], line["event"]) for line in lines]


def test_a_saved_file_is_taken_up(tmp_path: Path) -> None:
    """Once; and the run goes on from there."""

    async def use(site: Site) -> tuple[list[str], int]:
        await site.settle(settings_of(ONE, TWO), "two")
        await asyncio.sleep(600)
        await site.settle(settings_of(TWO), "only two")
        return [change.text for change in site.applied], site.reads

    (texts, reads), lines = run(tmp_path, use)

    assert texts == [f"tenants: added {TWO}", f"tenants: removed {ONE}"]
    assert reads == 2
    assert lines == [("info", f"the configuration is taken up; {text}") for text in texts]


@guarantee(31)
def test_a_broken_file_changes_nothing_and_says_why(tmp_path: Path) -> None:
    """Each mistake in a line of its own, once; kept for `status` until the file is mended."""

    async def use(site: Site) -> tuple[ConfigurationNote, ConfigurationNote, list[str], int]:
        await site.settle(REFUSED, "broken")
        await asyncio.sleep(600)
        broken = site.note
        await site.settle(settings_of(ONE, TWO), "mended")
        return broken, site.note, [change.text for change in site.applied], site.reads

    (broken, mended, texts, reads), lines = run(tmp_path, use)

    assert lines[:3] == [
        ("error", "m365.json: inputs: is missing"),
        ("error", "m365.json: globals.name: is 7"),
        (
            "error",
            f"m365.json: nothing is changed, and all goes on as it was; {AGAIN}",
        ),
    ]
    assert (broken.mistakes, broken.refused_at is None) == (REFUSED.mistakes, False)
    assert broken.fix == AGAIN
    assert broken.outputs == mended.outputs == {"lake": "the lake in /etc/lake"}
    assert (mended.mistakes, mended.refused_at, mended.fix) == ([], None, "")
    assert (texts, reads) == ([f"tenants: added {TWO}"], 2)


@pytest.mark.parametrize("verb", ["remember", "remembered"])
def test_changes_are_taken_up_after_a_defect_of_the_ledger(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be noted for `status` is said, and keeps no change from being taken up."""

    def fail(*_: object) -> None:
        raise ValueError

    async def use(site: Site) -> list[str]:
        monkeypatch.setattr(SqliteLedger, verb, fail)
        site.begin(settings_of(ONE))
        async with site.reloader.running():
            await asyncio.sleep(60)
            await site.settle(settings_of(ONE, TWO), "two")
            await site.settle(settings_of(TWO), "only two")
        return [change.text for change in site.applied]

    texts, lines = run(tmp_path, use, watches=False)

    assert texts == [f"tenants: added {TWO}", f"tenants: removed {ONE}"]
    [told] = [text for level, text in lines if level == "error"]
    assert told.startswith("the note of the configuration: unexpected ValueError in ")


def test_a_lake_that_is_written_to_no_more_is_remembered(tmp_path: Path) -> None:
    """Until when, by whatever run comes after; and no more once it is written to again."""

    async def use(site: Site) -> list[list[str]]:
        found = []
        for folder in ("/etc/two", "/etc/three", "/etc/two"):
            lakes = (lake_in(Path(folder)),)
            site.begin(replace(settings_of(ONE), outputs=lakes))
            async with site.reloader.running():
                await asyncio.sleep(60)
                site.says = replace(settings_of(ONE, TWO), outputs=lakes)
                await site.reloader.reload()
            found.append([f"{one.directory} {one.until_s - site.started_s:.0f}" for one in site.note.earlier])
        return found

    found, _ = run(tmp_path, use)

    first = "/etc/lake 1"
    assert found == [[first], [first, "/etc/two 61"], [first, "/etc/three 121"]]


@pytest.mark.parametrize("error", [ValueError(), LedgerUnavailable("it is locked")])
def test_earlier_lakes_outlast_a_ledger_that_cannot_be_read_at_first(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has not read what was remembered does not write over it."""
    remembered, failures = SqliteLedger.remembered, [error]

    def fail_once(ledger: SqliteLedger, name: str) -> str | None:
        if failures:
            raise failures.pop()
        return remembered(ledger, name)

    async def use(site: Site) -> list[str]:
        lakes = (lake_in(Path("/etc/two")),)
        monkeypatch.setattr(SqliteLedger, "remembered", fail_once)
        site.begin(replace(settings_of(ONE), outputs=lakes))
        async with site.reloader.running():
            await asyncio.sleep(60)
            site.says = replace(settings_of(ONE, TWO), outputs=lakes)
            await site.reloader.reload()
        return [f"{one.directory} {one.until_s - site.started_s:.0f}" for one in site.note.earlier]

    found, _ = run(tmp_path, use)

    assert (found, failures) == (["/etc/lake 1"], [])


def test_a_defect_that_a_file_brings_to_light_ends_no_run(tmp_path: Path) -> None:
    """It is told, and the next saving is read."""

    async def use(site: Site) -> list[str]:
        await site.settle(ValueError("boom"), "strange")
        await site.settle(settings_of(ONE, TWO), "good")
        return [change.text for change in site.applied]

    texts, lines = run(tmp_path, use)

    assert texts == [f"tenants: added {TWO}"]
    assert [level for level, _ in lines if level != "debug"] == ["error", "error", "info"]


def test_who_asks_is_heard_at_once_whatever_the_file_says(tmp_path: Path) -> None:
    """Also where the file is not watched; what was read then is not read again by the watch."""

    async def use(site: Site) -> tuple[int, int]:
        site.says = settings_of(ONE, TWO)
        site.save("two")
        site.reload.asked.set()
        await asyncio.sleep(0.1)
        at_once = site.reads
        await asyncio.sleep(600)
        return at_once, site.reads

    assert run(tmp_path, use)[0] == (1, 1)
    assert run(tmp_path, use, watches=False)[0] == (1, 1)


def test_a_file_that_is_not_to_be_watched_is_left_alone(tmp_path: Path) -> None:
    """`globals.watch_configuration` is off."""

    async def use(site: Site) -> int:
        await site.settle(settings_of(ONE, TWO), "two")
        return site.reads

    assert run(tmp_path, use, watches=False) == (0, [])


def test_what_needs_a_restart_is_told_once_and_kept(tmp_path: Path) -> None:
    """And again only when it is another thing."""

    async def use(site: Site) -> list[str]:
        await site.settle(settings_of(ONE, state="another"), "one")
        await site.settle(settings_of(ONE, state="another"), "more")
        return site.note.needs_restart

    kept, lines = run(tmp_path, use)

    assert kept == ["globals.persistence is another one; needs a restart"]
    assert [text for level, text in lines if level == "warning"] == [f"{tmp_path}/m365.json: {kept[0]}"]


def test_what_a_run_cannot_take_up_ends_it_for_one_that_can(tmp_path: Path) -> None:
    """Told with what else changes; nothing is applied to the run that ends, and nothing read any more."""

    async def use(site: Site) -> tuple[list[Change], int]:
        await site.settle(settings_of(ONE, TWO, name="another"), "one")
        await site.settle(settings_of(ONE), "more")
        assert site.applied == []
        return site.renewals, site.reads

    (renewals, reads), lines = run(tmp_path, use)

    assert [change.settings for change in renewals] == [settings_of(ONE, TWO, name="another")]
    assert reads == 1
    then = "what is in flight is finished first, then the collector goes on with it"
    assert lines == [("info", f"the configuration has changed; {renewals[0].text}: {then}")]


def test_new_warnings_of_a_file_are_told(tmp_path: Path) -> None:
    """Those that were told at the start are not told again."""

    async def use(site: Site) -> None:
        await site.settle(replace(settings_of(ONE), warnings=("odd",)), "odd")
        await site.settle(replace(settings_of(ONE), warnings=("odd", "odder")), "odder")

    _, lines = run(tmp_path, use)

    assert [text for level, text in lines if level == "warning"] == ["odd", "odder"]
