"""The frozen table of broken configurations: each is refused with its code, at its key, as it was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broken_cases import TABLE, refused_with


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_a_broken_configuration_is_refused_at_its_key(case: dict[str, Any], tmp_path: Path) -> None:
    """By the command line, with exit code 2."""
    assert refused_with(case, tmp_path) == (2, case["code"], case["keys"])


def test_the_base_alone_is_not_refused(tmp_path: Path) -> None:
    """What is refused is what a case changes: the base fails later, where no server answers."""
    exit_code, _, keys = refused_with({"set": {}}, tmp_path)

    assert (exit_code, keys) == (1, [])


def test_the_table_is_as_large_as_was_agreed() -> None:
    """At least 60 cases, each with a name of its own."""
    assert len({case["name"] for case in TABLE["cases"]}) == len(TABLE["cases"]) >= 60
