"""The verdicts on seeds: each seed is judged once, by whichever process of the tests asks first."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace

import msgspec
import pytest

from m365watch_testing.simulation.scratch import judge_seed
from m365watch_testing.simulation.seeds import Verdict

PATIENCE_S = 300.0


class Verdicts:
    """What came of the seeds, without their histories; shared by all processes of one run of the tests."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        base = tmp_path_factory.getbasetemp()
        self._folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "verdicts"
        self._folder.mkdir(exist_ok=True)

    def on(self, seeds: Iterable[int]) -> list[Verdict]:
        """One for each seed, in their order; what another process is at is waited for last."""
        asked = list(seeds)
        for seed in asked:
            if self._claim(seed):
                self._judge(seed)
        return [self._read(seed) for seed in asked]

    def broken(self, seeds: Iterable[int]) -> list[list[str]]:
        """For each seed that breaks a promise: how to see it again, and what is broken."""
        verdicts = self.on(seeds)
        return [[f"./dev simulate --seed {one.seed}", *one.broken] for one in verdicts if one.broken]

    def _claim(self, seed: int) -> bool:
        try:
            (self._folder / f"{seed}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _judge(self, seed: int) -> None:
        draft = self._folder / f"{seed}.new"
        draft.write_bytes(msgspec.json.encode(replace(judge_seed(seed), history=())))
        draft.rename(draft.with_suffix(".json"))

    def _read(self, seed: int) -> Verdict:
        found = self._folder / f"{seed}.json"
        until = time.monotonic() + PATIENCE_S
        while not found.exists():
            assert time.monotonic() < until, f"the process that judges seed {seed} has gone"
            time.sleep(0.05)
        return msgspec.json.decode(found.read_bytes(), type=Verdict)
