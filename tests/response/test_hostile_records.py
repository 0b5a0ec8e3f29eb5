"""Whatever stands in a record, its plan is made, and runs nothing of it."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from expand import case_files, load_cases
from verdicts import knowledge_of, library_of

from m365watch.detection.rule_test_cases import with_sources
from m365watch.detection.rules.rule_library import Library
from planning import plans_of
from test_plan import outside_strings
from test_quoting import HOSTILE, UNUSABLE

VALUES: tuple[Any, ...] = (
    *HOSTILE,
    *UNUSABLE,
    *(
        "x" * 255,
        "x" * 299,
        '["a"]',
        '"a"',
        "a\u200bb",
        " a",
        "a ",
        "a:b",
        r"a\b\c",
        "a;b,c",
        "\ufffd",
        "\u2026",
    ),
    *(
        "https://c.example/" + "\u00e9" * 290,
        "https://c.example/a%0Ab%20c",
        "https://[x/a/b.docx",
        "x@" + "y" * 300,
    ),
    *([], {}, None, 5, True, ["a", {"b": 1}]),
)
KEPT = frozenset({"Operation", "RecordType", "CreationTime", "Id", "Workload", "ResultStatus", "UserType"})
"""What a record has to have for a rule to find it."""
RECORDS_MAX = 5


def spoil(value: Any, chance: random.Random) -> Any:
    """The same with some of its values exchanged, at any depth; names of parameters stay."""
    if isinstance(value, dict):
        return {key: one if key in {*KEPT, "Name"} else spoil(one, chance) for key, one in value.items()}
    if isinstance(value, list):
        return [spoil(one, chance) for one in value]
    return chance.choice(VALUES) if chance.random() < 0.3 else value


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_a_plan_is_made_of_whatever_a_record_says(path: Path) -> None:
    """No name ends a string or a plan; what is told is in one line each."""
    file = load_cases(path)
    library: Library = library_of(file)
    rules = with_sources(library.find(file.detection), library)
    chance = random.Random(file.detection)
    for case in file.cases:
        if case.kind == "hit" and len(case.records) <= RECORDS_MAX:
            bodies = [json.dumps(spoil(json.loads(one), chance)).encode() for one in case.records]
            for plan in plans_of(rules, bodies, knowledge_of(file.settings)):
                for step in plan.steps:
                    assert step.title.isprintable()
                    for line in step.powershell:
                        assert not re.search("Stop-Computer|iex|env:", outside_strings(line)), line
                    assert all(call.path.isascii() for call in step.calls)
