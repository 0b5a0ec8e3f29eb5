"""Plans about applications, of records as they come over the wire: what was added goes, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from expand import written
from promises import guarantee

from detected import detect, plan_from, plan_of, rules_of, steps, titles
from m365watch.response.execution.response_executor import Came
from m365watch.response.steps.step import Plan, Remove
from responding_scene import Scene, in_scene

ADMIN, EVE = "admin@contoso.example", "eve@contoso.example"
APP = "a62919b8-0000-4b3f-ab2a-0000000000aa"
EXCHANGE = "00000002-0000-0ff1-ce00-000000000000"
GRAPH_POWERSHELL = "14d82eec-204b-4c2f-b7e8-296a70dab67e"
MICROSOFT = "f8cdef31-a31e-4b4a-93e4-5f571e91255a"
ROLE_ID = "e2a3a72e-5f79-4c64-b1b1-878b674786c9"
GLOBAL = "62e90394-69f5-4237-9190-012177145e10"


def changed(operation: str, *, after: str = "1s", user: str = ADMIN, **more: Any) -> dict[str, Any]:
    """A record of a change of an application."""
    return {"shape": "app_directory", "after": after, "Operation": operation, "UserId": user} | more


def app_role(app: str, *, role: str = ROLE_ID) -> dict[str, Any]:
    """A record of an application that gets a permission of its own."""
    told = {"AppRole.Value": ["Mail.ReadWrite", ""], "ServicePrincipal.AppId": [app, ""]}
    known = {"AppRole.Id": [role, ""]} if role else {}
    return changed(
        "Add app role assignment to service principal.",
        ObjectId="00000003-0000-0000-c000-000000000000",
        ModifiedProperties=told | known,
    )


def consent(app: str, before: str = "", *, user: str = ADMIN, kind: str = "AllPrincipals") -> dict[str, Any]:
    """A record of a consent, whose text has the grants on both sides of an arrow."""
    grants = f"[{before}] => [[Id: kN9-a_1, ClientId: c1, ConsentType: {kind}, Scope: Mail.Read]]; "
    return changed(
        "Consent to application.",
        user=user,
        ObjectId=app,
        ModifiedProperties={
            "ConsentContext.IsAdminConsent": [str(kind != "Principal"), ""],
            "ConsentAction.Permissions": [grants, ""],
        },
    )


def removals(plan: Plan, word: str) -> list[Remove]:
    """What would be removed by Graph for a word."""
    return [one for step in steps(plan, word) for one in step.operations if isinstance(one, Remove)]


def test_a_permission_that_microsoft_s_own_application_got_is_taken_from_it(tmp_path: Path) -> None:
    """An intruder gives it to Graph PowerShell, a tool of Microsoft's; the tool itself is everybody's."""
    plan = plan_from(tmp_path, "o03_application_permission_granted", app_role(GRAPH_POWERSHELL))

    assert titles(plan, "remove_oauth_grant") == [
        f"Take the permission Mail.ReadWrite from the application {GRAPH_POWERSHELL}"
    ]
    [removal] = removals(plan, "remove_oauth_grant")
    assert (removal.wanted, removal.microsoft_too) == ((("appRoleId", ROLE_ID),), True)
    [spared] = steps(plan, "disable_application")
    assert spared.title == f"Leave the application {GRAPH_POWERSHELL} alone: it is Microsoft's own"
    assert "a secret, a permission" in spared.notes[0]


def test_a_consent_for_everybody_is_taken_back_by_its_grant(tmp_path: Path) -> None:
    """The record has the grant's id; what the application has had for years stays."""
    plan = plan_from(tmp_path, "o02_tenant_wide_consent", consent(GRAPH_POWERSHELL))

    [removal] = removals(plan, "remove_oauth_grant")
    assert (removal.wanted, removal.microsoft_too) == ((("id", "kN9-a_1"),), True)


@pytest.mark.parametrize(
    "record",
    [
        app_role(APP, role=""),
        consent(APP, "[Id: kN9-a_1, ClientId: c1, ConsentType: Principal, Scope: User.Read]"),
    ],
    ids=["no id", "a grant that got more"],
)
def test_which_permission_a_record_does_not_tell_a_person_picks(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    """With a grant that was there before goes what was rightly in it."""
    is_role = "app role" in record["Operation"]
    rule = "o03_application_permission_granted" if is_role else "o02_tenant_wide_consent"
    first = steps(plan_from(tmp_path, rule, record), "remove_oauth_grant")[0]

    [removal] = [one for one in first.operations if isinstance(one, Remove)]
    assert (removal.wanted, removal.takes_all) == ((), False)
    assert "you pick" in first.notes[0]


def test_one_person_s_consent_to_microsoft_s_own_application_is_withdrawn(tmp_path: Path) -> None:
    """It takes nothing from anybody else."""
    record = consent(GRAPH_POWERSHELL, user=EVE, kind="Principal")
    plan = plan_from(tmp_path, "o01_user_consents_to_mail_or_files", record)

    assert titles(plan, "remove_user_consent") == [
        f"Withdraw what {EVE} let the application {GRAPH_POWERSHELL} do"
    ]
    assert [one.microsoft_too for one in removals(plan, "remove_user_consent")] == [True]


def test_an_owner_of_microsoft_s_own_application_is_removed(tmp_path: Path) -> None:
    """Of its service principal, which is the tenant's."""
    named = {"ServicePrincipal.DisplayName": ["Exchange", ""], "ServicePrincipal.AppId": [EXCHANGE, ""]}
    record = changed("Add owner to service principal.", ObjectId=EVE, ModifiedProperties=named)
    plan = plan_from(tmp_path, "o05_application_owner_or_reach", record)

    assert titles(plan, "remove_owner") == [
        f"Remove the owner {EVE} of the service principal of the application {EXCHANGE}"
    ]


def test_a_role_of_microsoft_s_own_application_is_removed(tmp_path: Path) -> None:
    """None of Microsoft's applications works by a role that somebody of the tenant gives it."""
    target = [{"ID": f"ServicePrincipal_{ROLE_ID}", "Type": 2}, {"ID": "ServicePrincipal", "Type": 2},
              {"ID": GRAPH_POWERSHELL, "Type": 4}]  # fmt: skip
    record = changed(
        "Add member to role.",
        ObjectId=GRAPH_POWERSHELL,
        Target=target,
        ModifiedProperties={"Role.DisplayName": ["Owner", ""], "Role.TemplateId": [GLOBAL, ""]},
    )
    plan = plan_from(tmp_path, "i16_application_gets_role", record)

    assert titles(plan, "remove_role") == [f"Remove the role Owner of the application {GRAPH_POWERSHELL}"]


def test_an_application_called_by_another_s_id_is_not_that_other(tmp_path: Path) -> None:
    """The intruder's lost nothing, and the house's own was disabled."""
    other = "99999999-aaaa-4bbb-8ccc-dddddddddddd"
    object_id = "2383a669-0000-49c4-a7e6-0000000000bb"
    named = [
        (f"ServicePrincipal_{object_id}", 2),
        (object_id, 2),
        ("ServicePrincipal", 2),
        (other, 1),
        (APP, 2),
    ]
    record = changed(
        "Add member to role.",
        ObjectId=APP,
        Target=[{"ID": one, "Type": kind} for one, kind in named],
        ModifiedProperties={"Role.DisplayName": ["Owner", ""], "Role.TemplateId": [GLOBAL, ""]},
    )
    plan = plan_from(tmp_path, "i16_application_gets_role", record)

    assert titles(plan, "remove_role") == [f"Remove the role Owner of the application {APP}"]
    assert [step.title for step in plan.steps if other in step.title] == []


def test_a_group_that_is_called_as_applications_are_is_none(tmp_path: Path) -> None:
    """What signs in with a group's object id is nothing, the role stayed, and nothing is to be found."""
    group = "5d3f1c6e-0000-4c4f-9a4e-0000000000f1"
    named = [(f"Group_{group}", 2), (group, 2), ("Group", 2), ("ServicePrincipal", 1)]
    record = changed(
        "Add member to role.",
        ObjectId=group,
        Target=[{"ID": one, "Type": kind} for one, kind in named],
        ModifiedProperties={"Role.DisplayName": ["Owner", ""], "Role.TemplateId": [GLOBAL, ""]},
    )
    plan = plan_from(tmp_path, "i16_application_gets_role", record)

    assert {step.word for step in plan.steps} == {"remove_role", "disable_account", "revoke_sessions"}
    assert titles(plan, "remove_role") == [f'Remove the role Owner of the group "ServicePrincipal" ({group})']


def test_a_person_who_is_called_as_applications_are_is_a_person(tmp_path: Path) -> None:
    """Only people have a user principal name; the plan looked for an application, and for a holder."""
    own_id = "5d3f1c6e-0000-4c4f-9a4e-0000000000f1"
    named = [(f"User_{own_id}", 2), (own_id, 2), ("User", 2), (EVE, 5), ("ServicePrincipal", 1)]
    record = changed(
        "Add member to role.",
        ObjectId=EVE,
        Target=[{"ID": one, "Type": kind} for one, kind in named],
        ModifiedProperties={"Role.DisplayName": ["Owner", ""], "Role.TemplateId": [GLOBAL, ""]},
    )
    rules = rules_of("i16_privileged_role", "i16_application_gets_role")
    [kept] = detect(tmp_path, written([record]), rules)
    plan = plan_of(tmp_path, kept, rules)

    assert titles(plan, "remove_role") == [f"Remove the role Owner of {EVE}"]
    assert f"Disable the account {EVE}" in titles(plan, "disable_account")


def secret(app: str, *, after: str = "1s") -> dict[str, Any]:
    """A record of an application that gets a secret."""
    return changed("Add service principal credentials.", after=after, ObjectId=app)


def asked(plan: Plan, word: str) -> list[bool]:
    """Of what ends an application for everybody, whether a person has to say yes."""
    return [step.asks_always for step in steps(plan, word) if "Disable" in step.title or "all" in step.title]


def test_an_application_at_work_is_disabled_by_a_person_s_yes_alone(tmp_path: Path) -> None:
    """An administrator who renews a secret makes the same record."""
    plan = plan_from(tmp_path, "o04_credential_added", secret(APP))

    assert asked(plan, "disable_application") == [True]
    assert "others may work with it" in steps(plan, "disable_application")[0].notes[0]


def test_only_what_the_record_gave_is_taken_unasked(tmp_path: Path) -> None:
    """One more permission is no reason to end what has worked for years."""
    plan = plan_from(tmp_path, "o03_application_permission_granted", app_role(APP))

    assert [(step.title, step.asks_always) for step in steps(plan, "remove_oauth_grant")] == [
        (f"Take the permission Mail.ReadWrite from the application {APP}", False),
        (f"Take all permissions from the application {APP}", True),
    ]
    assert asked(plan, "disable_application") == [True]


def test_every_single_permission_goes_before_all_of_them(tmp_path: Path) -> None:
    """Who said yes to all found nothing left of the last one: not done, exit code 1."""
    reads, writes = app_role(APP), app_role(APP, role="75359482-378d-4052-8f01-80520e7db3cd")
    writes["ModifiedProperties"]["AppRole.Value"] = ["Files.ReadWrite.All", ""]
    plan = plan_from(tmp_path, "o03_application_permission_granted", reads, writes)

    assert titles(plan, "remove_oauth_grant") == [
        f"Take the permission Mail.ReadWrite from the application {APP}",
        f"Take the permission Files.ReadWrite.All from the application {APP}",
        f"Take all permissions from the application {APP}",
    ]


def test_an_application_that_was_only_now_made_is_disabled_unasked(tmp_path: Path) -> None:
    """Nobody works with it yet."""
    made = changed("Add service principal.", ObjectId="a62919b8-0000-4b3f-ab2a-00000000000{n}")
    plan = plan_from(tmp_path, "o05_burst_of_applications", {"repeat": 4, "every": "2m", "record": made})

    assert asked(plan, "disable_application") == [False] * 4


BEFORE = {
    "repeat": 15,
    "every": "1d",
    "record": {"shape": "mail_read", "ClientAppId": "5b6e7f80-0000-4a11-9c22-00000000aaaa"},
}
"""What has always read mail."""


@guarantee(39)
def test_an_application_that_reads_mail_as_none_did_may_be_the_house_s_own(tmp_path: Path) -> None:
    """A stolen secret makes the same records; the alert that joins both, and the reading's own, ask."""
    reads = {"shape": "mail_read", "after": "2h", "ClientAppId": APP}
    records = (BEFORE, secret(APP), reads)
    (tmp_path / "joined").mkdir()
    plan = plan_from(tmp_path / "joined", "c02_application_granted_then_reads_mail", *records)
    own = plan_from(tmp_path, "b13_mail_read_by_new_application", *records)

    assert asked(plan, "disable_application") == [True]
    assert asked(own, "disable_application") == [True]
    assert asked(own, "remove_oauth_grant") == [True]
    assert "give it a new secret" in steps(own, "disable_application")[0].notes[0]


def test_an_application_that_reads_many_mailboxes_is_disabled_by_a_person_s_yes_alone(tmp_path: Path) -> None:
    """So do products that back them up, with a secret that somebody may have stolen."""
    reads = {"shape": "mail_read", "AppId": "00000003-0000-0000-c000-000000000000", "ClientAppId": APP,
             "MailboxOwnerUPN": "user{n}@contoso.example"}  # fmt: skip
    plan = plan_from(
        tmp_path, "b14_one_application_reads_many_mailboxes", {"repeat": 7, "every": "20s", "record": reads}
    )

    assert asked(plan, "disable_application") == [True]


BAD = "ff8d92dc-3d82-41d6-bcbd-b9174d163620"
"""Of the list of those that intruders are known to use."""


@guarantee(39)
def test_only_the_application_that_was_used_is_disabled_unasked(tmp_path: Path) -> None:
    """Beside it the same person asked in vain for one that others may work with."""
    refused = changed(
        "Consent to application.",
        user=EVE,
        ObjectId=APP,
        ResultStatus="Failure",
        ModifiedProperties={"ConsentAction.Reason": ["Risky application detected", ""]},
    )
    used = {"shape": "signin", "UserId": EVE, "ApplicationId": BAD}
    plan = plan_from(tmp_path, "o06_bad_application", used, refused)

    assert {step.title: step.asks_always for step in steps(plan, "disable_application")} == {
        f"Disable the application {BAD}": False,
        f"Disable the application {APP}": True,
    }


@pytest.mark.parametrize("word", ["disable_application", "remove_oauth_grant"])
def test_the_commands_look_whose_an_application_is_before_they_end_it(tmp_path: Path, word: str) -> None:
    """Microsoft's are on no whole list; Graph is asked, and PowerShell is what most have."""
    plan = plan_from(tmp_path, "o03_application_permission_granted", app_role(APP))

    lines = steps(plan, word)[-1].powershell
    assert "AppOwnerOrganizationId" in lines[1]
    assert [line for line in lines[2:] if not line.startswith("# unless AppOwnerOrganizationId")] == []


ACTING = "88bca18c-0000-4b33-b9ec-000000000001"


@pytest.mark.parametrize(
    ("rule", "record"),
    [
        (
            "i16_privileged_role",
            {
                "shape": "directory",
                "Operation": "Add member to role.",
                "ObjectId": EVE,
                "ModifiedProperties": {"Role.TemplateId": [GLOBAL, ""]},
            },
        ),
        ("o03_application_permission_granted", app_role(APP)),
        ("o04_credential_added", secret(APP)),
    ],
    ids=["a role", "a permission", "a secret"],
)
def test_an_application_that_did_it_is_shut_out_before_it_does_it_again(
    tmp_path: Path, rule: str, record: dict[str, Any]
) -> None:
    """It is no account; a person says yes, for others may work with it."""
    plan = plan_from(tmp_path, rule, record | {"UserId": f"ServicePrincipal_{ACTING}"})

    step = steps(plan, "disable_application")[0]
    assert step.title == f"Disable the application whose service principal is {ACTING} (who did it)"
    assert step.asks_always
    assert [call.path for call in step.calls if call.method == "PATCH"] == [f"/servicePrincipals/{ACTING}"]
    assert plan.steps.index(step) <= 1


def test_an_application_that_only_an_object_names_is_looked_at_first(tmp_path: Path) -> None:
    """A record of a new secret has seldom the other id, and it may be the collector that got it."""
    record = changed(
        "Update application \u2013 Certificates and secrets management ",
        ObjectId=f"Application_{APP}",
        ModifiedProperties={"KeyDescription": ['["[KeyIdentifier=a,KeyType=Password]"]', "[]"]},
    )
    plan = plan_from(tmp_path, "o04_credential_added", record, own_apps=[GRAPH_POWERSHELL])

    named = [step for step in plan.steps if APP in step.title]
    assert len(named) == 2
    assert all(f"its AppId is not {GRAPH_POWERSHELL}" in step.notes[int(step.asks_always)] for step in named)
    assert [
        line for step in named for line in step.powershell if "-AccountEnabled" in line and line[0] != "#"
    ] == []


def test_what_microsoft_s_own_application_got_graph_takes_from_it(tmp_path: Path) -> None:
    """One permission by its id, as --yes does it; the other that it has stays."""
    plan = plan_from(tmp_path, "o03_application_permission_granted", app_role(APP))
    roles = f"/servicePrincipals(appId='{APP}')/appRoleAssignments"

    async def test(scene: Scene) -> None:
        scene.directory.add_principal(APP)
        scene.directory.principals[APP]["appOwnerOrganizationId"] = MICROSOFT
        for role in (ROLE_ID, GLOBAL):
            scene.directory.add(roles, {"appRoleId": role, "resourceId": "r", "principalId": "p"})
        given = [steps(plan, "remove_oauth_grant")[0]]
        told = await scene.apply(replace(plan, tenant=scene.tenant, steps=tuple(given)))

        assert [one.came for one in told] == [Came.DONE]
        assert [one["appRoleId"] for one in scene.directory.lists[roles]] == [GLOBAL]
        assert scene.directory.principals[APP]["accountEnabled"] is True

    in_scene(tmp_path, test)


CLIENT, PERSON = "81c7cf0a-ec14-42b6-adbc-5ac76b5ae951", "9d8001cb-a159-4252-a3a1-c2dc689f322a"


def grant(number: int, *, client: str = CLIENT, id_: str = "") -> str:
    """One of a consent's grants as records have it: a hundred characters of ids before the scopes."""
    known = id_ or f"Cs_HgRTstkKtvFrHa1rpUesb3saOFPZDjHMp2EIy5pnLAYCdWaFSQqOhwtxonzI{number}"
    of = f"ClientId: {client}, PrincipalId: {PERSON}, ResourceId: {APP}"
    return f"[Id: {known}, {of}, ConsentType: AllPrincipals, Scope:  Mail.Read offline_access Files.Read.All]"


def given(folder: Path, text: str, **more: Any) -> list[Remove]:
    """What Graph would take of a consent whose text that is."""
    record = consent(GRAPH_POWERSHELL) | more
    record["ModifiedProperties"]["ConsentAction.Permissions"] = [text, ""]
    plan = plan_from(folder, "o02_tenant_wide_consent", record)
    found = [one for one in steps(plan, "remove_oauth_grant") if one.title.startswith("Take the permission")]
    return [one for step in found for one in step.operations if isinstance(one, Remove)]


def test_both_grants_of_a_long_consent_are_taken(tmp_path: Path) -> None:
    """Its text is longer than what an alert keeps of a value: the ids are kept by themselves."""
    [removal] = given(tmp_path, f"[] => [{grant(1)}, {grant(2)}]; ")

    assert [value[-1] for _, value in removal.wanted] == ["1", "2"]
    assert [len(value) for _, value in removal.wanted] == [64, 64]


@guarantee(39)
@pytest.mark.parametrize(
    "text",
    [
        f"[] => [{grant(1)}, [Id: Cs_HgRTs",
        f"[] => [{grant(1)}, ",
        f"[] => [{grant(1)}",
        f"[] => [{', '.join(grant(one) for one in range(8))}]; ",
        f"[] => [{grant(1, client='00000000-0000-0000-0000-000000000000')}]; ",
        f"[] => [{grant(1, id_='AAAAAAAAAAAAAAAAAAAAAOsb3saOFPZDjHMp2EIy5pnLAYCdWaFSQqOhwtxonzIq')}]; ",
        f"[{grant(1)}] => [{grant(1)}, {grant(2)}]; ",
    ],
    ids=[
        "cut by its writer",
        "cut between two",
        "cut behind one",
        "more than are kept",
        "no client yet",
        "an id of no client",
        "one got more",
    ],
)
def test_where_not_every_grant_of_a_consent_is_known_a_person_picks(tmp_path: Path, text: str) -> None:
    """To take one and say that it is done would leave the other; no grant has an id without a client."""
    [removal] = given(tmp_path, text)

    assert (removal.wanted, removal.takes_all) == ((), False)


def test_what_was_refused_gave_nothing_that_could_be_taken(tmp_path: Path) -> None:
    """Such a record has the grants in its text all the same."""
    record = consent(APP, user=EVE) | {"ResultStatus": "Failure"}
    record["ModifiedProperties"]["ConsentAction.Reason"] = ["Risky application detected", ""]
    plan = plan_from(tmp_path, "o06_bad_application", record)

    assert titles(plan, "remove_oauth_grant") == [f"Take all permissions from the application {APP}"]
