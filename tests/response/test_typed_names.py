"""Rules of which a record has what somebody typed: Exchange takes that in either case, Graph lists one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from alerts import ANN
from detected import plan_from, steps
from m365watch.response.execution.response_executor import Came
from m365watch.response.steps.step import Plan
from responding_scene import DELETES, RULES, Scene, in_scene, names


def changed(identity: str, *, operation: str = "Set", at: int = 0, **told: str) -> dict[str, Any]:
    """A record of a rule that deletes mail from now on, by what was typed for it."""
    named = {"Identity": identity} if identity else {}
    return {
        "shape": "cmdlet",
        "after": f"{at}m",
        "Operation": f"{operation}-InboxRule",
        "UserId": ANN,
        "ObjectId": "ann",
        "Parameters": {"DeleteMessage": "True"} | named | told,
    }


def plan_for(folder: Path, scene: Scene, *records: dict[str, Any]) -> Plan:
    """The plan for the tenant of the scene, its steps on rules alone."""
    folder = folder / "detected"
    folder.mkdir()
    plan = plan_from(folder, "b02_inbox_rule_hides_mail", *records)
    return replace(plan, tenant=scene.tenant, steps=tuple(steps(plan, "remove_inbox_rule")))


@pytest.mark.parametrize("identity", ["newsletter", r"ann\NEWSLETTER", "Newsletter"])
def test_a_rule_is_found_in_whichever_case_it_was_typed(tmp_path: Path, identity: str) -> None:
    """It was there before as Newsletter, and of what was typed nothing was there by Graph."""

    async def test(scene: Scene) -> None:
        for name in ("Newsletter", "Meetings"):
            scene.directory.add(RULES, {"displayName": name} | DELETES)
        told = await scene.apply(plan_for(tmp_path, scene, changed(identity)))

        assert [one.came for one in told] == [Came.DONE]
        assert names(scene) == ["Meetings"]

    in_scene(tmp_path, test)


@guarantee(39)
@pytest.mark.parametrize("other", [DELETES, {"sequence": 2, "actions": {"markAsRead": True}}])
def test_of_two_that_differ_in_their_case_alone_a_person_picks(tmp_path: Path, other: dict[str, Any]) -> None:
    """Which of them Exchange took no record tells, also where one of them is spelt as it was typed."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": "Newsletter"} | other)
        scene.directory.add(RULES, {"displayName": "newsletter"} | DELETES)
        told = await scene.apply(plan_for(tmp_path, scene, changed("newsletter")))

        assert [one.came for one in told] == [Came.PICK, Came.PICK]
        assert names(scene) == ["Newsletter", "newsletter"]

    in_scene(tmp_path, test)


@guarantee(39)
def test_a_name_that_a_record_gave_is_the_rule_s_letter_by_letter(tmp_path: Path) -> None:
    """The owner's is called alike, and went by --yes were it compared in either case."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": "Newsletter"} | DELETES)
        made = changed("", operation="New", Name="newsletter")
        told = await scene.apply(plan_for(tmp_path, scene, made, changed("NEWSLETTER", at=5)))

        assert [one.came for one in told] == [Came.MISSING]
        assert names(scene) == ["Newsletter"]

    in_scene(tmp_path, test)


def test_a_name_that_is_given_later_is_no_other_name(tmp_path: Path) -> None:
    """Outlook on the web sends it with every change: the rule was called so all the time."""
    records = [changed("NEWSLETTER"), changed("newsletter", at=5, Name="Newsletter")]
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", *records)

    assert [(step.title, step.asks_always) for step in steps(plan, "remove_inbox_rule")] == [
        (f'Remove the inbox rule "Newsletter" of {ANN}', False)
    ]


def test_where_two_were_made_that_differ_in_their_case_alone_a_person_says_yes(tmp_path: Path) -> None:
    """Which of both was changed by that name no record tells."""
    made = [changed("", operation="New", Name=name, at=at) for at, name in enumerate(("News", "news"))]
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", *made, changed("NEWS", at=5))

    assert [(step.title, step.asks_always) for step in steps(plan, "remove_inbox_rule")] == [
        (f'Remove the inbox rule "News" of {ANN}', True),
        (f'Remove the inbox rule "news" of {ANN}', True),
    ]
