"""Plans ask before they act: what the rule asks, whether it was work, and how a policy is by now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts import ANN, make_alert
from m365watch.cli.respond.plan_view import plan_document, plan_lines
from m365watch.config.models.clouds import CLOUDS
from m365watch.response.plans.planner import plan_response
from plan_scene import EVE, one_record, plan
from planning import cmdlet, steps_of

WORLDWIDE = CLOUDS["worldwide"]


def test_what_the_rule_asks_stands_above_the_steps() -> None:
    """A plan began with the disabling of whoever was at work, and what to ask stood elsewhere."""
    asked = ("Did Ann do it?", "Is there a change request?")
    made = plan_response(replace(make_alert("disable_account", user=ANN), check=asked))
    lines = [*plan_lines(made, cloud=WORLDWIDE)]

    first = next(number for number, one in enumerate(lines) if one.startswith("1. "))
    told = [one for one in lines[:first] if one.startswith("see first: ")]
    assert told == [f"see first: {one}" for one in asked]
    assert plan_document(made, cloud=WORLDWIDE)["see_first"] == list(asked)


def test_who_did_it_is_asked_before_being_locked_out() -> None:
    """An administrator at work makes the same record; who it was done to is not asked that."""
    notes = {one.title: one.notes for one in plan("disable_account", user=ANN, actor=EVE).steps}

    assert notes[f"Disable the account {EVE} (who did it)"][0].startswith("Ask first whether they did it")
    assert not any(note.startswith("Ask first") for note in notes[f"Disable the account {ANN}"])


@pytest.mark.parametrize(
    ("operation", "look"),
    [
        (
            "Update conditional access policy.",
            (
                "Get-MgIdentityConditionalAccessPolicy -All | Where-Object DisplayName -eq 'Strict'"
                " | ConvertTo-Json -Depth 10"
            ),
        ),
        ("Update policy.", "# the policy: 'Strict'"),
        ("Delete conditional access policy.", "# the policy: 'Strict'"),
        (
            "Set-AntiPhishPolicy",
            (
                "Get-AntiPhishPolicy | Where-Object { $_.Name -eq 'Strict' -or $_.Identity -eq 'Strict' }"
                " | Format-List"
            ),
        ),
        ("Set-X; Remove-Mailbox y", "# the policy: 'Strict'"),
    ],
)
def test_a_policy_is_shown_as_it_is_by_now(operation: str, look: str) -> None:
    """By the command that shows it, where there is one, and by nothing else that a record says.

    What Entra has in parts of parts, Format-List showed by the names of their types.
    """
    fields = {"Operation": operation, "ModifiedProperties.DisplayName.new": "Strict"}
    [step] = one_record("restore_policy", fields)

    assert step.powershell == (look,)
    assert "alerts show --raw" in step.notes[-1]


def test_what_goes_with_a_rule_of_the_inbox_is_said() -> None:
    """Exchange removes what Outlook itself carries out, whoever made it."""
    record = cmdlet("New-InboxRule", by=ANN, Name="..", ForwardTo="x@evil.example")
    steps = steps_of("remove_inbox_rule", "B01", record)

    assert steps
    assert all(any("Remove-InboxRule takes the rules" in note for note in one.notes) for one in steps)
