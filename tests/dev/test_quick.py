"""The quick tier: which tests stand for all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from quick import CASES_MAX, choose_cases

ROOT = Path(__file__).resolve().parents[2]


def test_a_function_of_few_cases_has_all_of_them() -> None:
    """Nothing is gained by leaving one out."""
    tests = {"a.py::test_one", "a.py::test_two[1]", "a.py::test_two[2]", "b.py::test_two[1]"}

    assert choose_cases(tests) == tests


def test_of_many_cases_the_first_the_last_and_one_between_stand_for_all() -> None:
    """The same ones whatever other functions there are."""
    cases = [f"a.py::TestIt::test_many[{number}]" for number in range(40)]
    chosen = choose_cases(cases)

    assert len(chosen) == CASES_MAX
    assert {cases[0], cases[-1]} < chosen
    assert choose_cases(["a.py::test_one", *cases]) == chosen | {"a.py::test_one"}


@pytest.mark.slow
def test_slow_tests_are_left_out_and_cases_are_few(tmp_path: Path) -> None:
    """As the option does it, with and without."""
    (tmp_path / "conftest.py").symlink_to(ROOT / "tests/conftest.py")
    (tmp_path / "test_some.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.parametrize('n', range(9))\ndef test_many(n): ...\n\n"
        "@pytest.mark.slow\ndef test_slow(): ...\n\n"
        "@pytest.mark.long\ndef test_long(): ...\n"
    )

    assert count_collected(tmp_path, "--quick") == CASES_MAX
    assert count_collected(tmp_path) == 10
    assert count_collected(tmp_path, "-m", "long or slow") == 2


def count_collected(folder: Path, *options: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--collect-only"]
    shown = subprocess.run(
        [*command, "-p", "no:cacheprovider", *options, str(folder)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT / "tests"), "PATH": "/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(line.startswith("test_some.py::") or "::test_" in line for line in shown.stdout.splitlines())
