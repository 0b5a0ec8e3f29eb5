"""The plan of every hit of the packs, as a person has read it: `plans` has a page for each detection.

What a change of a rule or of a step does to all plans is seen there. After a look they are written anew:
M365WATCH_WRITE_PLANS=1 pytest tests/response/test_all_plans.py
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from expand import case_files, load_cases
from verdicts import knowledge_of, library_of

from detected import detect, plan_of
from m365watch.detection.rule_test_cases import with_sources
from m365watch.response.steps.step import Plan, Step

PLANS = Path(__file__).parent / "plans"
WRITES = "M365WATCH_WRITE_PLANS"
KNOWN = frozenset({"disable_account", "reset_password", "revoke_sessions"})
"""Steps that are the same everywhere but for the account that their titles have."""

SHOWN_MAX = 4
"""Steps of one word that a page shows; the rest is counted."""


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_a_plan_is_what_a_person_has_read(path: Path, tmp_path: Path) -> None:
    """Titles, calls of Graph and commands, for each hit."""
    page = "\n".join(_page(path, tmp_path)) + "\n"
    told = PLANS / f"{path.stem}.txt"
    if os.environ.get(WRITES):
        told.write_text(page, encoding="utf-8")

    assert page == told.read_text(encoding="utf-8"), f"after a look: {WRITES}=1 pytest {__file__}"


def test_no_page_is_left_of_what_is_gone() -> None:
    """One for each detection that has cases."""
    assert {one.stem for one in PLANS.glob("*.txt")} == {one.stem for one in case_files()}


def _page(path: Path, folder: Path) -> Iterator[str]:
    file = load_cases(path)
    library = library_of(file)
    own = {rule.id: rule.name for rule in library.find(file.detection)}
    rules = with_sources([rule for rule in library.rules if rule.id in own], library)
    for number, case in enumerate(one for one in file.cases if one.kind == "hit"):
        place = folder / str(number)
        place.mkdir()
        yield f"# {case.name}"
        found = detect(place, case.records, rules, knowledge=knowledge_of(file.settings))
        for kept in sorted(found, key=lambda one: (own.get(one.alert.rule_id, ""), one.alert.first_at_ms)):
            if kept.alert.rule_id in own:
                yield f"## {own[kept.alert.rule_id]}"
                yield from _told(plan_of(place, kept, rules))
        yield ""


def _told(plan: Plan) -> Iterator[str]:
    yield from (f"note: {note}" for note in plan.notes)
    of_word = Counter(step.word for step in plan.steps)
    told: Counter[str] = Counter()
    for step in plan.steps:
        told[step.word] += 1
        assert bool(step.reasons) == step.asks_always, "the question says why only a person may say yes"
        if told[step.word] > SHOWN_MAX:
            continue
        yield f"- {step.title}  [{step.way}]"
        if step.word not in KNOWN:
            yield from _how(step)
        if told[step.word] == SHOWN_MAX < of_word[step.word]:
            yield f"- and {of_word[step.word] - SHOWN_MAX} more of {step.word}"
    yield from (f"besides: {one.title}: {one.more}" for one in plan.parts)


def _how(step: Step) -> Iterator[str]:
    for call in step.calls:
        body = f" {dict(call.body)}" if call.body else ""
        yield f"    {call.method} {call.path}{body}"
    yield from (f"    > {line}" for line in step.powershell)
