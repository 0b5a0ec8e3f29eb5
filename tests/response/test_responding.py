"""Steps carried out on a simulated Graph: its state changes, a second read proves it, undo brings it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, APP, hides
from m365watch.response.execution.response_executor import Came
from responding_scene import ADMIN, LINK, RULES, Scene, in_scene


def test_sessions_end_and_the_account_is_disabled_and_comes_back(tmp_path: Path) -> None:
    """What can be undone is; sessions stay ended."""

    async def test(scene: Scene) -> None:
        user = scene.directory.users[ANN]
        plan = scene.plan("revoke_sessions", "disable_account", user=ANN)

        assert [told.came for told in await scene.apply(plan)] == [Came.DONE, Came.DONE]
        assert (user["sessions"], user["accountEnabled"]) == (0, False)
        assert [told.came for told in await scene.apply(plan)] == [Came.ALREADY, Came.DONE]
        assert [told.came for told in await scene.undo(plan)] == [Came.DONE]
        assert (user["sessions"], user["accountEnabled"]) == (0, True)
        assert await scene.undo(plan) == []

    in_scene(tmp_path, test)


def test_the_named_rule_goes_and_comes_back_as_it_was(tmp_path: Path) -> None:
    """Its neighbours stay; what is put back has the conditions and actions of before."""

    async def test(scene: Scene) -> None:
        bad = {
            "displayName": "..",
            "sequence": 1,
            "isEnabled": True,
            "conditions": {"subjectContains": ["invoice"]},
            "actions": {"delete": True},
            "hasError": False,
        }
        scene.directory.add(RULES, {"displayName": "news", "sequence": 2})
        scene.directory.add(RULES, bad)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))

        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]
        assert [rule["displayName"] for rule in scene.directory.lists[RULES]] == ["news"]
        assert [told.came for told in await scene.undo(plan)] == [Came.DONE]
        back = scene.directory.lists[RULES][-1]
        assert {name: back.get(name) for name in bad if name != "hasError"} == {
            name: value for name, value in bad.items() if name != "hasError"
        }

    in_scene(tmp_path, test)


@guarantee(39)
@pytest.mark.parametrize(("says", "left"), [(None, ["a", "b"]), (False, ["a", "b"]), (True, [])])
def test_what_the_alert_does_not_name_a_person_picks(
    tmp_path: Path, says: bool | None, left: list[str]
) -> None:
    """--yes alone never removes what nobody named."""

    async def test(scene: Scene) -> None:
        for name in ("a", "b"):
            scene.directory.add(RULES, {"displayName": name, "sequence": 1})
        told = await scene.apply(scene.plan("remove_inbox_rule", user=ANN), says=says)

        assert [rule["displayName"] for rule in scene.directory.lists[RULES]] == left
        assert {one.came for one in told} <= {Came.PICK, Came.DECLINED, Came.DONE}

    in_scene(tmp_path, test)


def test_an_application_loses_its_grants_and_gets_them_back(tmp_path: Path) -> None:
    """Delegated and application permissions, and the application itself."""

    async def test(scene: Scene) -> None:
        directory = scene.directory
        principal = directory.add_principal(APP)
        own = f"/servicePrincipals(appId='{APP}')"
        grants, roles = f"{own}/oauth2PermissionGrants", f"{own}/appRoleAssignments"
        grant = {
            "clientId": principal,
            "consentType": "AllPrincipals",
            "resourceId": "r",
            "scope": "Mail.Read",
        }
        grant_id = directory.add(grants, grant)
        directory.lists["/oauth2PermissionGrants"] = directory.lists[grants]
        directory.add(roles, {"principalId": principal, "resourceId": "r", "appRoleId": "x"})
        plan = scene.plan("remove_oauth_grant", "disable_application", app=APP)

        assert [told.came for told in await scene.apply(plan, says=True)] == [Came.DONE] * 3
        assert directory.lists["/oauth2PermissionGrants"] == []
        assert directory.lists[roles] == []
        assert directory.principals[APP]["accountEnabled"] is False
        assert [told.came for told in await scene.undo(plan)] == [Came.DONE] * 3
        back = directory.lists["/oauth2PermissionGrants"][0]
        assert {name: back[name] for name in grant} == grant
        assert back["id"] != grant_id
        assert directory.lists[roles][0]["appRoleId"] == "x"
        assert directory.principals[APP]["accountEnabled"] is True

    in_scene(tmp_path, test)


@pytest.mark.parametrize("kind", ["Application", "ServicePrincipal"])
def test_an_application_is_found_by_the_object_that_a_record_names(tmp_path: Path, kind: str) -> None:
    """Real records have `Application_` and the object's id, which Graph refuses in the place of an appId."""

    async def test(scene: Scene) -> None:
        directory = scene.directory
        ids = {"ServicePrincipal": directory.add_principal(APP)}
        ids["Application"] = directory.add_registration(APP)
        own, registered = f"/servicePrincipals(appId='{APP}')", f"/applications(appId='{APP}')"
        directory.add(f"{own}/appRoleAssignments", {"resourceId": "r", "appRoleId": "x"})
        directory.lists[f"{own}/oauth2PermissionGrants"] = []
        directory.add(f"{registered}/passwordCredentials", {"keyId": "k1", "displayName": "mine"})
        directory.lists[f"{own}/passwordCredentials"] = []
        directory.add(f"{registered}/owners", {"userPrincipalName": ANN})
        words = ("remove_credential", "remove_owner", "remove_oauth_grant", "disable_application")
        plan = scene.plan(*words, app=f"{kind}_{ids[kind]}")

        told = await scene.apply(plan, says=True)
        assert [one.came for one in told] == [Came.DONE] * 4
        assert directory.lists[f"{registered}/passwordCredentials"] == []
        assert directory.lists[f"{registered}/owners"] == []
        assert directory.lists[f"{own}/appRoleAssignments"] == []
        assert directory.principals[APP]["accountEnabled"] is False
        assert [one.came for one in await scene.undo(plan)] == [Came.DONE] * 2
        assert directory.principals[APP]["accountEnabled"] is True
        assert directory.lists[f"{own}/appRoleAssignments"][0]["appRoleId"] == "x"

    in_scene(tmp_path, test)


def test_roles_links_secrets_owners_and_memberships_go(tmp_path: Path) -> None:
    """Each by the call that Graph has for it; of links the anonymous one alone."""

    async def test(scene: Scene) -> None:
        directory = scene.directory
        ann = directory.users[ANN]["id"]
        assignments = "/roleManagement/directory/roleAssignments"
        role = {"roleDefinition": {"displayName": "Global Administrator"}, "roleDefinitionId": "62e9"}
        directory.add(assignments, {"principalId": ann, "directoryScopeId": "/", **role})
        directory.add(assignments, {"principalId": "another", "directoryScopeId": "/", **role})
        permissions = directory.add_file(LINK)
        directory.add(permissions, {"link": {"scope": "anonymous", "type": "view"}})
        directory.add(permissions, {"link": {"scope": "organization", "type": "view"}})
        directory.add_registration(APP)
        directory.add_principal(APP)
        secrets = f"/applications(appId='{APP}')/passwordCredentials"
        directory.add(secrets, {"keyId": "k1", "displayName": "mine"})
        directory.lists[f"/servicePrincipals(appId='{APP}')/passwordCredentials"] = []
        owners = f"/applications(appId='{APP}')/owners"
        directory.add(owners, {"userPrincipalName": ANN})
        words = ("remove_role", "disable_anonymous_link", "remove_credential", "remove_owner")
        plan = scene.plan(*words, user=ANN, app=APP, fields={"ObjectId": LINK, **ADMIN})

        told = await scene.apply(plan, says=True)
        assert [one.came for one in told] == [Came.DONE] * 4
        assert ann not in [one["principalId"] for one in directory.lists[assignments]]
        assert "another" in [one["principalId"] for one in directory.lists[assignments]]
        assert [one["link"]["scope"] for one in directory.lists[permissions]] == ["organization"]
        assert directory.lists[secrets] == []
        assert directory.lists[owners] == []
        assert [one.came for one in await scene.undo(plan)] == [Came.DONE]
        assert [one["principalId"] for one in directory.lists[assignments]].count(ann) == 1

    in_scene(tmp_path, test)
