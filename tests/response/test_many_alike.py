"""Steps that differ in whom they are for alone are shown once: nobody reads fifty of a kind at night."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from alerts import ANN, make_alert
from m365watch.cli.respond.plan_view import ALIKE_MIN, once_more, plan_document, plan_lines, yours
from m365watch.config.models.clouds import CLOUDS
from m365watch.response.plans.planner import plan_response
from m365watch.response.plans.step_order import spans
from m365watch.response.steps.step import Plan, Step
from test_only_tried import SPRAYED, sprayed

WORLDWIDE = CLOUDS["worldwide"]


def of_accounts(count: int) -> Plan:
    """The plan for an alert about so many people."""
    alert = make_alert("reset_password", "revoke_sessions", user=ANN)
    people = tuple(("user", f"user{number}@contoso.example") for number in range(1, count + 1))
    return plan_response(replace(alert, entities=people))


def test_a_sprays_plan_shows_one_step_of_a_kind_and_names_all(tmp_path: Path) -> None:
    """Thirty accounts were some five hundred lines; of a few that were named, who got in was none."""
    made = sprayed(tmp_path)
    lines = [*plan_lines(made, cloud=WORLDWIDE)]

    begun = [line for line in lines if line[:1].isdigit() and ". " in line and " yours" not in line]
    same = (
        f"The same, each with its own calls and commands in `m365watch respond {made.alert_id[:8]} --json`:"
    )
    assert [line.partition(". ")[0] for line in begun] == ["1", "2", "3", "4 to 32", "33", "34 to 62"]
    for place, last in ((3, 32), (5, 62)):
        at = lines.index(begun[place])
        named = [line.split() for line in lines[at + 1 : at + SPRAYED]]
        assert begun[place].endswith(f". {same}")
        assert [number for number, _ in named] == [f"{one}." for one in range(last - 28, last + 1)]
        titles = [made.steps[int(number[:-1]) - 1].title for number, _ in named]
        assert all(account in title for title, (_, account) in zip(titles, named, strict=True))
    assert len(lines) < 120


def test_steps_without_commands_are_not_sent_for_any(tmp_path: Path) -> None:
    """Looks at who was near have none anywhere."""
    looks = [Step("disable_account", f"See whether u{n}@contoso.example did it") for n in range(ALIKE_MIN)]
    made = replace(of_accounts(1), steps=tuple(looks))

    assert "2 to 6. The same:" in [*plan_lines(made, cloud=WORLDWIDE)]


def test_the_document_has_every_step_of_them(tmp_path: Path) -> None:
    """With all of its commands."""
    made = sprayed(tmp_path)
    steps = plan_document(made, cloud=WORLDWIDE)["steps"]

    assert [one["number"] for one in steps] == [*range(1, 63)]
    assert [one["title"] for one in steps] == [one.title for one in made.steps]
    assert all(one["graph"] for one in steps if one["step"] == "revoke_sessions")


def test_a_few_steps_of_a_kind_are_shown_each() -> None:
    """Whoever has five of them reads them all."""
    lines = [*plan_lines(of_accounts(5), cloud=WORLDWIDE)]

    assert [f"{number}. " for number in range(1, 11)] == [
        line.partition(" ")[0] + " " for line in lines if line[:1].isdigit() and " yours" not in line
    ]


def test_what_is_yours_and_what_to_do_again_is_told_in_spans() -> None:
    """Fifty numbers in a row say no more than the first and the last."""
    made = of_accounts(20)

    assert yours(made, made.by_hand) == "20 steps are yours, by hand: 1 to 20"
    [again] = once_more(made, {*range(21, 41)})
    assert "do steps 21 to 40 again" in again


@pytest.mark.parametrize(
    ("numbers", "told"),
    [([], ""), ([3], "3"), ([1, 2], "1, 2"), ([1, 2, 3], "1 to 3"), ([1, 3, 4, 5, 7, 8], "1, 3 to 5, 7, 8")],
)
def test_numbers_that_follow_each_other_are_told_as_a_span(numbers: list[int], told: str) -> None:
    """From three on."""
    assert spans(numbers) == told
