"""Plans for records as they come over the wire: what of the owner's, or of other people's, stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detected import plan_from, steps, titles
from m365watch.response.steps.step import Step
from records_scene import ADMIN, EVE, SITE

ONEDRIVE = "https://contoso-my.sharepoint.example/personal/ada_contoso_example"
ADA = "ada@contoso.example"


def administers(site: str, who: str) -> dict[str, Any]:
    """A record of a site that got an administrator."""
    return {
        "shape": "file",
        "Operation": "SiteCollectionAdminAdded",
        "UserId": ADMIN,
        "ObjectId": site,
        "TargetUserOrGroupName": who,
    }


def commands(step: Step) -> list[str]:
    """What changes something unless somebody looks first."""
    return [one for one in step.powershell if not one.startswith(("#", "Get-"))]


@pytest.mark.parametrize("who", [ADA, EVE, f"i:0#.f|membership|{ADA}"])
def test_a_onedrive_is_not_taken_from_whom_it_belongs_to(tmp_path: Path, who: str) -> None:
    """Its owner is one of its administrators; whose it is the site itself knows, and its address nearly."""
    [step] = steps(
        plan_from(tmp_path, "s06_site_admin_added", administers(ONEDRIVE, who)), "remove_site_admin"
    )

    assert step.title == f"Make {who} administrator of {ONEDRIVE} no more, unless it is their own OneDrive"
    assert step.powershell[0] == f"Get-SPOSite -Identity '{ONEDRIVE}' | Format-List Owner"
    assert step.powershell[1].startswith("# if that is somebody else: Set-SPOUser ")
    assert commands(step) == []


@pytest.mark.parametrize("named", ["Everyone except external users", "Finance"])
def test_who_signs_in_by_no_such_name_is_found_among_the_site_s_administrators(
    tmp_path: Path, named: str
) -> None:
    """A group's name is none: by it the command failed in the worst case."""
    [step] = steps(
        plan_from(tmp_path, "s06_site_admin_added", administers(f"{SITE}/a", named)), "remove_site_admin"
    )

    assert step.powershell[0].startswith(
        f"Get-SPOUser -Site '{SITE}/a' -Limit All | Where-Object IsSiteAdmin |"
    )
    assert step.powershell[1].endswith("-LoginName LOGIN -IsSiteCollectionAdmin $false")
    assert commands(step) == []


def writes(address: str) -> dict[str, Any]:
    """A record of a chat that a help desk of another tenant opened."""
    return {
        "shape": "teams",
        "UserId": address,
        "CommunicationType": "OneOnOne",
        "ParticipantInfo": {"HasForeignTenantUsers": True},
        "Members": [
            {
                "DisplayName": "Help Desk",
                "UPN": address,
                "OrganizationId": "11111111-2222-4333-8444-555555555555",
            },
            {"DisplayName": "Ada", "UPN": ADA, "OrganizationId": "6f1d2c3b-0a4e-4d55-9d3b-2f6a1b7c8d90"},
        ],
    }


@pytest.mark.parametrize(
    "domain", ["hotmail.de", "outlook.de", "yahoo.co.uk", "live.com.mx", "t-online.de", "gmail.com"]
)
def test_mail_for_everybody_is_not_shut_out(tmp_path: Path, domain: str) -> None:
    """Millions have an address there, customers among them; who wrote has to be looked at."""
    plan = plan_from(tmp_path, "t02_helpdesk_impersonation", writes(f"it.support@{domain}"))

    [step] = steps(plan, "block_external_user")
    assert step.title == f"See who wrote from {domain}, where anybody may have an address; shut out no domain"
    assert "BlockedDomains" not in " ".join(step.powershell)
    assert commands(step) == []


@pytest.mark.parametrize(
    "domain",
    ["rogue.example", "microsoft.com", "outlook-support.de", "live.support", "outlook.tk", "live.gd"],
)
def test_an_organisation_is_shut_out_after_a_look(tmp_path: Path, domain: str) -> None:
    """It may be a partner's, or Microsoft's own, and nobody of it gets in any more."""
    plan = plan_from(tmp_path, "t02_helpdesk_impersonation", writes(f"it.support@{domain}"))

    assert titles(plan, "block_external_user") == [f"Shut {domain} out of Teams"]
    assert commands(steps(plan, "block_external_user")[0]) == []
