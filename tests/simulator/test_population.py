"""Graph finds the accounts of the simulated tenant, and what its attacks have left behind."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from m365watch.common.clock import SystemClock
from m365watch_simulator.feed.refusals import Refusal
from m365watch_simulator.graph.directory import ROLES, SimulatedDirectory, groups_of, owners_of
from m365watch_simulator.graph.population import populate
from m365watch_simulator.organization.organization import Organisation
from m365watch_simulator.organization.shapes.directory import application_target
from m365watch_simulator.service.server import SimulationSettings, simulator_running

ANN, EVE = "ann@contoso.example", "eve@contoso.example"
RULES = f"/users/{ANN}/mailFolders/inbox/messageRules"
LINK = "https://contoso.example/plan.docx"
APP = "0b7c0001-2222-4333-8444-555566667777"
PERMISSIONS = "[] => [[ConsentType: Principal, Scope: Mail.Read offline_access, CreatedDateTime: ]]"
RECORDS: list[dict[str, Any]] = [
    {
        "Operation": "New-InboxRule",
        "UserId": ANN,
        "Parameters": [{"Name": "Name", "Value": "."}, {"Name": "ForwardTo", "Value": "x@mail.example"}],
    },
    {
        "Operation": "Consent to application.",
        "UserId": ANN,
        "ObjectId": APP,
        "ModifiedProperties": [{"Name": "ConsentAction.Permissions", "NewValue": PERMISSIONS}],
    },
    {
        "Operation": "Add member to role.",
        "ObjectId": EVE,
        "ModifiedProperties": [
            {"Name": "Role.TemplateId", "NewValue": "62e9"},
            {"Name": "Role.DisplayName", "NewValue": "Owner"},
        ],
    },
    {"Operation": "AnonymousLinkCreated", "ObjectId": LINK, "EventData": "<Type>Edit</Type>"},
    {"Operation": "MailItemsAccessed"},
]


def read(directory: SimulatedDirectory, path: str, **query: str) -> list[dict[str, Any]]:
    """What a list has."""
    found = directory.answer("GET", path, query, {})
    assert found is not None
    return list(found["value"])


def test_what_an_attack_made_is_there_until_it_is_taken_away() -> None:
    """Rule, grant, role and link, each where Graph lists it; and the accounts they need."""
    directory = SimulatedDirectory()
    populate(directory, [ANN], [json.dumps(record).encode() for record in RECORDS])
    own = f"/servicePrincipals(appId='{APP}')/oauth2PermissionGrants"

    [rule] = read(directory, RULES)
    [grant] = read(directory, own)
    [role] = read(directory, "/roleManagement/directory/roleAssignments")
    [shared] = directory.shared.values()
    [link] = read(directory, f"/drives/b!1/items/{shared['id']}/permissions")

    assert rule["actions"]["forwardTo"] == [{"emailAddress": {"address": "x@mail.example"}}]
    assert (grant["scope"], grant["principalId"]) == ("Mail.Read offline_access", directory.users[ANN]["id"])
    assert role["principalId"] == directory.users[EVE]["id"]
    assert link["link"] == {"scope": "anonymous", "type": "edit"}
    directory.answer("DELETE", f"/oauth2PermissionGrants/{grant['id']}", {}, {})
    assert read(directory, own) == []


def test_the_simulated_tenant_has_its_people_and_the_intruders_rule() -> None:
    """They are there from Graph's first answer on."""

    async def main() -> list[str]:
        simulation = SimulationSettings(seed=1, days=7, records_per_day=100, live=False)
        async with simulator_running(simulation, clock=SystemClock()) as running:
            directory = running.tenants[0].directory
            assert directory.users == {}
            read(directory, "/roleManagement/directory/roleAssignments")
            assert len(directory.users) > 50
            listed = [name for name in directory.lists if name.endswith("/messageRules")]
            return [rule["displayName"] for name in listed for rule in read(directory, name)]

    assert "." in asyncio.run(main())


def test_an_application_that_a_record_names_is_there_with_its_secrets() -> None:
    """A record of new secrets has the object id of the registration; Graph answered 404 for it."""
    organisation = Organisation(3, "6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f", users=20)
    directory = SimulatedDirectory()
    populate(directory, organisation.accounts(), [], applications=organisation.applications())
    [one, *_] = organisation.applications()
    named = application_target(one, principal=False).object_id.removeprefix("Application_")
    own = f"/applications/{named}/passwordCredentials"

    found = directory.answer("GET", f"/applications/{named}", {"$select": "id,appId"}, {})
    assert found is not None
    principal = directory.answer("GET", f"/servicePrincipals(appId='{found['appId']}')", {}, {})
    assert principal is not None
    assert principal["accountEnabled"]
    assert read(directory, f"/servicePrincipals(appId='{one.app_id}')/passwordCredentials") == []
    assert read(directory, f"/applications/{named}/owners") == []
    first, second = read(directory, own)
    assert (first["displayName"], second["displayName"]) == ("owner", "renewed")
    directory.answer("POST", f"/applications/{named}/removePassword", {}, {"keyId": second["keyId"]})
    assert read(directory, own) == [first]


def test_a_rule_has_its_folder_by_an_id_as_graph_has() -> None:
    """What it is called the folder alone tells, by whichever name the mailbox has."""
    told = {"Name": "..", "MoveToFolder": "RSS Feeds", "SubjectOrBodyContainsWords": "invoice;wire"}
    parameters = [{"Name": name, "Value": value} for name, value in told.items()]
    record = {"Operation": "New-InboxRule", "UserId": ANN, "Parameters": parameters}
    directory = SimulatedDirectory()
    populate(directory, [ANN], [json.dumps(record).encode()] * 2)

    first, second = read(directory, RULES)
    folder = first["actions"]["moveToFolder"]
    assert second["actions"]["moveToFolder"] == folder != "RSS Feeds"
    assert first["conditions"] == {"bodyOrSubjectContains": ["invoice", "wire"]}
    for mailbox in (ANN, "Ann@Contoso.Example", directory.users[ANN]["id"]):
        found = directory.answer("GET", f"/users/{mailbox}/mailFolders/{folder}", {}, {})
        assert found == {"id": folder, "displayName": "RSS Feeds"}
        assert read(directory, f"/users/{mailbox}/mailFolders/inbox/messageRules") == [first, second]
    with pytest.raises(Refusal):
        directory.answer("GET", f"/users/{ANN}/mailFolders/RSS Feeds", {}, {})


def change(operation: str, who: str, **values: str) -> bytes:
    """A record of the directory about an account."""
    changes = [{"Name": name, "NewValue": one, "OldValue": one} for name, one in values.items()]
    return json.dumps({"Operation": operation, "ObjectId": who, "ModifiedProperties": changes}).encode()


def test_groups_and_owners_of_ordinary_days_are_there() -> None:
    """Each once, however often a record tells of it; a role that was taken away is not there any more."""
    organisation = Organisation(3, "6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f", users=20)
    [one, *_] = organisation.applications()
    group = {"Group.ObjectID": "g1", "Group.DisplayName": "Lunch"}
    role = {"Role.TemplateId": "4a5d", "Role.DisplayName": "Reports Reader"}
    records = [
        change("Add member to group.", ANN, **group),
        change("Add member to group.", ANN, **group),
        change("Add owner to group.", EVE, **group),
        change("Add owner to application.", EVE, **{"Application.ObjectID": one.object_id}),
        change("Add member to role.", ANN, **role),
        change("Add member to role.", EVE, **role),
        change("Remove member from role.", ANN, **role),
    ]
    directory = SimulatedDirectory()
    populate(directory, [ANN, EVE], records, applications=organisation.applications())

    assert read(directory, groups_of(ANN)) == [
        {"@odata.type": "#microsoft.graph.group", "id": "g1", "displayName": "Lunch"}
    ]
    [owner] = read(directory, f"/applications(appId='{one.app_id}')/owners")
    assert owner["userPrincipalName"] == EVE
    assert read(directory, owners_of("g1")) == [owner]
    [held] = read(directory, "/roleManagement/directory/roleAssignments")
    assert held["principalId"] == directory.users[EVE]["id"]


def test_graph_lists_who_administers_the_tenant() -> None:
    """Whoever looks after it, and whom an attack has made one; by Graph's own name for the role."""
    template = "62e90394-69f5-4237-9190-012177145e10"
    directory = SimulatedDirectory()
    granted = change(
        "Add member to role.",
        EVE,
        **{"Role.TemplateId": template, "Role.DisplayName": "Company Administrator"},
    )
    populate(directory, [ANN, EVE], [granted], administrators=[ANN])
    listed = f"/directoryRoles(roleTemplateId='{template}')/members"

    assert [one["userPrincipalName"] for one in read(directory, listed)] == [ANN, EVE]
    assert read(directory, "/directoryRoles(roleTemplateId='another')/members") == []
    assert {one["roleDefinition"]["displayName"] for one in read(directory, ROLES)} == {
        "Global Administrator"
    }


def test_the_records_of_a_week_leave_groups() -> None:
    """Not the attacks' alone: a plan takes somebody out of what an ordinary record tells of, too."""

    async def main() -> SimulatedDirectory:
        simulation = SimulationSettings(seed=1, days=7, records_per_day=4_000, live=False)
        async with simulator_running(simulation, clock=SystemClock()) as running:
            directory = running.tenants[0].directory
            read(directory, ROLES)
            return directory

    directory = asyncio.run(main())
    assert any(found for name, found in directory.lists.items() if name.endswith("/memberOf"))


def test_a_file_is_found_by_its_address_as_graph_decodes_it() -> None:
    """What is called a%20b is another file than a b."""
    directory = SimulatedDirectory()
    directory.add_file("https://contoso.example/a b.docx")
    directory.add_file("https://contoso.example/a%20b.docx")

    def found(address: str) -> object:
        name = "u!" + base64.urlsafe_b64encode(address.encode()).decode().rstrip("=")
        answer = directory.answer("GET", f"/shares/{name}/driveItem", {}, {})
        assert answer is not None
        return answer["id"]

    blank, mark = (one["id"] for one in directory.shared.values())
    assert found("https://contoso.example/a%20b.docx") == blank
    assert found("https://contoso.example/a%2520b.docx") == mark


def test_who_is_taken_out_of_a_group_is_its_member_no_more() -> None:
    """Graph names the group first and the person behind it; the person's own groups tell it afterwards."""
    directory = SimulatedDirectory()
    populate(directory, [ANN], [])
    listed = groups_of(ANN)
    kept, left = (directory.add(listed, {"displayName": name}) for name in ("Lunch", "Admins"))

    directory.answer("DELETE", f"/groups/{left}/members/{directory.users[ANN]['id']}/$ref", {}, {})

    assert [one["id"] for one in read(directory, listed)] == [kept]
