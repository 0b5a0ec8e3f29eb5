"""Shifts the clock of each Python process that has this folder on its path; `tools/days.py` sets it up.

Python imports a module of this name at its start. `SystemClock` is the only reader of time in m365watch, so
that this is another day for all of it: the collector, its worker processes, the simulated tenant, and tests.
"""

import os
import sys
from datetime import timedelta
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

AHEAD_S = "PYTHON_TESTS_CLOCK_AHEAD_S"
CLOCK = "m365watch.common.clock"


class ClockFinder:
    """Finds the module of the clock as Python does, and shifts it once it is imported."""

    def find_spec(
        self, name: str, path: object = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for every other module: Python looks for it as always."""
        if name != CLOCK:
            return None
        spec = PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_shift(module: ModuleType) -> None:
                run(module)
                now, ahead = module.SystemClock.now, timedelta(seconds=float(os.environ[AHEAD_S]))
                module.SystemClock.now = lambda clock: now(clock) + ahead

            spec.loader.exec_module = run_and_shift  # type: ignore[method-assign]
        return spec


if AHEAD_S in os.environ:
    sys.meta_path.insert(0, ClockFinder())
