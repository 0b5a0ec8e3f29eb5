"""A ledger that is lost, damaged or put back: with real outputs, in the end each record is there once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked import PIPE, fork
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from doomed import Moment
from m365watch.common.clock import SystemClock
from m365watch.ledger.backup import back_up, put_in
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.outputs.files.files_output import FilesOutput
from m365watch.outputs.files.spec import FilesSection
from m365watch_simulator.service.scenario import Scenario, load_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Verdict
from place import BOTH, LAKE, Place, erase_first_person, records_in_lake

FLAWLESS = Verdict([], [], [])
DOOMED = Path(__file__).with_name("doomed.py")
EARLY = ("exchange", "dlp")
"""The services of a first run, where a second one has all."""


@dataclass
class Scene:
    """A tenant that publishes nothing more, and a place whose ledger has a hard time."""

    place: Place
    running: RunningSimulator

    @property
    def ledger(self) -> Path:
        return self.place.folder / "state" / LEDGER_FILE

    def document(self, outputs: Mapping[str, Any], services: tuple[str, ...] = ()) -> dict[str, Any]:
        document = self.running.configuration(outputs=outputs)
        for one in document["inputs"].values():
            if services:
                one["services"] = {name: one["services"].get(name, {}) for name in services}
        return document

    async def collect(
        self, outputs: Mapping[str, Any] = BOTH, *, services: tuple[str, ...] = ()
    ) -> list[str]:
        """A run with `--once`; its warnings and errors."""
        collector = self.place.collector(self.document(outputs, services), SystemClock())
        with capture_logs() as lines:
            async with asyncio.timeout(PATIENCE_S):
                outcome = await collector.run(once=True, stop=asyncio.Event())
        assert outcome.exit_code == 0, outcome.problems
        return [line["event"] for line in lines if line["log_level"] in ("warning", "error")]

    def verdicts(self) -> dict[str, Verdict]:
        truth = self.running.tenants[0].truth()
        return {name: truth.judge(held) for name, held in self.place.holdings().items()}

    def lose(self) -> None:
        for path in self.ledger.parent.glob(f"{LEDGER_FILE}*"):
            path.unlink()


def run(folder: Path, use: Callable[[Scene], Awaitable[None]], *, scenario: Scenario | None = None) -> None:
    settings = SimulationSettings(seed=7, days=2, records_per_day=150, live=False, scenario=scenario)

    async def main() -> None:
        async with simulator_running(settings, clock=SystemClock()) as running:
            await use(Scene(Place(folder), running))

    asyncio.run(main())


def overwrite(path: Path) -> None:
    """Somebody else's bytes in the middle of the file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for at in range(8192, size, 3 * 8192):
            file.seek(at)
            file.write(os.urandom(4096))


def cut(path: Path) -> None:
    """A disk that lost the end."""
    os.truncate(path, path.stat().st_size * 3 // 5 // 8192 * 8192)


def empty(path: Path) -> None:
    """Nothing is left but the name."""
    os.truncate(path, 0)


def replace_head(path: Path) -> None:
    """No database at all any more."""
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


def remove(path: Path) -> None:
    """Gone."""
    path.unlink()


@guarantee(19)
@pytest.mark.parametrize(
    ("harm", "compression"),
    [(overwrite, "none"), (cut, "gzip"), (empty, "zstd"), (replace_head, "gzip"), (remove, "none")],
)
def test_a_harmed_ledger_loses_and_doubles_nothing(
    tmp_path: Path, harm: Callable[[Path], None], compression: str
) -> None:
    """What is still served is listed again, and what lake and files hold is not written again."""
    outputs = {**BOTH, "files": {"type": "files", "config": {"directory": "out", "compression": compression}}}

    async def use(scene: Scene) -> None:
        await scene.collect(outputs, services=EARLY)
        held = sum(len(records) for records in scene.place.holdings().values())
        harm(scene.ledger)
        told = await scene.collect(outputs)

        assert held > 20
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}
        kept = list(scene.ledger.parent.glob("ledger-*.damaged.sqlite"))
        assert len(kept) == (harm in (overwrite, cut, replace_head))
        assert any("does not know what the outputs hold" in line for line in told)
        assert any("it is kept as" in line for line in told) == bool(kept)
        # Once more: nothing is read or written again.
        assert await scene.collect(outputs) == []
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}

    run(tmp_path, use)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["without-id", "lone-surrogate", "nan"])
def test_odd_records_do_not_double_either(tmp_path: Path, scenario: str) -> None:
    """Those without Id are never taken for duplicates elsewhere; here their very bytes tell."""

    async def use(scene: Scene) -> None:
        await scene.collect()
        scene.lose()
        await scene.collect()
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}

    run(tmp_path, use, scenario=load_scenario(scenario))


@guarantee(19)
@pytest.mark.slow
def test_what_only_one_output_holds_the_other_gets(tmp_path: Path) -> None:
    """The lake's records are no reason to keep them from files that lack them."""

    async def use(scene: Scene) -> None:
        await scene.collect({"lake": LAKE})
        scene.lose()
        await scene.collect()
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}

    run(tmp_path, use)


@guarantee(19)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "durable", "others_committed"),
    [("files", True, True), ("files", False, True), ("lake", True, False), ("lake", False, True)],
)
def test_a_kill_in_the_middle_and_a_lost_ledger_lose_and_double_nothing(
    tmp_path: Path, output: str, durable: bool, others_committed: bool
) -> None:
    """One output has a batch, the other not or in part, and nobody knows any more."""

    async def use(scene: Scene) -> None:
        (tmp_path / "m365watch.json").write_text(json.dumps(scene.document(BOTH)))
        await kill_at(tmp_path, Moment(output, 1, durable=durable, others_committed=others_committed))
        scene.lose()
        await scene.collect()
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}

    run(tmp_path, use)


@guarantee(17)
@pytest.mark.slow
def test_what_was_erased_does_not_come_back_to_the_lake(tmp_path: Path) -> None:
    """Microsoft lists it again for a new ledger, and the lake has it no more: its marks tell."""

    async def use(scene: Scene) -> None:
        await scene.collect()
        lake = tmp_path / "lake"
        gone = erase_first_person(lake, records_in_lake(lake))
        left = sorted(records_in_lake(lake))
        scene.lose()
        await scene.collect()

        assert len(gone) > 5
        assert sorted(records_in_lake(lake)) == left
        assert scene.verdicts()["files"] == FLAWLESS
        # Nor by a run of the new ledger, once it knows.
        assert await scene.collect() == []
        assert sorted(records_in_lake(lake)) == left

    run(tmp_path, use)


class DyingFiles(FilesOutput):
    """Files of which the reading stops in the middle, as by a kill."""

    async def list_held(self, **asked: Any) -> Any:
        async for piece in super().list_held(**asked):
            yield piece
            raise RuntimeError("killed")


@guarantee(19)
@pytest.mark.slow
def test_a_reading_that_was_cut_short_begins_again(tmp_path: Path) -> None:
    """Half of what the outputs hold is not enough to go on with."""

    async def use(scene: Scene) -> None:
        await scene.collect()
        scene.lose()
        collector = scene.place.collector(scene.document(BOTH), SystemClock())
        make = collector._build_output
        collector._build_output = lambda wanted: (
            DyingFiles(wanted, clock=SystemClock()) if isinstance(wanted, FilesSection) else make(wanted)
        )
        with pytest.raises(RuntimeError, match="killed"):
            await collector.run(once=True, stop=asyncio.Event())
        told = await scene.collect()
        assert any("does not know what the outputs hold" in line for line in told)
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}

    run(tmp_path, use)


async def kill_at(folder: Path, moment: Moment) -> None:
    """A run in a process of its own, with the configuration in `folder`, that ends at `moment`."""
    process = await fork(DOOMED, str(folder), "0", moment.text(), stdout=PIPE)
    await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == -signal.SIGKILL


def copy_of(scene: Scene) -> Path:
    """A backup of the scene's ledger as it is."""
    target = scene.place.folder / "copy.sqlite"
    back_up(scene.ledger, target, on_pages=lambda _done, _total: None)
    return target


def put_back(scene: Scene, copy: Path) -> None:
    put_in(scene.ledger, copy, now=SystemClock().now(), on_pages=lambda _done, _total: None)


@guarantee(19)
@pytest.mark.slow
def test_an_older_ledger_that_is_put_back_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The outputs are ahead of it by whole feeds and by later blobs."""

    async def use(scene: Scene) -> None:
        await scene.collect(services=EARLY)
        copy = copy_of(scene)
        await scene.collect()
        put_back(scene, copy)
        told = await scene.collect()
        assert any("does not know what the outputs hold" in line for line in told)
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}
        assert await scene.collect() == []

    run(tmp_path, use)


@guarantee(19)
@pytest.mark.slow
@pytest.mark.parametrize("output", ["files", "lake"])
def test_a_copy_of_a_ledger_with_an_open_batch_is_put_back(tmp_path: Path, output: str) -> None:
    """One output had the batch, the other got its blobs later, in another batch that the copy lacks."""

    async def use(scene: Scene) -> None:
        (tmp_path / "m365watch.json").write_text(json.dumps(scene.document(BOTH)))
        await kill_at(tmp_path, Moment(output, 1, durable=False, others_committed=True))
        copy = copy_of(scene)
        await scene.collect()
        put_back(scene, copy)
        await scene.collect()
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}

    run(tmp_path, use)


@guarantee(19)
@pytest.mark.slow
def test_a_copy_without_any_later_batch_is_put_back(tmp_path: Path) -> None:
    """A batch of the copy is not settled by its number: its blobs may have gone another way, or none."""

    async def use(scene: Scene) -> None:
        (tmp_path / "m365watch.json").write_text(json.dumps(scene.document(BOTH)))
        await kill_at(tmp_path, Moment("lake", 1, durable=False, others_committed=True))
        copy = copy_of(scene)
        # The batch that follows has a higher number, and only a part of the blobs.
        await scene.collect(services=EARLY)
        put_back(scene, copy)
        await scene.collect()
        assert scene.verdicts() == {"files": FLAWLESS, "lake": FLAWLESS}

    run(tmp_path, use)
