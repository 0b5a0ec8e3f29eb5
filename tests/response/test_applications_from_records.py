"""Plans of records about applications, services and parts of alerts: what is shut, and what is left alone."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from expand import written
from promises import guarantee

from detected import detect, plan_from, plan_of, rules_of, steps, titles
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.store.detection_store import DetectionState
from records_scene import ADMIN, APP, BEA, EVE, OTHER, SITE, removals, role


def test_an_application_that_one_person_let_in_loses_what_that_person_gave(tmp_path: Path) -> None:
    """Five hundred others may rightly use it."""
    consent = {
        "shape": "app_directory",
        "Operation": "Consent to application.",
        "UserId": EVE,
        "ModifiedProperties": {
            "ConsentContext.IsAdminConsent": ["False", ""],
            "ConsentAction.Permissions": ["[] => [[Id: x, ConsentType: Principal, Scope: Mail.Read]]", ""],
        },
    }
    plan = plan_from(tmp_path, "o01_user_consents_to_mail_or_files", consent)

    assert titles(plan, "remove_user_consent") == [f"Withdraw what {EVE} let the application {APP} do"]
    [removal] = removals(plan, "remove_user_consent")
    assert removal.wanted_of_subject == (("principalId", "id"),)
    assert not removal.takes_all
    assert all(step.asks_always for step in steps(plan, "disable_application"))


def test_a_bad_application_is_found_where_its_consent_names_it(tmp_path: Path) -> None:
    """Records of the directory have it in ObjectId, or in the properties of what was granted."""
    bad = "ff8d92dc-3d82-41d6-bcbd-b9174d163620"
    granted = {
        "shape": "app_directory",
        "Operation": "Add delegated permission grant.",
        "UserId": EVE,
        "ObjectId": "00000003-0000-0000-c000-000000000000",
        "ModifiedProperties": {"ServicePrincipal.AppId": [bad, ""]},
    }
    plan = plan_from(tmp_path, "o06_bad_application", granted)

    assert titles(plan, "disable_application") == [f"Disable the application {bad}"]


def test_the_applications_of_a_burst_are_disabled(tmp_path: Path) -> None:
    """Each of the four that were made."""
    made = {"shape": "app_directory", "ObjectId": "a62919b8-0000-4b3f-ab2a-00000000000{n}"}
    plan = plan_from(tmp_path, "o05_burst_of_applications", {"repeat": 4, "every": "2m", "record": made})

    assert titles(plan, "disable_application") == [
        f"Disable the application a62919b8-0000-4b3f-ab2a-00000000000{n}" for n in range(1, 5)
    ]


def test_services_are_no_accounts(tmp_path: Path) -> None:
    """A reset of one's own password is the deed of a service, which no directory knows."""
    service = "fim_password_service@support.onmicrosoft.com"
    plan = plan_from(
        tmp_path,
        "devo_password_reset",
        {"shape": "directory", "Operation": "Reset user password.", "UserId": service},
    )

    assert [step.title for step in plan.steps if service in step.title] == []
    assert [step.title for step in plan.steps if BEA in step.title] != []


@guarantee(39)
def test_what_carries_the_directory_over_is_not_locked_out_unasked(tmp_path: Path) -> None:
    """Without it nothing is synchronised any more; whoever has its secret has the server."""
    bridge = "Sync_DC1_0123456789ab@contoso.onmicrosoft.com"
    plan = plan_from(tmp_path, "i16_privileged_role", role(BEA) | {"UserId": bridge})

    told = [step for step in plan.steps if bridge in step.title]
    assert [step.title for step in told] == [
        f"Disable the account {bridge} (who did it), unless it carries your directory",
        f"End all sessions of {bridge} (who did it), unless it carries your directory",
    ]
    assert all(step.asks_always for step in told)


def test_the_door_is_shut_first(tmp_path: Path) -> None:
    """Who sees the role vanish while the session lives takes another."""
    plan = plan_from(tmp_path, "i16_privileged_role", role(BEA))

    assert list(dict.fromkeys(step.word for step in plan.steps)) == [
        "disable_account",
        "revoke_sessions",
        "remove_role",
    ]


def test_an_account_is_in_the_plan_however_much_was_opened(tmp_path: Path) -> None:
    """A hundred links are no reason to let the intruder stay."""
    link = {
        "shape": "sharing",
        "Operation": "AnonymousLinkCreated",
        "ObjectId": f"{SITE}/a/Documents/{{n}}.docx",
        "SourceFileName": "{n}.docx",
    }
    plan = plan_from(tmp_path, "s01_many_anonymous_links", {"repeat": 120, "every": "1s", "record": link})

    assert len(titles(plan, "revoke_sessions")) == 1
    assert any("more steps (disable anonymous link)" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("named", "removal"),
    [
        (
            {"ObjectId": "Mailbox Import Export-x", "Name": "x's export"},
            "$remove 'x''s export' -Confirm:$false",
        ),
        (
            {"ObjectId": "Mailbox Import Export-x"},
            "# if that is the one made then: $remove 'Mailbox Import Export-x' -Confirm:$false",
        ),
        (
            {"ObjectId": ""},
            "# the one made then, by its name: $remove NAME -Confirm:$false",
        ),
    ],
)
def test_of_the_roles_of_exchange_only_what_was_given_is_taken(
    tmp_path: Path, named: dict[str, str], removal: str
) -> None:
    """Organization Management has the same by right, and what comes by a role group all its members have."""
    given = {"Role": "Mailbox Import Export", "SecurityGroup": "Organization Management"}
    plan = plan_from(
        tmp_path,
        "b10_powerful_exchange_role",
        {
            "shape": "cmdlet",
            "Operation": "New-ManagementRoleAssignment",
            "ObjectId": named["ObjectId"],
            "Parameters": given | {key: value for key, value in named.items() if key == "Name"},
        },
    )

    [step] = steps(plan, "remove_role")
    look, *removals_told = step.powershell
    assert "-AssignmentMethod Direct | Format-List Name,Guid," in look
    assert removals_told == [removal.replace("$remove", "Remove-ManagementRoleAssignment -Identity")]


def credential(app: str, *, after: str = "1s", user: str = ADMIN) -> dict[str, Any]:
    """A record of an application that gets a secret."""
    return {
        "shape": "app_directory",
        "after": after,
        "Operation": "Update application \u2013 Certificates and secrets management ",
        "ObjectId": f"Application_{app}",
        "UserId": user,
        "ExtendedProperties": {"additionalDetails": json.dumps({"AppId": app})},
        "ModifiedProperties": {"KeyDescription": ['["[KeyIdentifier=a,KeyType=Password]"]', "[]"]},
    }


BEFORE = {
    "repeat": 15,
    "every": "1d",
    "record": {"shape": "mail_read", "ClientAppId": "5b6e7f80-0000-4a11-9c22-00000000aaaa"},
}
"""What has always read mail."""


def reads(app: str) -> dict[str, Any]:
    """A record of an application that reads mail."""
    return {"shape": "mail_read", "after": "2h", "ClientAppId": app}


def test_an_alert_takes_of_its_parts_what_is_about_the_same(tmp_path: Path) -> None:
    """The administrator has renewed another application's secret that day, as every month."""
    plan = plan_from(
        tmp_path,
        "c02_application_granted_then_reads_mail",
        BEFORE,
        credential(OTHER),
        credential(APP),
        reads(APP),
    )

    assert titles(plan, "disable_application") == [f"Disable the application {APP}"]
    assert [step.title for step in plan.steps if OTHER in step.title] == []
    [secret] = titles(plan, "remove_credential")
    assert secret.endswith(": the record has a")


def test_what_somebody_closed_is_left_out_and_named(tmp_path: Path) -> None:
    """A rule of the owner's, which a colleague has looked at."""
    rules = rules_of("c02_application_granted_then_reads_mail")
    records = written([BEFORE, credential(APP), reads(APP)])
    kept = detect(tmp_path, records, rules)
    [whole] = [one for one in kept if one.alert.detection == "C02"]
    [part] = [one for one in kept if one.alert.detection == "O04"]
    closed = [
        replace(one, state=AlertState.CLOSED, reason="a rotation", changed_by="ann") for one in (whole, part)
    ]
    with closing(DetectionState(tmp_path / FILE_NAME)) as state, state.transaction():
        for one in closed:
            state.alerts.put(one)
    plan = plan_of(tmp_path, closed[0], rules)

    assert plan.notes[0] == "this alert was closed by ann: a rotation"
    assert plan.notes[1].startswith('left out: "Credential added to application or service principal"')
    assert titles(plan, "remove_credential") == []


def test_a_secret_of_microsoft_s_own_application_can_be_taken_away(tmp_path: Path) -> None:
    """Who gives Exchange's own service principal a secret reads all mail; nothing else of it is touched."""
    exchange = "00000002-0000-0ff1-ce00-000000000000"
    plan = plan_from(tmp_path, "o04_credential_added", credential(exchange))

    [removal] = removals(plan, "remove_credential")
    assert removal.listed == f"/servicePrincipals(appId='{exchange}')/passwordCredentials"
    assert titles(plan, "disable_application") == [
        f"Leave the application {exchange} alone: it is Microsoft's own"
    ]


def added(*keys: str) -> dict[str, Any]:
    """A record of an application that gets these credentials."""
    told = ",".join(f'"[{key}]"' for key in keys)
    return credential(APP) | {"ModifiedProperties": {"KeyDescription": [f"[{told}]", "[]"]}}


SECRET = "KeyIdentifier=1ba44659-0000-4c1d-9a3e-000000000001,KeyType=Password,KeyUsage=Verify"
CERTIFICATE = "KeyIdentifier=k9,KeyType=AsymmetricX509Cert,KeyUsage=Verify,DisplayName=CN=x]KeyType=Password"


def test_a_certificate_that_was_added_is_by_hand_and_counted(tmp_path: Path) -> None:
    """Where the application has no secrets it was "already so", and where it has, the owner's was offered."""
    plan = plan_from(tmp_path, "o04_credential_added", added(CERTIFICATE))

    [step] = steps(plan, "remove_credential")
    assert step.title == (
        f'Remove what was added to the application {APP} ("Mail Insights") and is no secret:'
        " k9 (AsymmetricX509Cert)"
    )
    assert step.is_by_hand
    assert plan.steps.index(step) + 1 in plan.by_hand


def test_a_secret_is_named_by_the_key_id_of_the_record_and_its_application(tmp_path: Path) -> None:
    """A person was asked to guess, and removing the wrong one cannot be undone."""
    secret, certificate = steps(
        plan_from(tmp_path, "o04_credential_added", added(SECRET, CERTIFICATE)), "remove_credential"
    )

    assert secret.title == (
        f'Remove credentials of the application {APP} ("Mail Insights") that are not its owner\'s:'
        " the record has 1ba44659-0000-4c1d-9a3e-000000000001"
    )
    assert secret.operations
    assert certificate.is_by_hand


def test_of_a_key_that_is_not_known_whole_a_secret_may_be_among_the_rest(tmp_path: Path) -> None:
    """What an alert keeps of a field is bounded."""
    many = [f"KeyIdentifier=k{number},KeyType=AsymmetricX509Cert" for number in range(200)]
    found = steps(plan_from(tmp_path, "o04_credential_added", added(*many)), "remove_credential")

    assert [step.is_by_hand for step in found] == [False, True]
    assert found[1].title.endswith(" (AsymmetricX509Cert), and more, which its record has")
