"""What tests take of a machine: counted in CPU seconds, which hardly change when it is busy."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from operator import itemgetter

import pytest
from elsewhere import counted_cpu_s

CPU_S_MAX = 120.0
"""For one test, its fixtures, and the processes that it starts and waits for. What the tests of a module
share, as the commands of all tutorials, counts with the last of them."""
TOLD_S_MIN = 30.0
"""A run that took less tells nothing: somebody tried a few tests."""
_NAME = "cpu_s"
_BEFORE = pytest.StashKey[float]()


class Spending:
    """Fails a test that takes too much, and tells at the end what each room took."""

    def __init__(self, cpu_s_max: float = CPU_S_MAX, *, spent_s: Callable[[], float] | None = None) -> None:
        """`spent_s` reads the CPU seconds of this process and those that it waited for."""
        self._cpu_s_max = cpu_s_max
        self._spent_s = spent_s or _spent_s
        self._rooms: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        item.stash[_BEFORE] = self._spent_s()
        yield

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        yield
        took_s = round(self._spent_s() - item.stash[_BEFORE], 2)
        item.user_properties.append((_NAME, took_s))
        if took_s > self._cpu_s_max:
            pytest.fail(
                f"it took {took_s:.1f} s of CPU time; a test has {self._cpu_s_max:.0f} s", pytrace=False
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            noted = [float(str(value)) for name, value in report.user_properties if name == _NAME]
            self._rooms[room_of(report.nodeid)] += sum(noted)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        total_s = sum(self._rooms.values())
        if total_s < TOLD_S_MIN:
            return
        terminalreporter.section("CPU seconds by room")
        dearest = sorted(self._rooms.items(), key=itemgetter(1), reverse=True)
        told = [f"{room} {took_s:.0f}" for room, took_s in dearest if took_s >= 1]
        terminalreporter.write_line(f"{total_s:.0f} in all: {', '.join(told)}")


def room_of(test: str) -> str:
    """The folder below tests that a test is in, or its file where that lies in none."""
    parts = test.partition("::")[0].split("/")
    return parts[1] if len(parts) > 1 else parts[0]


def _spent_s() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system + counted_cpu_s()
