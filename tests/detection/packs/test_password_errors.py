"""What an error says of the password is written down once, and each error says one thing."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, load_packs, read_list

LISTS = ("right_password", "wrong_password", "locked_account", "unknown_account")
ERRORS = {name: read_list(PACKS_DIRECTORY / "core" / "lists" / f"{name}_errors.txt") for name in LISTS}
BESIDE = {"500121"}
"""Of which a rule is about that very error."""


@pytest.mark.parametrize(("one", "other"), list(combinations(LISTS, 2)))
def test_no_error_says_two_things(one: str, other: str) -> None:
    """Neither a number nor a name."""
    assert set(ERRORS[one]) & set(ERRORS[other]) == set()


def test_what_an_error_says_stands_in_no_rule() -> None:
    """A number that one rule has and another lacks was told as a wrong password by the other."""
    listed = {error for found in ERRORS.values() for error in found} - BESIDE
    word = re.compile(r"\b(?:" + "|".join(sorted(listed, key=len, reverse=True)) + r")\b")
    named = {
        (path.name, error)
        for path in PACKS_DIRECTORY.glob("*/*.yml")
        for error in word.findall(path.read_text(encoding="utf-8"))
    }

    assert named == {("o06_bad_application.yml", "900941")}


def test_a_pack_alone_has_the_lists_of_the_first() -> None:
    """Whoever leaves out one of two packs is told of no list that is missing."""
    assert [str(one) for one in load_packs(["devo"]).mistakes if "list" in str(one)] == []
