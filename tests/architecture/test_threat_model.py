"""Every line of docs/threat-model.md is held by a test that exists."""

from __future__ import annotations

import re

from sources import ROOT
from test_guarantees import TEST, is_test

PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| they try |")]


def test_every_line_names_its_test() -> None:
    """Something that holds against an attack, and whose test nobody can name, is a hope."""
    assert [line for line in ROWS if not TEST.search(line.rpartition(" | ")[2])] == []
    assert len(ROWS) > 30


def test_the_tests_that_are_named_exist() -> None:
    """A row is no longer true when its test is gone, or has another name."""
    named = re.findall(r"`(tests/[^`]+)`", PAGE)

    assert [one for one in named if not is_test(*one.split("::"))] == []


def test_each_kind_of_attacker_has_a_section() -> None:
    """Whoever controls what records say, a tenant, the network, a browser, a statement, an account."""
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)

    for word in ("trusted", "records say", "tenant", "network", "browser", "SQL", "account", "not defended"):
        assert any(word in section for section in sections), word
