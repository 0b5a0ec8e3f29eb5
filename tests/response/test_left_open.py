"""Plans say what a step leaves open: a session that ends, a token that is out, a factor."""

from __future__ import annotations

import pytest

from alerts import ANN, APP
from m365watch.cli.respond.plan_view import once_more, plan_lines
from m365watch.config.models.clouds import CLOUDS
from m365watch.response.steps.step import Plan
from plan_scene import plan

AGAIN = "Whoever has the password signs in again"
LIVE_ON = "Access tokens that it has already live on"


def says(made: Plan, word: str, said: str) -> list[bool]:
    """Of each step of the word, whether one of its notes begins so."""
    return [any(note.startswith(said) for note in one.notes) for one in made.steps if one.word == word]


@pytest.mark.parametrize("beside", [(), ("remove_inbox_rule",), ("block_address",)])
def test_a_plan_that_only_ends_sessions_says_who_signs_in_again(beside: tuple[str, ...]) -> None:
    """It read as shut, and whoever had the password was in again at once."""
    made = plan("revoke_sessions", *beside, user=ANN, address="203.0.113.9")

    assert says(made, "revoke_sessions", AGAIN) == [True]


@pytest.mark.parametrize("beside", ["reset_password", "disable_account"])
def test_a_plan_that_shuts_the_door_does_not_say_it(beside: str) -> None:
    """A note that stands everywhere is read nowhere."""
    assert says(plan("revoke_sessions", beside, user=ANN), "revoke_sessions", AGAIN) == [False]


KEEPS = "It keeps its password"
GUEST = "mallory_rival.example#EXT#@contoso.example"


@pytest.mark.parametrize(
    ("words", "user", "said"),
    [
        (("disable_account",), ANN, True),
        (("disable_account", "revoke_sessions"), ANN, True),
        (("disable_account", "reset_password"), ANN, False),
        (("disable_account",), GUEST, False),
    ],
    ids=["alone", "sessions", "a new password beside", "a guest, whose password is at home"],
)
def test_a_disabled_account_keeps_the_password_that_was_stolen(
    words: tuple[str, ...], user: str, said: bool
) -> None:
    """Enabled again it lets in whoever has it, and no step of the plan gives another."""
    made = plan(*words, user=user)

    assert says(made, "disable_account", KEEPS) == [said]


@pytest.mark.parametrize(
    ("word", "operation"),
    [
        ("disable_application", ""),
        ("remove_oauth_grant", ""),
        ("remove_oauth_grant", "Add delegated permission grant."),
        ("remove_oauth_grant", "Add app role assignment to service principal."),
        ("remove_user_consent", "Consent to application."),
    ],
)
def test_what_an_application_has_in_hand_lives_on(word: str, operation: str) -> None:
    """It goes on reading mail for an hour after it was disabled, or what let it read was taken away."""
    made = plan(word, app=APP, user=ANN, fields={"Operation": operation} if operation else None)

    assert says(made, word, LIVE_ON) == [True] * len(made.steps)


def test_second_factors_that_are_not_the_owner_s_go_before_things_are_tidied_up() -> None:
    """With one of them whoever put it there may give himself a new password."""
    words = ("restore_mfa", "remove_inbox_rule", "revoke_sessions", "block_address")
    made = plan(*words, user=ANN, address="203.0.113.9")

    assert [one.word for one in made.steps] == [
        "revoke_sessions",
        "restore_mfa",
        "remove_inbox_rule",
        "block_address",
    ]
    [step] = [one for one in made.steps if one.word == "restore_mfa"]
    assert "register anew at the very end" in step.notes[0]


def test_sessions_are_ended_again_once_a_new_password_is_given() -> None:
    """--apply ends them at once, and the password is given by hand, later: of what it has done, it says so.

    In the plan the passwords come first, and what waits for a yes was not done once.
    """
    made = plan("revoke_sessions", "reset_password", user=ANN, actor="eve@contoso.example")

    assert [*once_more(made, [3, 4])] == [
        "once new passwords are given, do steps 3, 4 again: the old ones may have been used meanwhile"
    ]
    assert [one.partition(":")[0] for one in once_more(made, [4])] == [
        "once a new password is given, do step 4 again"
    ]
    assert [*once_more(made, [])] == []
    assert not any("once" in one for one in plan_lines(made, cloud=CLOUDS["worldwide"]))


@pytest.mark.parametrize("words", [("revoke_sessions",), ("reset_password",)])
def test_nothing_is_done_again_where_only_one_of_them_is_done(words: tuple[str, ...]) -> None:
    """There is nothing that the order of the two could spoil."""
    assert [*once_more(plan(*words, user=ANN), [1])] == []


def test_what_refuses_to_let_a_member_go_is_said() -> None:
    """A group that a rule fills, and one that may hold roles, answer no, whatever else may be done."""
    made = plan("remove_group_member", user=ANN)

    assert says(made, "remove_group_member", "Nobody can be taken out of a group whose members a rule") == [
        True
    ]
    assert says(made, "remove_group_member", "Of a group that may hold roles only") == [True]
