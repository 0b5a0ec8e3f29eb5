"""The page of what a rule can say: its examples are rules, and every key is on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from m365watch.detection.rules.extension import Kind
from m365watch.detection.rules.extension_text import parse_extension
from rules import load_good, rule_text
from tools.rule_keys_page import EXAMPLES, render


@pytest.mark.parametrize("kind", EXAMPLES, ids=str)
def test_the_example_of_a_kind_is_a_rule_of_that_kind(tmp_path: Path, kind: Kind) -> None:
    detection = {"selection": {"Operation": "New-InboxRule"}, "condition": "selection"}

    library = load_good(tmp_path, rule_text(detection, m365watch=yaml.safe_load(EXAMPLES[kind])))

    assert [rule.kind for rule in library.rules] == [kind]


@pytest.mark.parametrize("place", ["", "raise", *EXAMPLES])
def test_every_key_that_a_rule_may_have_is_on_the_page(place: str) -> None:
    """Whoever writes one that is not known is told of all that are."""
    page = render()
    wrong = {"nonsense": 1}
    faults = parse_extension({place: wrong} if place else wrong)[1]
    [said] = [one.text for one in faults if one.where[-1] == "nonsense"]
    known = said.partition("there are ")[2].split(", ")
    inside = f"{place}." if place in {*EXAMPLES} else ""

    assert len(known) > 1
    assert [one for one in known if f"`{inside}{one}`" not in page and f"## Kind {one}" not in page] == []
