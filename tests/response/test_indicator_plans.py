"""Plans for what a list of indicators names: they are about that, and not about who else is in the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from expand import written
from promises import guarantee

from detected import detect, plan_from, plan_of, rules_of, steps, titles
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.response.steps.step import Plan

ADMIN, ADA = "admin@contoso.example", "ada@contoso.example"
BAD_ADDRESS, BAD_DOMAIN, BAD_APP = "203.0.113.66", "rogue.example", "99999999-0000-4000-8000-0000000000bd"
BAD_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
LISTED = Knowledge(
    accepted_domains=frozenset({"contoso.example"}),
    indicators=frozenset({BAD_ADDRESS, BAD_DOMAIN, BAD_APP, BAD_HASH, "a.exe", f"https://{BAD_DOMAIN}/a"}),
)
FORWARDS: dict[str, Any] = {
    "shape": "cmdlet",
    "ObjectId": "bea",
    "Parameters": {"ForwardingSmtpAddress": f"smtp:thief@{BAD_DOMAIN}"},
}


def plan(folder: Path, rule: str, *records: dict[str, Any]) -> Plan:
    """The plan for the only alert of that rule."""
    return plan_from(folder, f"devo_indicator_{rule}", *records, knowledge=LISTED)


@guarantee(38)
def test_who_set_a_forwarding_is_not_blocked_but_the_forwarding_stopped(tmp_path: Path) -> None:
    """The administrator sat in the office; it is the domain that is on the list."""
    found = plan(tmp_path, "forwarding", FORWARDS)

    assert titles(found, "block_address") == []
    [stop] = steps(found, "remove_forwarding")
    assert stop.powershell[-1] == "Set-Mailbox -Identity 'bea' -ForwardingSmtpAddress $null"
    assert [step.title for step in found.steps if "192.0.2.10" in step.title] == []


@pytest.mark.parametrize(
    ("record", "word", "title", "command"),
    [
        (
            FORWARDS,
            "remove_forwarding",
            "See that nothing came of what was tried with the forwarding of bea",
            "Get-Mailbox -Identity 'bea' | Format-List ",
        ),
        (
            {"shape": "cmdlet", "Operation": "New-InboxRule", "UserId": ADA}
            | {"Parameters": {"Name": "x", "Mailbox": ADA, "ForwardTo": f"t@{BAD_DOMAIN}"}},
            "remove_inbox_rule",
            f"See that nothing came of what was tried with the inbox rules of {ADA}",
            f"Get-InboxRule -Mailbox '{ADA}' -IncludeHidden | Format-List ",
        ),
        (
            {"shape": "cmdlet", "Operation": "Set-TransportRule", "ObjectId": "Archive"}
            | {"Parameters": {"Identity": "Archive", "BlindCopyTo": f"t@{BAD_DOMAIN}"}},
            "remove_transport_rule",
            'See that nothing came of what was tried with the transport rule "Archive"',
            "Get-TransportRule | Format-Table ",
        ),
    ],
    ids=["a forwarding", "an inbox rule", "a transport rule"],
)
def test_nothing_is_taken_away_where_what_was_tried_was_refused(
    tmp_path: Path, record: dict[str, Any], word: str, title: str, command: str
) -> None:
    """What is there is not the record's: the owner's own would go."""
    [step] = steps(plan(tmp_path, "forwarding", record | {"ResultStatus": "False"}), word)

    assert (step.title, step.operations) == (title, ())
    assert [line.startswith(command) for line in step.powershell] == [True]


def test_who_only_tried_and_was_refused_is_not_locked_out_unasked(tmp_path: Path) -> None:
    """An administrator at work makes the same record; what was done as well locks out as before."""
    forwards = {"shape": "cmdlet", "Operation": "Set-Mailbox", "UserId": "admin@contoso.example"}
    tried = forwards | {"Parameters": {"Identity": "bea", "ForwardingSmtpAddress": f"smtp:t@{BAD_DOMAIN}"}}
    refused, done = (tried | {"ResultStatus": one} for one in ("False", "True"))

    def asked(folder: str, *records: dict[str, Any]) -> dict[str, bool]:
        (tmp_path / folder).mkdir()
        found = plan(tmp_path / folder, "forwarding", *records)
        return {step.word: step.asks_always for step in found.steps if step.operations}

    assert asked("refused", refused) == {"disable_account": True, "revoke_sessions": True}
    both = asked("both", refused, done | {"after": "1m"})
    assert both == {"disable_account": False, "revoke_sessions": False}


def test_a_name_that_was_refused_is_given_up_by_no_rule(tmp_path: Path) -> None:
    """The rule is called as it was, and goes by that name."""
    rule = {"shape": "cmdlet", "Operation": "New-InboxRule", "UserId": ADA}
    sends = {"Mailbox": ADA, "ForwardTo": f"t@{BAD_DOMAIN}"}
    found = plan(
        tmp_path,
        "forwarding",
        rule | {"Parameters": {"Name": "x"} | sends},
        rule
        | {"after": "5m", "Operation": "Set-InboxRule", "ResultStatus": "False"}
        | {"Parameters": {"Identity": "x", "Name": "y"} | sends},
    )

    assert [(one.title, one.is_by_hand, one.asks_always) for one in steps(found, "remove_inbox_rule")] == [
        (f'Remove the inbox rule "x" of {ADA}', False, False),
        (f"See that nothing came of what was tried with the inbox rules of {ADA}", True, False),
    ]


@guarantee(38)
def test_a_record_with_two_of_the_list_makes_an_alert_for_each(tmp_path: Path) -> None:
    """The forwarding is stopped by the one, and the address blocked by the other: that one alone."""
    rules = rules_of("devo_indicator_seen", "devo_indicator_forwarding")
    record = FORWARDS | {"ClientIP": f"{BAD_ADDRESS}:51334"}
    kept = detect(tmp_path, written([record]), rules, knowledge=LISTED)
    plans = {one.alert.title: plan_of(tmp_path, one, rules) for one in kept}

    assert titles(plans["Indicator match: activity from IP address"], "block_address") == [
        f"Block sign-ins from {BAD_ADDRESS}/32, if it is not {ADMIN}'s"
    ]
    assert titles(plans["Indicator match: mail forwarding destination"], "remove_forwarding") == [
        "Stop bea from forwarding"
    ]
    assert titles(plans["Indicator match: mail forwarding destination"], "block_address") == []


def test_only_the_address_of_the_list_is_blocked(tmp_path: Path) -> None:
    """A sign-in names the proxy before it as well."""
    record = {"shape": "signin", "ClientIP": "192.0.2.10", "ActorIpAddress": BAD_ADDRESS}
    kept = detect(tmp_path, written([record]), rules_of("devo_indicator_seen"), knowledge=LISTED)

    assert [value for one in kept for kind, value in one.alert.entities if kind == "address"] in (
        [],
        [BAD_ADDRESS],
    )


@guarantee(38)
def test_whose_password_was_only_tried_is_not_locked_out(tmp_path: Path) -> None:
    """Anybody can try anybody's."""
    found = plan(tmp_path, "tried", {"shape": "failed"})

    assert {step.word for step in found.steps} == {"block_address"}


def test_where_nothing_says_whether_the_password_was_right_a_person_looks(tmp_path: Path) -> None:
    """A locked account refuses the right one as well."""
    found = plan(tmp_path, "refused", {"shape": "failed", "ErrorNumber": "50053", "LogonError": "IdsLocked"})

    [look] = [step for step in found.steps if step.word != "block_address"]
    assert look.title.startswith(
        "If Entra's log of sign-ins says that the password was right, give the account"
    )
    assert look.operations == ()


@pytest.mark.parametrize("error", ["50055", "50074", "50105", "50131", "53000", "53003", "530032", "500121"])
def test_whose_password_was_right_gets_a_new_one(tmp_path: Path, error: str) -> None:
    """Who is stopped after the password has it, and tries again where no second factor is asked for."""
    rules = rules_of("devo_indicator_tried", "devo_indicator_password_known", "devo_indicator_refused")
    failed = {"shape": "failed", "ErrorNumber": error}
    [kept] = detect(tmp_path, written([failed]), rules, knowledge=LISTED)
    found = plan_of(tmp_path, kept, rules)

    assert {step.word for step in found.steps} == {"reset_password", "revoke_sessions", "block_address"}
    assert kept.alert.severity == "medium"


def test_a_mailbox_rule_of_the_list_is_removed_by_its_name(tmp_path: Path) -> None:
    """And what has to do with transport rules is left out: there is none."""
    rule = {
        "shape": "cmdlet",
        "Operation": "New-InboxRule",
        "UserId": ADA,
        "Parameters": {"Name": "x", "Mailbox": ADA, "ForwardTo": f"t@{BAD_DOMAIN}"},
    }
    found = plan(tmp_path, "forwarding", rule)

    assert titles(found, "remove_inbox_rule") == [f'Remove the inbox rule "x" of {ADA}']
    assert titles(found, "remove_transport_rule") == []


def test_an_application_of_the_list_is_shut_out_by_a_person_s_yes(tmp_path: Path) -> None:
    """Others may work with it; nobody's address is blocked for it."""
    found = plan(tmp_path, "app", {"shape": "signin", "ApplicationId": BAD_APP})

    assert [(one.title, one.asks_always) for one in steps(found, "disable_application")] == [
        (f"Disable the application {BAD_APP}", True)
    ]
    assert titles(found, "disable_account") == titles(found, "block_address") == []
    for word in ("disable_application", "remove_oauth_grant"):
        [step] = steps(found, word)
        assert step.notes[0].startswith("It is on your list of indicators")
        assert not any("Nothing in the alert shows" in one for one in step.notes)


def test_what_was_shared_with_the_list_is_unshared(tmp_path: Path) -> None:
    """Who shared it may have been deceived, and is not locked out."""
    whom = f"buyer@{BAD_DOMAIN}"
    record = {
        "shape": "sharing",
        "Operation": "AddedToSecureLink",
        "TargetUserOrGroupType": "Guest",
        "TargetUserOrGroupName": whom,
    }
    found = plan(tmp_path, "shared", record)

    assert [one.endswith(f"with {whom} no more") for one in titles(found, "remove_sharing")] == [True]
    assert titles(found, "disable_account") == []


def service(operation: str, **more: Any) -> dict[str, Any]:
    """A record of Defender's."""
    kinds = {"TIMailData": 28, "TIUrlClickData": 41, "AtpDetection": 47}
    head = {"shape": "service", "RecordType": kinds[operation], "Workload": "ThreatIntelligence"}
    return head | {"Operation": operation} | more


@guarantee(38)
@pytest.mark.parametrize(
    ("rule", "record", "command"),
    [
        (
            "link_followed",
            service("TIUrlClickData", Url=f"https://{BAD_DOMAIN}/login?x=1", UserIp="192.0.2.10"),
            f"New-TenantAllowBlockListItems -ListType Url -Block -Entries '{BAD_DOMAIN}'",
        ),
        (
            "in_mail_or_file",
            service("AtpDetection", FileData={"FileName": "b.exe", "SHA256": BAD_HASH}),
            f"New-TenantAllowBlockListItems -ListType FileHash -Block -Entries '{BAD_HASH}'",
        ),
        (
            "in_mail_or_file",
            service("TIMailData", P2Sender=f"a@{BAD_DOMAIN}", Subject="Hi", DeliveryAction="Delivered"),
            f"New-TenantAllowBlockListItems -ListType Sender -Block -Entries '{BAD_DOMAIN}'",
        ),
        (
            "in_mail_or_file",
            service("TIMailData", P2Sender="a@partner.example", Subject="Hi", SenderIp=BAD_ADDRESS),
            f"Set-HostedConnectionFilterPolicy -Identity Default -IPBlockList @{{Add = '{BAD_ADDRESS}'}}",
        ),
    ],
    ids=["a link", "a file", "a sender", "a mail server"],
)
def test_what_defender_saw_of_the_list_is_blocked_as_what_it_is(
    tmp_path: Path, rule: str, record: dict[str, Any], command: str
) -> None:
    """No step of its plan says no more than its word."""
    found = plan(tmp_path, rule, record)

    assert [step.powershell for step in steps(found, "block_indicator")] == [(command,)]
    assert [step.title for step in found.steps if not step.operations and not step.powershell] == []


def test_a_link_and_its_host_are_both_blocked_where_both_are_listed(tmp_path: Path) -> None:
    """Each by itself, whichever the alert is of."""
    record = service("TIUrlClickData", Url=f"https://{BAD_DOMAIN}/a")
    rules = rules_of("devo_indicator_link_followed")
    kept = detect(tmp_path, written([record]), rules, knowledge=LISTED)

    for one in kept:
        assert [step.powershell[0] for step in steps(plan_of(tmp_path, one, rules), "block_indicator")] == [
            f"New-TenantAllowBlockListItems -ListType Url -Block -Entries '{BAD_DOMAIN}/a'",
            f"New-TenantAllowBlockListItems -ListType Url -Block -Entries '{BAD_DOMAIN}'",
        ]


@pytest.mark.parametrize("name", ["bill of may", "a.exe"])
def test_what_nothing_can_block_is_looked_for(tmp_path: Path, name: str) -> None:
    """No list goes by the name of a file, which may be that of a host as well."""
    listed = Knowledge(indicators=frozenset({name}))
    record = service("AtpDetection", FileData={"FileName": "b.exe"}, SourceFileName=name)
    found = plan_from(tmp_path, "devo_indicator_in_mail_or_file", record, knowledge=listed)
    [step] = steps(found, "block_indicator")

    assert (step.title, step.powershell) == (f"Find where else {name} is", ())
