"""What outputs are told of a run whose configuration changes: no secret, the old ones and the new."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.clock import SystemClock, system_random
from m365watch.common.collector_events import Notice
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.runtime.collector import Collector
from m365watch.runtime.config_reload import Reload
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_testing.outputs import FakeOutput

NEW = "what-nobody-is-to-read"


class ToldOutput(FakeOutput):
    """A fake that takes notices."""

    notices_every_s = 0.01

    def __init__(self) -> None:
        super().__init__("lake")
        self.told: list[str] = []

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        self.told += [notice.msg for notice in notices]


@guarantee(24)
def test_no_notice_has_a_secret_of_before_or_after_a_change(tmp_path: Path) -> None:
    """A run that takes up another secret hides both, whichever of its modules might say one."""
    output = ToldOutput()

    async def main() -> str:
        settings = SimulationSettings(seed=3, days=0.1, records_per_day=20, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            document = running.configuration(
                outputs={"lake": {"type": "lake", "config": {"directory": "lake"}}}
            )
            old = running.tenants[0].identity.client_secret
            before = settings_in(tmp_path, document)
            document["inputs"]["office365"]["credentials"]["client_secret"] = NEW
            reload = Reload([tmp_path], lambda _: settings_in(tmp_path, document), SystemClock())
            collector = Collector(
                before,
                clock=SystemClock(),
                random=system_random(1),
                build_output=lambda _: output,
                reload=reload,
            )
            stop = asyncio.Event()
            with capture_logs() as lines:

                async def said(text: str) -> None:
                    while not any(text in line["event"] for line in lines):
                        await asyncio.sleep(0.01)

                running_it = asyncio.create_task(collector.run(once=False, stop=stop))
                async with asyncio.timeout(PATIENCE_S):
                    await said("started")
                    collector.board.put("info", f"before: {old}", module="test")
                    reload.ask()
                    await said("the configuration is taken up")
                    collector.board.put("info", f"after: {old} {NEW}", module="test")
                    stop.set()
                    await running_it
            return old

    old = asyncio.run(main())

    assert {"before: ***", "after: *** ***"} <= {*output.told}
    assert not [one for one in output.told if old in one or NEW in one]


def settings_in(folder: Path, document: dict[str, Any]) -> Settings:
    found = parse_settings(document, path=folder / "m365watch.json", environment={})
    return replace(found, watches_configuration=False)
