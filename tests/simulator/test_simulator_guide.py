from __future__ import annotations

import re
from pathlib import Path

import pytest

from m365watch.cli.simulate import simulate
from m365watch_simulator.service.scenario import (
    Answer,
    Behaviour,
    Call,
    Incident,
    Rule,
    load_scenario,
    parse_scenario,
    scenario_names,
)

GUIDE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
WORDS = [*Answer, *Call, *Rule.model_fields, *Behaviour.model_fields, *Incident.model_fields]


@pytest.mark.parametrize("word", sorted(set(WORDS)))
def test_the_guide_explains_every_word_of_a_scenario(word: str) -> None:
    """Calls, answers, keys of rules and switches."""
    assert f"`{word}`" in GUIDE


def test_the_guide_names_every_scenario() -> None:
    """With its evidence and sentence, as `--list-scenarios` has them."""
    rows = [
        f"| `{name}` | {load_scenario(name).evidence} | {load_scenario(name).about} |"
        for name in scenario_names()
    ]
    assert [row for row in rows if row not in GUIDE] == []


def test_the_guide_names_every_option() -> None:
    """Each option of the command has its row."""
    names = [name for name in simulate.__annotations__ if name not in ("return", "as_json")]
    options = [f"`--{name.replace('_', '-')}" for name in names]
    assert [option for option in options if option not in GUIDE] == []


def test_the_scenario_in_the_guide_can_be_used() -> None:
    """The example is a scenario."""
    example = re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert example is not None
    assert len(parse_scenario(example[1], where="the guide").rules) == 2
