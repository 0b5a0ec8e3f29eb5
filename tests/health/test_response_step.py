"""The application that responds is looked at before it is needed; nothing is broken by what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m365watch.config.models.clouds import CLOUDS
from m365watch.response.execution.graph_permissions import (
    NEEDED,
    WISHED,
    carries_out,
    stops_administrators,
    wishes,
)
from m365watch_simulator.graph.directory import OVER_ADMINISTRATORS
from m365watch_simulator.service.scenario import Behaviour, Scenario
from preflight_scene import NOTE, OK, SKIPPED, preflight, steps_of

ALL = sorted({name for names in (*NEEDED.values(), *WISHED.values()) for name in names})


def acting(*roles: str) -> Scenario:
    """A service whose tokens for Graph carry these roles, and whose application may stop administrators."""
    return Scenario(behaviour=Behaviour(graph_roles=roles, directory_roles=OVER_ADMINISTRATORS[:1]))


def responding(document: dict[str, Any], **changed: str) -> None:
    (given,) = document["inputs"].values()
    credentials = {key: given["credentials"][key] for key in ("client_id", "client_secret")}
    document["detections"] = {"response": {"credentials": credentials | changed}}


def response_steps(folder: Path, scenario: Scenario, **changed: str) -> dict[str, tuple[str, str, str]]:
    found = preflight(folder, scenario, change=lambda document: responding(document, **changed))
    steps = [step for step in steps_of(found) if step.subject == "response"]
    return {str(step.check): (step.verdict, step.seen, step.fix or "") for step in steps}


def test_what_can_be_carried_out_is_told_and_what_it_lacks(tmp_path: Path) -> None:
    """By the names of the steps, and of the permissions."""
    scenario = acting("MailboxSettings.ReadWrite", "User.RevokeSessions.All")

    steps = response_steps(tmp_path, scenario)

    assert steps["token"][0] == OK
    verdict, seen, fix = steps["roles"]
    assert verdict == NOTE
    assert seen.startswith("can do revoke_sessions, remove_inbox_rule; for the others it lacks ")
    assert "RoleManagement.ReadWrite.Directory" in seen
    assert "docs/respond.md" in fix


def test_what_a_person_has_to_pick_for_want_of_a_permission_is_told(tmp_path: Path) -> None:
    """The commonest rule of an intruder moves mail: every step could be done, and that rule stayed."""
    steps = response_steps(tmp_path, acting(*(one for one in ALL if one != "Mail.ReadBasic.All")))

    without = "without Mail.ReadBasic.All rules that move or copy mail are left to a person"
    assert steps["roles"][:2] == (NOTE, f"can do every step that Graph can do; {without}")


@pytest.mark.parametrize(
    ("able", "roles", "wished"),
    [
        (["remove_inbox_rule"], ["Mail.ReadWrite"], ["User.Read.All"]),
        (["remove_inbox_rule"], ["Mail.ReadBasic.All", "User.ReadWrite.All"], []),
        (["revoke_sessions"], [], []),
    ],
)
def test_only_what_can_be_done_has_wishes(able: list[str], roles: list[str], wished: list[str]) -> None:
    """And a wider permission fulfils them."""
    assert [*wishes(able, roles)] == wished


@pytest.mark.parametrize("role", ["", "fe930be7-5e62-47db-91af-98c3a49a38b1", OVER_ADMINISTRATORS[0]])
def test_who_cannot_disable_administrators_is_told_by_day(tmp_path: Path, role: str) -> None:
    """That is a role of the directory, and no permission: every permission was there, and one step failed."""
    behaviour = Behaviour(graph_roles=tuple(ALL), directory_roles=(role,) if role else ())
    steps = response_steps(tmp_path, Scenario(behaviour=behaviour))

    if role == OVER_ADMINISTRATORS[0]:
        assert steps["roles"][:2] == (OK, "every step that Graph can do")
    else:
        assert steps["roles"][0] == NOTE
        assert (
            "; no administrator can be disabled: it has no role of the directory for that"
            in steps["roles"][1]
        )
        assert "Privileged Authentication Administrator" in steps["roles"][2]


@pytest.mark.parametrize(
    ("scope", "stops"), [("/", True), ("/administrativeUnits/5d3f1c6e-0000-4c4f-9a4e-0000000000f9", False)]
)
def test_a_role_over_one_unit_is_none_over_administrators(scope: str, stops: bool) -> None:
    """It counted as the role for the whole directory: `check` said well, and at night the step failed."""
    given = [{"roleDefinitionId": OVER_ADMINISTRATORS[0], "directoryScopeId": scope}]

    assert stops_administrators(given) is stops


def test_the_application_that_collects_is_not_to_respond_as_well(tmp_path: Path) -> None:
    """Whoever steals its secret could lock people out, besides reading."""
    steps = response_steps(tmp_path, acting(*ALL))

    assert steps["credential"][:2] == (NOTE, "the application that collects is also the one that responds")
    assert steps["roles"][:2] == (OK, "every step that Graph can do")


def test_a_secret_that_does_not_work_is_told_by_day(tmp_path: Path) -> None:
    """With the cure that any credential has; collecting goes on."""
    steps = response_steps(tmp_path, Scenario(), client_secret="wrong")

    assert steps["token"][0] == NOTE
    assert "AADSTS7000215" in steps["token"][1]
    assert steps["roles"][0] == SKIPPED


def test_nothing_is_said_where_nobody_is_to_respond(tmp_path: Path) -> None:
    assert [step for step in steps_of(preflight(tmp_path)) if step.subject == "response"] == []


@pytest.mark.parametrize(
    ("roles", "able"),
    [
        (ALL, list(NEEDED)),
        ([], []),
        (["RoleManagement.ReadWrite.Directory", "User.ReadWrite.All"], ["remove_role"]),
        (["Group.ReadWrite.All", "Directory.ReadWrite.All"], ["remove_group_member"]),
    ],
)
def test_a_permission_to_write_is_one_to_read(roles: list[str], able: list[str]) -> None:
    """What is lacking of the others is named."""
    found, lacking = carries_out(roles, graph_url=CLOUDS["worldwide"].graph_url)

    assert found == able
    assert set(lacking) == set(NEEDED) - set(able)
    assert all(lacking.values())


def test_what_graph_does_not_serve_there_needs_no_permission() -> None:
    """Nobody is to give MailboxSettings.ReadWrite in China, where no call takes it."""
    roles = [one for one in ALL if one != "MailboxSettings.ReadWrite"]

    assert carries_out(roles, graph_url=CLOUDS["china"].graph_url)[1] == {}
    assert [*carries_out(roles, graph_url=CLOUDS["dod"].graph_url)[1]] == ["remove_inbox_rule"]
