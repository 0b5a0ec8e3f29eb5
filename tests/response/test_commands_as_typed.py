"""PowerShell of plans as it is typed in: what a look-up that finds nothing leaves the lines after it."""

from __future__ import annotations

import re

import pytest

from alerts import ANN, APP
from plan_scene import plan

_KEPT = re.compile(r"(\$[a-z]+) = (?!\$)")
_APPS = ("remove_oauth_grant", "remove_user_consent", "disable_application", "remove_credential")


def test_a_consent_is_withdrawn_by_its_kind_and_not_by_the_person_alone() -> None:
    """Where the look-up of the person fails, what an administrator let it do for all has no person either."""
    [step] = plan("remove_user_consent", user=ANN, app=APP).steps

    assert step.powershell[-1] == (
        "Get-MgServicePrincipalOauth2PermissionGrant -ServicePrincipalId $app.Id -All"
        " | Where-Object { $_.ConsentType -eq 'Principal' -and $_.PrincipalId -eq $user.Id }"
        " | ForEach-Object { Remove-MgOauth2PermissionGrant -OAuth2PermissionGrantId $_.Id }"
    )


@pytest.mark.parametrize(
    "word", [*_APPS, "remove_owner", "remove_role", "remove_group_member", "reset_password"]
)
@pytest.mark.parametrize("app", [APP, f"Application_{APP}", f"ServicePrincipal_{APP}"])
def test_no_line_finds_what_an_earlier_step_looked_up(word: str, app: str) -> None:
    """A command that fails leaves a variable as it was: the next line would be done to another."""
    steps = plan(word, user=ANN, app=app).steps
    lines = [part for step in steps for line in step.powershell for part in line.split("; ")]
    kept = [(number, found[1]) for number, line in enumerate(lines) if (found := _KEPT.match(line))]

    assert kept
    assert [name for number, name in kept if f"{name} = $null" not in lines[:number][-2:]] == []


def test_a_password_is_asked_for_in_every_powershell_and_set_only_where_one_was_given() -> None:
    """-MaskInput is not known before PowerShell 7; without a password only its change would be asked for.

    In one line: of two that are pasted together the second one was read as the password.
    """
    [step] = plan("reset_password", user=ANN).steps

    assert step.powershell == (
        (
            "$password = $null; $password = [Net.NetworkCredential]::new('', (Read-Host 'New password'"
            " -AsSecureString)).Password; "
            f"if ($password) {{ Update-MgUser -UserId '{ANN}' -PasswordProfile"
            " @{Password = $password; ForceChangePasswordNextSignIn = $true} }; $password = $null"
        ),
    )
