"""Steps that are for everybody: what lets in, or keeps out, more than one person."""

from __future__ import annotations

import pytest

from m365watch.response.steps.step import Step
from plan_scene import one_record

CALENDAR = r"ann@contoso.example:\Calendar"


def step_of(word: str, **fields: str) -> Step:
    """The only step for a record with these fields."""
    [step] = one_record(word, fields)
    return step


@pytest.mark.parametrize(
    ("address", "command"),
    [
        (
            "203.0.113.66",
            "Set-HostedConnectionFilterPolicy -Identity Default -IPBlockList @{Add = '203.0.113.66'}",
        ),
        ("2001:db8::66", "New-TenantAllowBlockListItems -ListType IP -Block -Entries '2001:db8::66'"),
    ],
)
def test_a_mail_server_is_blocked_where_its_kind_of_address_can_be(address: str, command: str) -> None:
    """The one list takes no IPv6, and the other nothing else."""
    step = step_of("block_indicator", **{"Operation": "TIMailData", "m365.indicator": address})

    assert step.powershell == (command,)


@pytest.mark.parametrize(("holder", "is_told"), [("Default", True), ("Anonymous", False)])
def test_a_calendar_goes_back_to_what_everybody_sees_of_it(holder: str, is_told: bool) -> None:
    """With None for Default nobody of the house sees any more when its owner is free."""
    [step] = one_record(
        "remove_mailbox_permission",
        {
            "Operation": "Set-MailboxFolderPermission",
            "Parameters.Identity": CALENDAR,
            "Parameters.User": holder,
        },
        mailbox="ann@contoso.example",
    )

    assert any("AvailabilityOnly" in note for note in step.notes) is is_told
