"""Plans say to what PowerShell is connected first: each module of their lines, to the alert's tenant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts import ANN, APP, TENANT
from m365watch.cli.respond.plan_view import plan_document, plan_lines
from m365watch.config.models.clouds import CLOUDS
from m365watch.response.plans.powershell import connections, scopes_of
from plan_scene import FIELDS, FULL, plan

WORLDWIDE = CLOUDS["worldwide"]
PLANS = Path(__file__).parent / "plans"
_OF_GRAPH = re.compile(r"\b[A-Z][a-z]+-Mg([A-Z]\w*)")


def test_graph_is_connected_to_the_tenant_of_the_alert_with_what_the_lines_need() -> None:
    """A window that is open to another tenant has an account of that name, too."""
    made = plan("disable_account", "revoke_sessions", user=ANN)

    assert connections(made, cloud=WORLDWIDE) == (
        (
            f"Connect-MgGraph -TenantId '{TENANT}' -Scopes 'RoleManagement.Read.Directory',"
            "'User.EnableDisableAccount.All','User.Read.All','User.RevokeSessions.All'"
        ),
    )


def test_what_takes_somebody_out_of_a_group_that_may_hold_roles_is_asked_for() -> None:
    """The step's note names the permission, and whoever had signed in so was refused."""
    [line] = connections(plan("remove_group_member", fields=FIELDS, user=ANN), cloud=WORLDWIDE)

    assert "'RoleManagement.ReadWrite.Directory'" in line


@pytest.mark.parametrize(
    ("word", "begins"),
    [
        ("remove_inbox_rule", "Connect-ExchangeOnline -ShowBanner:$false; Get-ConnectionInformation"),
        ("remove_site_admin", "Connect-SPOService -Url https://YOURS-admin.sharepoint.com"),
        ("disable_flow", f"Add-PowerAppsAccount -TenantID '{TENANT}'"),
    ],
)
def test_each_module_is_connected_once(word: str, begins: str) -> None:
    """Before the first line that is of it."""
    made = plan(word, word, fields=FIELDS, **FULL)

    assert [one.startswith(begins) for one in connections(made, cloud=WORLDWIDE)].count(True) == 1


def test_a_name_in_a_record_connects_to_nothing() -> None:
    """What stands in quotes is a value."""
    made = plan("remove_role", user=ANN, grantee="Get-MgUser; Get-SPOSite")

    assert [one.partition(" ")[0] for one in connections(made, cloud=WORLDWIDE)] == ["Connect-ExchangeOnline"]


def test_a_plan_without_powershell_connects_to_nothing() -> None:
    """Nothing is said that nobody needs."""
    made = plan("Call the provider")

    assert connections(made, cloud=WORLDWIDE) == ()
    assert not any("PowerShell" in line for line in plan_lines(made, cloud=WORLDWIDE))


def test_the_lines_stand_at_the_head_of_the_plan_and_in_its_document() -> None:
    """Before the first step."""
    made = plan("disable_application", app=APP)
    lines = [*plan_lines(made, cloud=WORLDWIDE)]
    [first] = connections(made, cloud=WORLDWIDE)

    assert lines.index(f"     {first}") < next(n for n, one in enumerate(lines) if one.startswith("1. "))
    assert plan_document(made, cloud=WORLDWIDE)["powershell_first"] == [first]


def test_every_cmdlet_of_graph_in_the_plans_of_the_packs_has_its_permission() -> None:
    """Without its scope a command ends in 403 at night."""
    nouns = {
        noun
        for page in PLANS.glob("*.txt")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("    > ")
        for noun in _OF_GRAPH.findall(line)
    }

    assert len(nouns) > 20
    assert sorted(one for one in nouns if not scopes_of(one)) == []


@pytest.mark.parametrize(
    ("operation", "first"),
    [("Set-ProtectionAlert", "Connect-IPPSSession"), ("Set-RemoteDomain", "Connect-ExchangeOnline")],
)
def test_what_is_of_compliance_is_looked_at_there(operation: str, first: str) -> None:
    """Exchange's own session does not know its cmdlets."""
    fields = {"Operation": operation, "ModifiedProperties.DisplayName.new": "Strict"}
    made = plan("restore_policy", fields=fields, user=ANN)

    [line] = connections(made, cloud=WORLDWIDE)
    assert line.startswith(f"{first} ")
    assert line.endswith(f"# go on only if it is {TENANT}")


def test_what_looks_at_the_audit_log_asks_exchange_last_connected() -> None:
    """In the other session it says that the log is off, whatever it is, and the last one answers."""
    fields = {"Operation": "Set-UnifiedAuditLogRetentionPolicy", "Parameters.Identity": "Long"}
    made = plan("restore_policy", "restore_audit", "remove_mail", fields=fields | FIELDS, **FULL)

    assert [one.partition(" ")[0] for one in connections(made, cloud=WORLDWIDE)][-3:] == [
        "Connect-IPPSSession",
        "Connect-IPPSSession",
        "Connect-ExchangeOnline",
    ]
    assert not any("Connect-IPPS" in line for step in made.steps for line in step.powershell)
    [looks] = [
        step for step in made.steps if any("Get-AdminAuditLogConfig" in one for one in step.powershell)
    ]
    assert any("always False" in note for note in looks.notes)


def test_who_purges_mail_sees_first_in_which_tenant() -> None:
    """The line that connected said nothing of it, and a purge is no small thing."""
    [line] = connections(plan("remove_mail", fields=FIELDS, **FULL), cloud=WORLDWIDE)

    assert line.startswith("Connect-IPPSSession -EnableSearchOnlySession -ShowBanner:$false; Get-Connection")
    assert line.endswith(f"# go on only if it is {TENANT}")
