"""A short hunt for every target, the same at each run; the long one is `./dev fuzz`."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from fuzz_names import NAMES

pytestmark = pytest.mark.slow

INPUTS = 40
COSTS_MAX = 4
"""What takes longer is tried with fewer."""


@cache
def hunts() -> dict[str, Any]:
    """What came of each target; all of them are hunted by one process, whose imports are the dearest."""
    command = [sys.executable, str(Path(__file__).with_name("fuzz_command.py"))]
    ran = subprocess.run(
        [*command, "--inputs", str(INPUTS), "--fresh", "--json"], capture_output=True, check=False
    )
    assert ran.returncode in {0, 1}, ran.stderr.decode(errors="replace")
    return {one["target"]: one for one in json.loads(ran.stdout)}


@pytest.mark.slow
def test_every_target_is_named() -> None:
    """So that none is left out here."""
    assert sorted(hunts()) == sorted(NAMES)


@guarantee(26)
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_input_ends_as_it_may(name: str) -> None:
    """In a value or an error of ours, within time and memory in proportion to its length."""
    found = hunts()[name]

    assert found["findings"] == []
    assert found["inputs"] >= INPUTS // COSTS_MAX
