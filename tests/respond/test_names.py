"""What a record calls a thing is what the plan acts on: a name that is told otherwise is in no command."""

from __future__ import annotations

import pytest

from alerts import ANN
from m365watch.respond.steps import Remove
from planning import cmdlet, steps_of

THIEF = "thief@mail.example.net"


@pytest.mark.parametrize(
    "name",
    [
        *("Newsletter\u200b", "Newsletter\u00a0", " Newsletter", "Newsletter ", "News\nletter"),
        *('["Newsletter"]', '"Newsletter"', "Newsletter" + " x" * 150),
    ],
)
def test_a_rule_is_never_taken_for_another_of_a_like_name(name: str) -> None:
    """An intruder calls a rule as the owner's is called, but for what nobody sees: the owner's stays."""
    [step] = steps_of(
        "remove_inbox_rule", "B01", cmdlet("New-InboxRule", by=ANN, of=r"ann\x", Name=name, ForwardTo=THIEF)
    )
    wanted = [value for one in step.operations if isinstance(one, Remove) for _, value in one.wanted]

    assert wanted == ([name] if name.startswith(("[", '"')) else [])
    assert not any(line.endswith("-Identity 'Newsletter' -Confirm:$false") for line in step.powershell)


def test_an_account_is_never_taken_for_another_of_a_like_name() -> None:
    """A name with a character that is not shown is nobody whom Graph knows."""
    [step] = steps_of(
        "revoke_sessions",
        "B01",
        cmdlet("New-InboxRule", by="ann\u200b@contoso.example", of=r"ann\x", Name="x", ForwardTo=THIEF),
    )

    assert (step.operations, step.powershell) == ((), ())
