"""What became of an inbox rule is read in all records of it together, whichever alert found which."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from expand import written
from promises import guarantee

from detected import detect, plan_from, plan_of, rules_of, steps, titles
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.store.detection_store import DetectionState
from m365watch.response.execution.step_actions import look
from m365watch.response.steps.step import Plan
from tenant_scene import Tenant, goes, looked_at, sends, told

ADA = "ada@contoso.example"
THIEF = "thief@rogue.example"
WORD = "remove_inbox_rule"
KIT = {
    "shape": "signin",
    "ApplicationId": "29d9ed98-a469-4536-ade2-f981bc1d605e",
    "ClientIP": "203.0.113.66",
    "ActorIpAddress": "203.0.113.66",
    "ExtendedProperties": {"UserAgent": "axios/1.7.2"},
    "DeviceProperties": {"IsCompliantAndManaged": "False"},
}
"""A sign-in through a phishing kit, with which the alert begins that joins the others."""


def rule(operation: str, at: int, **told_of: str) -> dict[str, Any]:
    """A record of an inbox rule, that many minutes later."""
    return {
        "shape": "cmdlet",
        "after": f"{at}m",
        "Operation": f"{operation}-InboxRule",
        "UserId": ADA,
        "Parameters": {"Mailbox": ADA} | told_of,
    }


def joined(folder: Path, *records: dict[str, Any]) -> Plan:
    """The plan of the one alert that joins a suspicious sign-in with what rules hide and send on."""
    return plan_from(folder, "c01_mailbox_tampering_after_suspicious_signin", KIT, *records)


def found(number: str, name: str, **more: Any) -> dict[str, Any]:
    """A rule that Graph lists."""
    return {"id": number, "displayName": name} | more


HIDES = rule("New", 60, Name="..", DeleteMessage="True")


def test_what_a_later_record_undid_is_not_asked_for(tmp_path: Path) -> None:
    """The one alert knows that it deletes, the other that it does so no more: the intruder's was spared."""
    changed = rule("Set", 65, Identity="..", DeleteMessage="False", ForwardTo=THIEF)
    tenant = Tenant({}, found("r1", "..", actions=sends(THIEF)))

    assert goes(joined(tmp_path, HIDES, changed), WORD, tenant) == ["r1"]


@guarantee(39)
def test_a_name_that_another_alert_saw_given_up_may_be_its_owner_s(tmp_path: Path) -> None:
    """The intruder has only to take the owner's name and action, and to rename his five minutes later."""
    made = rule("New", 60, Name="Newsletter", DeleteMessage="True")
    renamed = rule("Set", 65, Identity="Newsletter", Name="Meetings", ForwardTo=THIEF)
    plan = joined(tmp_path, made, renamed)
    tenant = Tenant(
        {},
        found("own", "Newsletter", actions={"delete": True}),
        found("evil", "Meetings", actions={"delete": True} | sends(THIEF)),
    )

    assert goes(plan, WORD, tenant) == ["evil"]
    removed, former = titles(plan, WORD)
    assert removed == f'Remove the inbox rule "Meetings" of {ADA}'
    assert former.startswith(f'Remove the inbox rule "Newsletter" of {ADA}, if it is the alert\'s: ')


MADE = rule("New", 60, Name="Newsletter", DeleteMessage="True")
RENAMED = rule("Set", 65, Identity="Newsletter", Name="Meetings", ForwardTo=THIEF)
BACK = rule("Set", 66, Identity="Meetings", Name="Newsletter")
"""What no rule finds: the records of others tell "Meetings" for ever."""
TRAIL = Tenant({}, found("evil", "Newsletter", actions={"delete": True} | sends(THIEF)))


@guarantee(39)
@pytest.mark.parametrize(
    ("of", "beside"),
    [
        ("b02_inbox_rule_hides_mail", "b01_inbox_rule_forwards_outside"),
        ("b01_inbox_rule_forwards_outside", "b02_inbox_rule_hides_mail"),
        ("c01_mailbox_tampering_after_suspicious_signin", "b03_inbox_rule_with_odd_name_or_lure"),
    ],
)
def test_a_rule_that_got_its_old_name_back_unseen_is_removed_by_a_yes(
    tmp_path: Path, of: str, beside: str
) -> None:
    """No plan removed it, and one said that it is called "Meetings" by now."""
    plan = plan_from(tmp_path, of, KIT, MADE, RENAMED, BACK, beside=[beside])

    removed, former = steps(plan, WORD)
    assert removed.title == f'Remove the inbox rule "Meetings" of {ADA}'
    assert not any("It was there before" in note or "made it" in note for note in removed.notes)
    assert former.asks_always
    assert '"Meetings" at 2024-' in former.title
    [deed] = asyncio.run(look(TRAIL, former.operations[0])).deeds
    assert (deed.call.path.rpartition("/")[2], deed.is_meant) == ("evil", True)
    assert goes(plan, WORD, TRAIL) == []


def test_a_name_that_another_alert_alone_tells_of_is_asked_for(tmp_path: Path) -> None:
    """Whoever renamed a rule of that name may have been its owner, and "Meetings" be theirs."""
    plan = plan_from(
        tmp_path, "b02_inbox_rule_hides_mail", MADE, RENAMED, beside=["b01_inbox_rule_forwards_outside"]
    )

    assert [step.asks_always for step in steps(plan, WORD)] == [True, True]
    assert steps(plan, WORD)[0].notes[0].startswith("Another alert alone tells that it was called so, at ")


def test_a_rule_that_an_earlier_alert_saw_made_is_told_with_it(tmp_path: Path) -> None:
    """That alert was over before this one began; whose the rule is stands there."""
    plan = plan_from(
        tmp_path, "b01_inbox_rule_forwards_outside", MADE, RENAMED, beside=["b02_inbox_rule_hides_mail"]
    )

    notes = steps(plan, WORD)[0].notes
    assert any(re.match(r"It was made at .*Z \(alert [0-9a-f]{8}\) and changed since", one) for one in notes)


def with_closed(folder: Path, detection: str, *records: dict[str, Any]) -> Plan:
    """The plan of the alert that joins them, after somebody has closed the alert of that detection."""
    rules = rules_of("c01_mailbox_tampering_after_suspicious_signin")
    kept = detect(folder, written([KIT, *records]), rules)
    [part] = [one for one in kept if one.alert.detection == detection]
    with closing(DetectionState(folder / FILE_NAME)) as state, state.transaction():
        state.alerts.put(replace(part, state=AlertState.CLOSED, reason="done", changed_by="bea"))
    [whole] = [one for one in kept if one.alert.detection == "C01"]
    return plan_of(folder, whole, rules)


def test_a_name_is_given_up_in_an_alert_that_is_closed_as_well(tmp_path: Path) -> None:
    """Somebody has dealt with that rule; the one of its former name is the owner's all the same."""
    made = rule("New", 60, Name="Newsletter", DeleteMessage="True")
    renamed = rule("Set", 65, Identity="Newsletter", Name="Meetings", ForwardTo=THIEF)
    tenant = Tenant({}, found("own", "Newsletter", actions={"delete": True}))

    assert goes(with_closed(tmp_path, "B01", made, renamed), WORD, tenant) == []


def test_a_rule_that_only_a_closed_alert_tells_of_is_left_alone(tmp_path: Path) -> None:
    """The owner's, which a colleague has looked at, is called as the intruder's is."""
    owner_s = rule("New", 60, Name="Bills", DeleteMessage="True")
    evil = rule("New", 65, Name="Bills", ForwardTo=THIEF)
    tenant = Tenant(
        {},
        found("own", "Bills", actions={"delete": True}),
        found("evil", "Bills", actions=sends(THIEF)),
    )

    plan = with_closed(tmp_path, "B02", owner_s, evil)
    assert steps(plan, WORD)[0].asks_always
    assert told(looked_at(plan, WORD, tenant).deeds) == [("own", False), ("evil", True)]


@guarantee(39)
def test_a_doubt_of_one_alert_is_one_of_the_plan(tmp_path: Path) -> None:
    """Which rule the number is, no record tells; and it was not there before, for one of them made it."""
    changed = rule("Set", 62, Identity="..", Name="..", ForwardTo=THIEF)
    renamed = rule("Set", 65, Identity="222", Name="News", ForwardTo=THIEF)
    dots, *_ = steps(joined(tmp_path, HIDES, changed, renamed), WORD)

    assert dots.title == f'Remove the inbox rule ".." of {ADA}'
    assert dots.asks_always
    assert any('may have been called "News" at ' in note for note in dots.notes)
    assert not any(note.startswith("No record that is known made it") for note in dots.notes)


def test_a_record_that_two_alerts_found_is_one(tmp_path: Path) -> None:
    """It makes one rule, which does both."""
    both = rule("New", 60, Name="..", DeleteMessage="True", ForwardTo=THIEF)
    plan = joined(tmp_path, both)
    deletes = found("own", "..", actions={"delete": True})
    does_both = found("evil", "..", actions={"delete": True} | sends(THIEF))

    assert titles(plan, WORD) == [f'Remove the inbox rule ".." of {ADA}']
    assert goes(plan, WORD, Tenant({}, deletes, does_both)) == ["evil"]


OWN = found("own", "..", actions={"delete": True}, conditions={"senderContains": ["shop"]})
EVIL = found("evil", "..", actions={"delete": True})


@guarantee(39)
@pytest.mark.parametrize(
    "second",
    [
        HIDES | {"after": "63m"},
        rule("New", 63, Name="..", DeleteMessage="True", MarkAsRead="True"),
        rule("New", 63, Name="..", MoveToFolder="RSS Feeds"),
    ],
    ids=["the same", "more", "another"],
)
def test_where_a_name_was_given_twice_a_person_picks(tmp_path: Path, second: dict[str, Any]) -> None:
    """That he removed the first in between no rule finds: as many went as he made, the owner's among them."""
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", HIDES, second)

    [step] = steps(plan, WORD)
    assert step.title == f'Remove the inbox rule ".." of {ADA}'
    assert step.asks_always
    assert step.notes[0].startswith("The records tell of several rules of this name")
    assert told(looked_at(plan, WORD, Tenant({}, OWN, EVIL)).deeds) == [("own", False), ("evil", False)]


def added(number: str, at: int) -> dict[str, Any]:
    """A rule that Outlook made, by Outlook's own id."""
    named = {"RuleOperation": "AddMailboxRule", "RuleId": number, "RuleName": ".."}
    return {
        "shape": "outlook_rule",
        "after": f"{at}m",
        "UserId": ADA,
        "MailboxOwnerUPN": ADA,
        "OperationProperties": named | {"RuleActions": '[{"ActionType":"Delete"}]'},
    }


@pytest.mark.parametrize(("there", "gone"), [([EVIL], ["evil"]), ([OWN, EVIL], [])])
def test_two_records_of_one_number_are_of_one_rule(
    tmp_path: Path, there: list[dict[str, Any]], gone: list[str]
) -> None:
    """It was told twice; of two that do the same a person picks all the same."""
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", added("7", 0), added("7", 1))

    assert goes(plan, WORD, Tenant({}, *there)) == gone


def test_a_change_by_the_rule_s_name_alone_is_one_of_that_rule(tmp_path: Path) -> None:
    """Its record has an identity and no name; what an earlier one said of it still holds."""
    plan = plan_from(
        tmp_path,
        "b02_inbox_rule_hides_mail",
        rule("Set", 60, Identity="Bills", DeleteMessage="True"),
        rule("Set", 62, Identity=r"ada\Bills", SoftDeleteMessage="True", MarkAsRead="True"),
    )
    less, more = (
        found(number, "Bills", actions={"delete": True} | also)
        for number, also in (("own", {}), ("evil", {"markAsRead": True}))
    )

    assert set(goes(plan, WORD, Tenant({}, less, more))) == {"evil"}


def lure(folder: Path, **told_of: str) -> Plan:
    """The plan of a rule that looks for mail about money."""
    record = rule("New", 0, Name="Invoices", **told_of)
    return plan_from(folder, "b03_inbox_rule_with_odd_name_or_lure", record)


@guarantee(39)
@pytest.mark.parametrize(
    "told_of", [{"ForwardTo": "bea"}, {"ApplyCategory": "Bills"}, {"StopProcessingRules": "True"}]
)
def test_a_rule_of_which_nothing_can_be_compared_is_asked_for(
    tmp_path: Path, told_of: dict[str, str]
) -> None:
    """Any rule of that name would go, the owner's after a rename that no record tells of."""
    plan = lure(tmp_path, SubjectContainsWords="invoice", **told_of)
    own = found("own", "Invoices", conditions={"subjectContains": ["invoice"]}, actions={"delete": True})

    [step] = steps(plan, WORD)
    assert step.asks_always
    assert any(note.startswith("No record tells what it does") for note in step.notes)
    assert goes(plan, WORD, Tenant({}, own)) == []


@pytest.mark.parametrize(
    ("told_of", "conditions", "is_meant"),
    [
        ({"SubjectContainsWords": "Invoice;wire"}, {"subjectContains": ["wire", "invoice"]}, True),
        ({"SubjectContainsWords": "Invoice;wire"}, {"subjectContains": ["invoice"]}, False),
        ({"SubjectContainsWords": "Invoice"}, {"senderContains": ["shop"]}, False),
        ({"BodyContainsWords": "invoice"}, {"bodyContains": ["invoice"]}, True),
        ({"SubjectOrBodyContainsWords": "invoice"}, {"bodyOrSubjectContains": ["invoice"]}, True),
        ({"SubjectOrBodyContainsWords": "invoice"}, {}, False),
        ({"FromAddressContainsWords": "helpdesk"}, {"senderContains": ["helpdesk"]}, True),
    ],
)
def test_the_words_that_a_rule_looks_for_are_compared(
    tmp_path: Path, told_of: dict[str, str], conditions: dict[str, list[str]], is_meant: bool
) -> None:
    """The owner's of the same name moves other mail into the same folder."""
    plan = lure(tmp_path, MoveToFolder="Archive", **told_of)
    rule_there = found("r1", "Invoices", conditions=conditions, actions={"moveToFolder": "AAMk1"})
    tenant = Tenant({"displayName": "Archive"}, rule_there)

    assert told(looked_at(plan, WORD, tenant).deeds) == [("r1", is_meant)]


def test_whose_mail_outlook_s_rule_is_for_is_no_receiver(tmp_path: Path) -> None:
    """The rule is for the bank's mail, and sends it to one address: it was looked for with two."""
    saved = {
        "Conditions": [{"ConditionType": "From", "Address": "bank@partner.example"}],
        "Actions": [{"ActionType": "Forward", "Recipients": [THIEF]}],
    }
    record = {
        "shape": "outlook_rule",
        "UserId": ADA,
        "MailboxOwnerUPN": ADA,
        "OperationProperties": {
            "RuleOperation": "AddMailboxRule",
            "RuleId": "7",
            "RuleName": "Bills",
            "ServerRule": json.dumps(saved),
            "RuleActions": '[{"ActionType":"Forward"}]',
        },
    }
    plan = plan_from(tmp_path, "b01_inbox_rule_forwards_outside", record)

    assert goes(plan, WORD, Tenant({}, found("r1", "Bills", actions=sends(THIEF)))) == ["r1"]
