"""Certificates that were added: a page has those of a registration, and none those of a service principal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detected import plan_from, steps
from m365watch.response.steps.step import Step
from records_scene import APP

KEY = '["[KeyIdentifier=k9,KeyType=AsymmetricX509Cert,KeyUsage=Verify]"]'
EXCHANGE = "00000002-0000-0ff1-ce00-000000000000"
PORTAL = "App registrations, the application, Certificates & secrets"
ALL_BUT_ONE = (
    "# with the KeyId of the one that has to go in place of KEY: if ($keys) { Update-MgServicePrincipal"
    " -ServicePrincipalId $app.Id -KeyCredentials @($keys | Where-Object KeyId -ne 'KEY') }"
)


def gained(operation: str, *, of: str = APP, key: str = KEY) -> dict[str, Any]:
    """A record of an application that got a credential."""
    return {
        "shape": "app_directory",
        "Operation": operation,
        "ObjectId": of,
        "ModifiedProperties": {"KeyDescription": [key, "[]"]} if key else {},
    }


def step_of(tmp_path: Path, record: dict[str, Any]) -> Step:
    """The only step on credentials of the plan for it."""
    [step] = steps(plan_from(tmp_path, "o04_credential_added", record), "remove_credential")
    return step


@pytest.mark.parametrize("operation", ["Update service principal.", "Add service principal credentials."])
def test_no_page_is_named_for_a_certificate_of_a_service_principal(tmp_path: Path, operation: str) -> None:
    """Whoever was sent to the registration's page saw nothing there, and took it for gone."""
    step = step_of(tmp_path, gained(operation))

    assert step.is_by_hand
    assert not any(PORTAL in note for note in step.notes)
    assert any("no page of Entra shows it" in note for note in step.notes)
    assert not any("$registration" in line for line in step.powershell)


def test_a_certificate_of_a_service_principal_is_removed_by_what_is_kept(tmp_path: Path) -> None:
    """Graph replaces all of them, and has what is in one for whoever asks for that alone.

    Where they could not be read, an empty list would have taken the place of all.
    """
    step = step_of(tmp_path, gained("Update service principal."))

    assert step.powershell == (
        f"$app = $null; $app = Get-MgServicePrincipalByAppId -AppId '{APP}'",
        (
            "$keys = $null; $keys = (Get-MgServicePrincipal -ServicePrincipalId $app.Id"
            " -Property KeyCredentials).KeyCredentials"
        ),
        "$keys | Format-List KeyId,DisplayName,Type,Usage,StartDateTime,EndDateTime",
        ALL_BUT_ONE,
    )


def test_a_certificate_of_a_registration_is_removed_on_its_page(tmp_path: Path) -> None:
    """There it is shown, and nothing of the service principal has to be touched."""
    step = step_of(tmp_path, gained("Update application \u2013 Certificates and secrets management "))

    assert any(PORTAL in note for note in step.notes)
    assert not any("service principal" in note for note in step.notes)
    assert not any("Update-MgServicePrincipal" in line for line in step.powershell)


def test_microsoft_s_own_have_no_page_of_a_registration_here(tmp_path: Path) -> None:
    """They are registered with Microsoft."""
    step = step_of(tmp_path, gained("Update service principal.", of=EXCHANGE))

    assert ALL_BUT_ONE in step.powershell
    assert not any(PORTAL in note for note in step.notes)


def test_where_the_record_does_not_tell_what_was_added_both_can_be_removed(tmp_path: Path) -> None:
    """A record of that operation has often no key at all; a certificate is as likely as a secret."""
    step = step_of(tmp_path, gained("Add service principal credentials.", key=""))

    assert "Remove-MgServicePrincipalPassword -ServicePrincipalId $app.Id -KeyId KEY" in step.powershell
    assert ALL_BUT_ONE in step.powershell


def test_every_secret_is_shown_however_many_there_are(tmp_path: Path) -> None:
    """A list within a list ends after four of them: the intruder's was not to be seen."""
    step = step_of(
        tmp_path, gained("Update service principal.", key=KEY.replace("AsymmetricX509Cert", "Password"))
    )

    for variable in ("$registration", "$app"):
        columns = "KeyId,DisplayName,Hint,StartDateTime,EndDateTime"
        assert f"{variable}.PasswordCredentials | Format-List {columns}" in step.powershell
    assert not any(",PasswordCredentials" in line for line in step.powershell)
