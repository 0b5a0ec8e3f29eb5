"""What was changed is put back as it was: the plan says how that was, or where it can be found."""

from __future__ import annotations

import pytest

from m365watch.response.steps.step import Step
from planning import Record, cmdlet, steps_of
from test_setting_plans import directory

STATE = '{"displayName":"MFA","state":"%s","conditions":{"users":{"excludeUsers":[%s]}}}'


def told(*steps: Step) -> str:
    """All notes of the steps."""
    return " ".join(note for step in steps for note in step.notes)


def access(new: str, old: str, *, operation: str = "Update conditional access policy.") -> Record:
    """A policy of access changes."""
    return directory(operation, "Policy_57cf", ConditionalAccessPolicy=(new, old))


def test_a_policy_of_access_says_what_it_was() -> None:
    """Setting by setting, and nothing that stayed as it was."""
    changed = access(STATE % ("disabled", '"7c80"'), STATE % ("enabled", ""))
    [step] = steps_of("restore_policy", "I17", changed)

    before = "state was enabled; conditions.users.excludeUsers was empty."
    assert step.notes[0] == f"Before the change at 2026-11-02 09:00:00Z, by its record: {before}"


def test_a_setting_of_the_tenant_says_what_it_was() -> None:
    """As Entra writes it: a list in a text."""
    changed = directory(
        "Update authorization policy.",
        "AuthorizationPolicy_1",
        AllowUserConsentForRiskyApps=("[\r\n  true\r\n]", "[\r\n  false\r\n]"),
        AllowInvitesFrom=('["everyone"]', '["adminsAndGuestInviters"]'),
        **{"Included Updated Properties": ("AllowUserConsentForRiskyApps, AllowInvitesFrom", "")},
    )
    [step] = steps_of("restore_policy", "I19", changed)

    before = "AllowUserConsentForRiskyApps was false; AllowInvitesFrom was adminsAndGuestInviters."
    assert step.notes[0].endswith(f": {before}")


def test_a_policy_that_was_deleted_says_what_it_was_and_where_the_rest_is() -> None:
    """More than a line has room for: the record itself has all of it."""
    groups = ",".join(f'"{number:08d}-0000-4000-8000-000000000000"' for number in range(30))
    deleted = access("", STATE % ("enabled", groups), operation="Delete conditional access policy.")
    [step] = steps_of("restore_policy", "I17", deleted)

    assert "displayName was MFA; state was enabled; conditions.users.excludeUsers was 0000" in step.notes[0]
    assert step.notes[0].endswith("…; the rest: `m365watch alerts show --raw`.")


def test_two_changes_of_one_policy_are_one_step_that_tells_both() -> None:
    """The first of them is how it was."""
    first = access(STATE % ("disabled", ""), STATE % ("enabled", ""))
    second = access(STATE % ("disabled", '"7c80"'), STATE % ("disabled", ""))
    again = access(STATE % ("enabled", '"7c80"'), STATE % ("disabled", '"7c80"'))
    [step] = steps_of("restore_policy", "I17", first, second, again, first)

    assert [note for note in step.notes if note.startswith("Before")] == [
        "Before the change at 2026-11-02 09:00:00Z, by its record: state was enabled.",
        "Before the change at 2026-11-02 09:00:01Z, by its record: conditions.users.excludeUsers was empty.",
        "Before the change at 2026-11-02 09:00:02Z, by its record: state was disabled.",
    ]


def test_what_was_made_new_was_nothing_before() -> None:
    """It is removed, not put back."""
    made = access(STATE % ("enabled", ""), "", operation="Add conditional access policy.")
    [step] = steps_of("restore_policy", "I17", made)

    assert "Before" not in told(step)
    assert "before" not in told(step)


def test_a_setting_of_teams_says_what_it_was() -> None:
    """Its record has it beside the new one."""
    changed = {
        "Operation": "TeamsTenantSettingChanged",
        "RecordType": 25,
        "Workload": "MicrosoftTeams",
        "UserType": 2,
        "UserId": "adm@contoso.example",
        "Name": "Allow sideloading and interaction of custom apps",
        "NewValue": "True",
        "OldValue": "False",
    }
    [step] = steps_of("restore_policy", "T01", changed)

    assert step.notes[0].endswith(": Allow sideloading and interaction of custom apps was False.")


@pytest.mark.parametrize(
    ("word", "detection", "record", "where"),
    [
        (
            "restore_policy",
            "D04",
            cmdlet("Set-SafeLinksPolicy", of="Default", Identity="Default", EnableSafeLinksForEmail="False"),
            "the Configuration analyzer of Defender has it (Configuration drift analysis and history)",
        ),
        (
            "restore_policy",
            "D05",
            cmdlet("Set-ProtectionAlert", Identity="Forwarding", Disabled="True"),
            "Search the lake for earlier records of its name",
        ),
        (
            "remove_transport_rule",
            "B06",
            cmdlet("Set-TransportRule", of="Copy", Identity="Copy", BlindCopyTo="eve@rival.example"),
            "Search the lake for earlier records of its name",
        ),
        (
            "remove_connector",
            "B07",
            cmdlet("Set-OutboundConnector", of="Out", Identity="Out", SmartHosts="mx.rival.example"),
            "Search the lake for earlier records of its name",
        ),
        (
            "restore_policy",
            "I19",
            directory("Update policy.", "Policy_1", PolicyDetail=('["a"]', ""))
            | {"Target": [{"ID": "B2BManagementPolicy", "Type": 1}]},
            "Entra's audit log may have it (Modified properties)",
        ),
    ],
)
def test_what_the_record_does_not_tell_is_said_where_to_find(
    word: str, detection: str, record: Record, where: str
) -> None:
    """A record of a cmdlet has the new values alone."""
    steps = steps_of(word, detection, record)

    assert where in told(*steps)
    assert "Before the change" not in told(*steps)


def test_a_domain_that_trusts_another_issuer_says_which_it_was() -> None:
    """Whose it was before is what it has to be again."""
    changed = directory(
        "Set federation settings on domain.",
        "contoso.example",
        IssuerUri=('["http://evil.example/adfs"]', '["http://sts.contoso.example/adfs"]'),
    )
    [step] = steps_of("restore_federation", "I18", changed)

    assert step.notes[0].endswith("by its record: IssuerUri was http://sts.contoso.example/adfs.")
