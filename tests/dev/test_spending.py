"""What tests cost is counted, told, and bounded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from spending import Spending, room_of


def costs_of(spending: Spending, work: int) -> list[tuple[str, Any]]:
    """What is noted of a test that does so much work."""
    test: Any = SimpleNamespace(stash=pytest.Stash(), user_properties=[])
    for around in (spending.pytest_runtest_setup(test), spending.pytest_runtest_teardown(test)):
        next(around)
        sum(range(work))
        next(around, None)
    return list(test.user_properties)


def told_of(spending: Spending, costs: dict[str, float]) -> list[str]:
    """The lines at the end of a run of these tests."""
    for test, cpu_s in costs.items():
        report: Any = SimpleNamespace(when="teardown", nodeid=test, user_properties=[("cpu_s", cpu_s)])
        spending.pytest_runtest_logreport(report)
    lines: list[str] = []
    terminal: Any = SimpleNamespace(section=lines.append, write_line=lines.append)
    spending.pytest_terminal_summary(terminal)
    return lines


def test_what_a_test_takes_is_noted() -> None:
    """Work counts, in its preparation and its clearing up as well."""
    [(name, cpu_s)] = costs_of(Spending(), work=2_000_000)

    assert name == "cpu_s"
    assert cpu_s > 0


def test_a_test_that_takes_too_much_fails() -> None:
    """It says how much is too much; whoever waits for all tests would pay for it with every landing."""
    with pytest.raises(pytest.fail.Exception, match=r"it took \d+\.\d s of CPU time; a test has 0 s"):
        costs_of(Spending(cpu_s_max=0.0), work=2_000_000)


@pytest.mark.parametrize(("took_s", "is_too_much"), [(120.0, False), (120.5, True)])
def test_a_test_has_two_minutes(took_s: float, *, is_too_much: bool) -> None:
    """Of CPU time, whatever else the machine does: all of them have twelve minutes of two cores."""
    spending = Spending(spent_s=iter([100.0, 100.0 + took_s]).__next__)
    if is_too_much:
        with pytest.raises(pytest.fail.Exception, match=r"a test has 120 s"):
            costs_of(spending, work=1)
    else:
        assert costs_of(spending, work=1) == [("cpu_s", took_s)]


def test_the_cost_of_each_room_is_told_after_many_tests() -> None:
    """The dearest first; a file that lies in no room speaks for itself."""
    costs = {
        "tests/feed/test_a.py::test_x": 1.4,
        "tests/lake/test_b.py::test_y[1]": 30.0,
        "tests/test_app.py::z": 2,
    }

    assert told_of(Spending(), costs) == ["CPU seconds by room", "33 in all: lake 30, test_app.py 2, feed 1"]


def test_a_few_tests_are_told_nothing() -> None:
    """Who tries one file knows where the time goes."""
    assert told_of(Spending(), {"tests/feed/test_a.py::test_x": 1.4}) == []


@pytest.mark.parametrize(
    ("test", "room"),
    [("tests/feed/test_a.py::test_x[a/b]", "feed"), ("tests/detect/packs/test_b.py::test_y", "detect")],
)
def test_the_room_of_a_test_is_its_first_folder(test: str, room: str) -> None:
    """Whatever its parameters are."""
    assert room_of(test) == room
