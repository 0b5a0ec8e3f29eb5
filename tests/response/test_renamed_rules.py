"""Inbox rules that were called otherwise within the alert: of records as they come over the wire."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from alerts import make_alert, make_match
from detected import plan_from, steps, titles
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import Remove

ANN = "ann@contoso.example"
FORMER = r'Remove the inbox rule "{}" of {}, if it is the alert\'s: that was called "{}" at [0-9]{{4}}-.*Z'
ITS_ALERT = r" \(alert [0-9a-f]{8}\)"


def rule(operation: str, *, at: int, of: str = "ann", mailbox: str = "", **told: str) -> dict[str, Any]:
    """A record of a rule that hides mail, that many minutes later."""
    named = {"Mailbox": mailbox} if mailbox else {}
    return {
        "shape": "cmdlet",
        "after": f"{at}m",
        "Operation": f"{operation}-InboxRule",
        "UserId": ANN,
        "ObjectId": of,
        "Parameters": {"DeleteMessage": "True"} | named | told,
    }


def outlook(operation: str, name: str, *, at: int) -> dict[str, Any]:
    """The same, as Outlook saves it."""
    told = {"RuleOperation": f"{operation}MailboxRule", "RuleId": "7", "RuleName": name}
    return {
        "shape": "outlook_rule",
        "after": f"{at}m",
        "UserId": ANN,
        "MailboxOwnerUPN": ANN,
        "OperationProperties": told | {"RuleState": "Enabled", "RuleActions": '[{"ActionType":"Delete"}]'},
    }


def wanted(tmp_path: Path, *records: dict[str, Any]) -> dict[str, bool]:
    """The rules that Graph would remove, and whether a person has to say yes."""
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", *records)
    return {
        name: step.asks_always
        for step in steps(plan, "remove_inbox_rule")
        for one in step.operations
        if isinstance(one, Remove)
        for _, name in one.wanted
    }


NEW = rule("New", at=0, of=r"ann\Newsletter", Name="Newsletter")
RENAMED = rule("Set", at=5, of=r"ann\Newsletter", Identity="Newsletter", Name="Meetings")


@pytest.mark.parametrize(
    "identity", ["Newsletter", r"ann\newsletter", r"x.example/y/ann@contoso.example\Newsletter"]
)
def test_a_name_that_a_rule_gave_up_may_be_its_owner_s(tmp_path: Path, identity: str) -> None:
    """Called as the owner's is at first, and otherwise five minutes later: one of the first name is left."""
    renamed = rule("Set", at=5, of=r"ann\Newsletter", Identity=identity, Name="Meetings")
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", NEW, renamed)
    removed, former = steps(plan, "remove_inbox_rule")

    assert re.fullmatch(FORMER.format("Newsletter", ANN, "Meetings") + ITS_ALERT, former.title)
    assert former.asks_always
    assert former.notes[0].startswith("The alert's gave this name up")
    assert all(one.startswith(("Get-InboxRule", "#")) for one in former.powershell)
    assert removed.title == f'Remove the inbox rule "Meetings" of {ANN}'
    assert not removed.asks_always
    assert not any(note.startswith("No record that is known made it") for note in removed.notes)


def test_a_rule_that_no_record_made_was_its_owner_s(tmp_path: Path) -> None:
    """Renamed or not: who had it makes it again."""
    removed, _ = steps(plan_from(tmp_path, "b02_inbox_rule_hides_mail", RENAMED), "remove_inbox_rule")

    assert any(note.startswith("No record that is known made it") for note in removed.notes)


def test_the_last_name_is_told_of_a_rule_that_had_several(tmp_path: Path) -> None:
    """Whoever looks for it finds it by that one alone."""
    again = rule("Set", at=6, Identity="Meetings", Name=".")
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", NEW, RENAMED, again)

    removed, *former = titles(plan, "remove_inbox_rule")
    assert removed == f'Remove the inbox rule "." of {ANN}'
    assert [
        re.match(FORMER.format(one, ANN, r"\."), title) is not None
        for one, title in zip(("Newsletter", "Meetings"), former, strict=True)
    ] == [True, True]


def test_a_rule_that_outlook_renamed_is_the_same_by_its_id(tmp_path: Path) -> None:
    """Its record has no former name."""
    records = [outlook("Add", "Newsletter", at=0), outlook("Modify", "Meetings", at=5)]

    assert wanted(tmp_path, *records) == {"Meetings": False, "Newsletter": True}


def test_a_rule_that_was_renamed_by_a_known_number_is_the_same(tmp_path: Path) -> None:
    """The object of the record that made it has the number."""
    made = rule("New", at=0, of=r"ann\17634012", Name="Newsletter")
    renamed = rule("Set", at=5, of=r"ann\17634012", Identity=r"ann\17634012", Name="Meetings")

    assert wanted(tmp_path, made, renamed) == {"Meetings": False, "Newsletter": True}


def test_which_rule_a_number_renamed_no_record_tells(tmp_path: Path) -> None:
    """It may be the one that was made before, and then that name is the owner's: a person says yes."""
    renamed = rule("Set", at=5, of=r"ann\17634012", Identity="17634012", Name="Meetings")

    assert wanted(tmp_path, NEW, renamed) == {"Newsletter": True, "Meetings": False}


@pytest.mark.parametrize("minutes", ["0m", "1m"])
def test_a_name_that_was_taken_again_is_asked_for(tmp_path: Path, minutes: str) -> None:
    """Records of one second have no order, and what was made later may have gone again."""
    renamed = RENAMED | {"after": "0m"}

    assert wanted(tmp_path, renamed, NEW | {"after": minutes}) == {"Meetings": False, "Newsletter": True}


def test_a_rule_that_was_called_back_has_its_name_for_certain(tmp_path: Path) -> None:
    """There and back again: no detour hides it."""
    back = rule("Set", at=9, Identity="Meetings", Name="Newsletter")

    assert wanted(tmp_path, NEW, RENAMED, back) == {"Newsletter": False, "Meetings": True}


def test_a_rule_that_is_made_again_under_a_name_is_asked_for(tmp_path: Path) -> None:
    """The second one is the intruder's as well, but may have gone: no rule finds that it was removed."""
    records = [NEW, RENAMED, rule("New", at=11, Name="Newsletter")]

    assert wanted(tmp_path, *records) == {"Newsletter": True, "Meetings": False}


def test_a_rule_that_is_only_changed_keeps_its_name(tmp_path: Path) -> None:
    """Outlook on the web sends the name with every change."""
    changed = rule("Set", at=5, of=r"ann\17634012", Identity="17634012", Name="Newsletter")

    assert wanted(tmp_path, NEW, changed) == {"Newsletter": False}


def test_a_rule_that_got_other_capitals_is_called_otherwise(tmp_path: Path) -> None:
    """Graph has names letter by letter, and the owner's may be called as the intruder's was."""
    renamed = rule("Set", at=5, of=r"ann\Newsletter", Identity="Newsletter", Name="newsletter")

    assert wanted(tmp_path, NEW, renamed) == {"newsletter": False, "Newsletter": True}


def test_a_rule_of_another_number_is_another(tmp_path: Path) -> None:
    """Whatever becomes of it says nothing of the first one."""
    made = rule("New", at=0, of=r"ann\111", Name="Newsletter")
    other = rule("Set", at=5, of=r"ann\222", Identity="222", Name="Meetings")

    assert wanted(tmp_path, made, other) == {"Newsletter": False, "Meetings": False}


def test_a_number_may_be_a_rule_s_name(tmp_path: Path) -> None:
    """Whoever makes a rule chooses what it is called."""
    made = rule("New", at=0, of=r"ann\111", Name="222")
    other = rule("Set", at=5, of=r"ann\222", Identity="222", Name="Meetings")

    assert wanted(tmp_path, made, other) == {"222": True, "Meetings": False}


def test_which_rule_outlook_renamed_its_own_id_does_not_tell(tmp_path: Path) -> None:
    """The record of a cmdlet has none: a person says yes."""
    assert wanted(tmp_path, NEW, outlook("Modify", "Meetings", at=5)) == {
        "Newsletter": True,
        "Meetings": False,
    }


def of_bob(*, alias: str, of: str, made: bool) -> list[dict[str, Any]]:
    """An administrator makes ann a rule, and renames one of that name that an alias has."""
    records = [rule("New", at=0, of=of, mailbox=ANN, Name="Newsletter")]
    records += [rule("New", at=2, of=alias, mailbox=alias, Name="Newsletter")] if made else []
    return [*records, rule("Set", at=5, of=alias, mailbox=alias, Identity="Newsletter", Name="Meetings")]


@pytest.mark.parametrize(
    ("alias", "of", "made", "asks"),
    [
        ("bob", "ann", False, False),
        ("bob", r"x.example/y/ann\Newsletter", False, False),
        ("bob", "asmith", True, False),
        ("bob", "asmith", False, True),
        ("Bob Jones", "ann", False, True),
    ],
    ids=["ann's is known", "by its path", "bob's own", "ann's is another", "a name"],
)
def test_an_alias_is_another_s_where_ann_s_own_is_known(
    tmp_path: Path, alias: str, of: str, made: bool, asks: bool
) -> None:
    """What cannot be told is never certain: a person says yes, and nobody is told that it was renamed."""
    found = wanted(tmp_path, *of_bob(alias=alias, of=of, made=made))

    assert found == {"Newsletter": asks}


@pytest.mark.parametrize("alias", ["ann", "ANN@contoso.example", "asmith"])
def test_a_mailbox_is_the_same_by_its_alias(tmp_path: Path, alias: str) -> None:
    """The part before the @ is one, and so is what an object has it by."""
    renamed = of_bob(alias=alias, of="asmith", made=False)

    assert wanted(tmp_path, *renamed) == {"Meetings": False, "Newsletter": True}


def test_what_was_renamed_in_another_mailbox_says_nothing_of_this_one(tmp_path: Path) -> None:
    """An administrator makes rules for two people."""
    made = NEW | {"Parameters": NEW["Parameters"] | {"Mailbox": ANN}}
    renamed = rule(
        "Set", at=5, of=r"bea\News", mailbox="bea@contoso.example", Identity="Newsletter", Name="x"
    )
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", made, renamed)

    asks = {step.title.partition(",")[0]: step.asks_always for step in steps(plan, "remove_inbox_rule")}
    assert asks == {
        f'Remove the inbox rule "Newsletter" of {ANN}': False,
        'Remove the inbox rule "x" of bea@contoso.example': False,
        'Remove the inbox rule "Newsletter" of bea@contoso.example': True,
    }


@guarantee(39)
@pytest.mark.parametrize("changes", [{}, {"MarkAsRead": "True"}])
def test_an_identity_in_other_letters_is_the_same_rule(tmp_path: Path, changes: dict[str, str]) -> None:
    """Exchange takes it in either case: the owner's of these letters went in a step of its own."""
    changed = rule("Set", at=5, Identity="newsletter", **changes)

    assert wanted(tmp_path, NEW, changed) == {"Newsletter": False}


def test_a_rule_that_was_renamed_a_thousand_times_has_each_name_once() -> None:
    """Steps for each name were made of each record, of all records: the plan of 300 took 40 seconds."""
    made = {"Operation": "New-InboxRule", "UserId": ANN, "Parameters.Name": "n0"}
    names = [(f"n{number - 1}", f"n{number}") for number in range(1, 1_000)]
    renamed = [
        {"Operation": "Set-InboxRule", "UserId": ANN, "Parameters.Identity": old, "Parameters.Name": new}
        for old, new in names
    ]
    told = [
        make_match(one | {"Parameters.DeleteMessage": "True"}, after_ms=number * 1_000)
        for number, one in enumerate([made, *renamed])
    ]
    begun = time.process_time()
    plan = plan_response(make_alert("remove_inbox_rule", user=ANN), told)

    assert plan.steps[0].title == f'Remove the inbox rule "n999" of {ANN}'
    assert plan.notes[0].startswith("950 more steps (remove inbox rule) have no room here")
    assert time.process_time() - begun < 10
