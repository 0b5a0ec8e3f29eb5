"""In a cloud of its own, each module is told where it is: else it signs in where the tenant is unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts import ANN, TENANT
from m365watch.cli.respond.plan_view import plan_document, plan_lines
from m365watch.config.models.clouds import CLOUDS, Cloud
from m365watch.response.plans.powershell import connections
from plan_scene import FIELDS, FULL, plan

US = "-AzureADAuthorizationEndpointUri https://login.microsoftonline.us/common"
COMPLIANCE = {"Operation": "Set-ProtectionAlert", "ModifiedProperties.DisplayName.new": "Strict"}
OPTIONS = {
    "Connect-MgGraph": ("", "", " -Environment USGov", " -Environment USGovDoD", " -Environment China"),
    "Connect-ExchangeOnline": (
        "",
        "",
        " -ExchangeEnvironmentName O365USGovGCCHigh",
        " -ExchangeEnvironmentName O365USGovDoD",
        " -ExchangeEnvironmentName O365China",
    ),
    "Connect-IPPSSession": (
        "",
        "",
        f" -ConnectionUri https://ps.compliance.protection.office365.us/powershell-liveid/ {US}",
        f" -ConnectionUri https://l5.ps.compliance.protection.office365.us/powershell-liveid/ {US}",
        (
            " -ConnectionUri https://ps.compliance.protection.partner.outlook.cn/powershell-liveid"
            " -AzureADAuthorizationEndpointUri https://login.chinacloudapi.cn/common"
        ),
    ),
    "Connect-SPOService": (
        " -Url https://YOURS-admin.sharepoint.com",
        " -Url https://YOURS-admin.sharepoint.com",
        " -Region ITAR -Url https://YOURS-admin.sharepoint.us",
        " -Region ITAR -Url https://YOURS-admin.sharepoint-mil.us",
        " -Region China -Url https://YOURS-admin.sharepoint.cn",
    ),
    "Connect-MicrosoftTeams": (
        "",
        "",
        " -TeamsEnvironmentName TeamsGCCH",
        " -TeamsEnvironmentName TeamsDOD",
        " -TeamsEnvironmentName TeamsChina",
    ),
    "Add-PowerAppsAccount": (
        "",
        " -Endpoint usgov",
        " -Endpoint usgovhigh",
        " -Endpoint dod",
        " -Endpoint china",
    ),
}
"""What each is told, in the clouds in their order: of GCC most modules know nothing, and need not."""
AFTER = {
    "Connect-MgGraph": f" -TenantId '{TENANT}'",
    "Connect-ExchangeOnline": " -ShowBanner:$false;",
    "Connect-IPPSSession": " -ShowBanner:$false;",
    "Connect-SPOService": "",
    "Connect-MicrosoftTeams": f" -TenantId '{TENANT}'",
    "Add-PowerAppsAccount": f" -TenantID '{TENANT}'",
}
PNP = (
    "",
    " -AzureEnvironment USGovernment",
    " -AzureEnvironment USGovernmentHigh",
    " -AzureEnvironment USGovernmentDoD",
    " -AzureEnvironment China",
)


def lines_in(cloud: Cloud) -> list[str]:
    """The lines that connect all modules."""
    teams = {"Operation": "Set-CsTeamsClientConfiguration"}
    plans = [
        plan("remove_inbox_rule", "remove_site_admin", "disable_flow", fields=FIELDS, **FULL),
        plan("restore_policy", fields=COMPLIANCE, user=ANN),
        plan("restore_policy", fields=teams, user=ANN),
    ]
    return [line for one in plans for line in connections(one, cloud=cloud)]


@pytest.mark.parametrize("module", OPTIONS)
@pytest.mark.parametrize(("place", "name"), [*enumerate(CLOUDS)])
def test_each_module_is_told_which_cloud_it_is(place: int, name: str, module: str) -> None:
    """As its reference calls it."""
    [line] = [one for one in lines_in(CLOUDS[name]) if one.startswith(f"{module} ")]

    end = AFTER[module]
    assert line.startswith(f"{module}{OPTIONS[module][place]}{end}")
    assert end or line == f"{module}{OPTIONS[module][place]}"


@pytest.mark.parametrize(("place", "name"), [*enumerate(CLOUDS)])
def test_a_search_for_mail_is_told_which_cloud_it_is(place: int, name: str) -> None:
    """It has a line of its own."""
    [line] = connections(plan("remove_mail", fields=FIELDS, **FULL), cloud=CLOUDS[name])

    searched = f"Connect-IPPSSession -EnableSearchOnlySession{OPTIONS['Connect-IPPSSession'][place]}"
    assert line.startswith(f"{searched} -ShowBanner")


@pytest.mark.parametrize(("place", "name"), [*enumerate(CLOUDS)])
def test_a_step_that_connects_by_itself_says_which_cloud_it_is(place: int, name: str) -> None:
    """Of a site: on paper and in the document."""
    made = plan("restore_files", fields=FIELDS, **FULL)
    printed = [line.strip() for line in plan_lines(made, cloud=CLOUDS[name])]
    document = plan_document(made, cloud=CLOUDS[name])
    told = [line for step in document["steps"] for line in step["powershell"]]

    site = f"Connect-PnPOnline -Url '{FULL['site']}' -Interactive -ClientId CLIENT{PNP[place]}"
    assert site in printed
    assert site in told


def test_a_cloud_that_has_another_name_here_is_known_by_its_graph() -> None:
    """Whoever gives the hosts one by one is in no other cloud for it."""
    own = replace(CLOUDS["dod"], name="custom")

    assert lines_in(own) == lines_in(CLOUDS["dod"])
    assert lines_in(replace(own, graph_url="https://graph.example")) == lines_in(CLOUDS["worldwide"])
