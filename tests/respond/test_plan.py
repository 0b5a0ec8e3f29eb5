"""The plan for an alert: each word of the packs has its steps, on the right things."""

from __future__ import annotations

import base64
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from alerts import ANN, APP, make_alert, make_match
from m365watch.detect.alert import Alert, AlertId, Match
from m365watch.detect.containment import WORDS
from m365watch.detect.kept import KeptAlert
from m365watch.detect.library import load_packs
from m365watch.detect.output import FILE_NAME
from m365watch.detect.risk import RISK_RULE_ID
from m365watch.detect.state import DetectionState
from m365watch.respond.hands import BegunBy, beginnings_in
from m365watch.respond.order import WORD_STEPS_MAX
from m365watch.respond.permissions import NEEDED
from m365watch.respond.plan import BUILDERS, plan_response
from m365watch.respond.reading import Told, recall
from m365watch.respond.steps import GraphCall, PartOfIt, Plan, Remove, Revise, Step
from test_quoting import HOSTILE

FULL = {
    "user": ANN,
    "actor": "eve@contoso.example",
    "app": APP,
    "address": "203.0.114.9",
    "mailbox": "bob@contoso.example",
    "grantee": "eve@contoso.example",
    "site": "https://contoso.example/sites/a",
    "policy": "Safe links",
    "domain": "contoso.example",
    "guest": "mallory@fabrikam.example",
    "sender": "mallory@fabrikam.example",
    "recipient": "mallory@fabrikam.example",
}
FIELDS = {
    "ObjectId": "https://contoso.example/sites/a/b.docx",
    "Subject": "Invoice",
    "m365.indicator": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "Parameters.Name": "..",
    "m365.outside_members": "mallory@fabrikam.example",
    "ModifiedProperties.Role.DisplayName.new": "Global Administrator",
}


def plan(*words: str, fields: dict[str, str] | None = None, **entities: str) -> Plan:
    """The plan for an alert with these words."""
    return plan_response(make_alert(*words, **entities), [make_match(fields)] if fields else [])


def test_every_word_of_the_packs_has_a_step() -> None:
    """A rule that names a way to contain is not left alone with it."""
    words = {word for rule in load_packs(("core", "devo")).rules for word in rule.extension.contain}

    assert {word for word in words if " " not in word} == set(BUILDERS) == WORDS


@pytest.mark.parametrize("word", sorted(BUILDERS))
def test_every_word_says_what_to_do_where_all_is_known(word: str) -> None:
    """Graph, PowerShell or a note in words; and permissions exactly where Graph is asked."""
    steps = plan(word, fields=FIELDS, **FULL).steps

    assert steps
    for step in steps:
        assert step.word == word
        assert step.title
        assert step.operations or step.powershell
        assert bool(step.operations) == bool(step.permissions)
        assert step.operations or any(
            one.startswith("By hand") or "PowerShell only" in one for one in step.notes
        )


@pytest.mark.parametrize("word", sorted(BUILDERS))
def test_no_word_is_dropped_in_silence_where_nothing_is_known(word: str) -> None:
    """An alert without a name gives a step that says so, and no command with a hole in it."""
    steps = plan(word).steps

    assert steps
    assert all("''" not in line for step in steps for line in step.powershell)
    assert all(step.operations == () for step in steps)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_never_leaves_its_string(value: str) -> None:
    """Outside of strings and comments PowerShell sees the same, whatever the values are."""
    for word in BUILDERS:
        harmless = dict.fromkeys((*FIELDS, "SiteUrl"), "https://contoso.example/x")
        hostile = dict.fromkeys(harmless, value)
        names = dict.fromkeys(FULL, value)
        for step in plan(word, fields=hostile, **names).steps:
            for line in step.powershell:
                assert value not in outside_strings(line) or value in {"# comment", "--%", "@{a=1}"}
                assert not re.search("Stop-Computer|iex|ceo|env:", outside_strings(line))
            for call in step.calls:
                assert "ceo" not in call.path.replace("%2Fceo", "").replace("%20ceo", "")


def outside_strings(line: str) -> str:
    """The line without its strings in single quotes, as PowerShell would see it."""
    kept, inside, place = "", False, 0
    marks = "'\u2018\u2019\u201a\u201b"
    while place < len(line):
        if line[place] in marks:
            if inside and line[place + 1 : place + 2] and line[place + 1] in marks:
                place += 2
                continue
            inside = not inside
        elif not inside:
            kept += line[place]
        place += 1
    assert not inside, line
    return kept


def test_sessions_are_ended_for_the_account_and_for_who_acted() -> None:
    """Both are asked for; the title says which is which."""
    steps = plan("revoke_sessions", user=ANN, actor="eve@contoso.example").steps

    assert [step.title for step in steps] == [
        "End all sessions of ann@contoso.example",
        "End all sessions of eve@contoso.example (who did it)",
    ]
    assert steps[0].calls == (GraphCall("POST", "/users/ann%40contoso.example/revokeSignInSessions"),)
    assert not steps[0].can_be_undone


def test_a_guest_s_name_is_encoded() -> None:
    """#EXT# would be a fragment."""
    step = plan("disable_account", user="bob_x.example#EXT#@contoso.example").steps[0]

    assert step.operations == (
        Revise("/users/bob_x.example%23EXT%23%40contoso.example", {"accountEnabled": False}, locks_out=True),
    )
    assert step.can_be_undone


def test_an_inbox_rule_is_removed_by_its_name_from_its_mailbox() -> None:
    """Each from where it was made; without a name a person picks."""
    matches = [
        make_match({"Parameters.Name": "..", "Parameters.Mailbox": "bob@contoso.example"}),
        make_match({"Parameters.Identity": "it's"}, after_ms=1),
    ]
    named = plan_response(make_alert("remove_inbox_rule", user=ANN), matches).steps
    unnamed = plan("remove_inbox_rule", user=ANN).steps

    assert [step.title for step in named] == [
        'Remove the inbox rule ".." of bob@contoso.example',
        'Remove the inbox rule "it\'s" of ann@contoso.example',
    ]
    operation = named[0].operations[0]
    assert isinstance(operation, Remove)
    assert operation.wanted == (("displayName", ".."),)
    assert (
        named[1]
        .powershell[-1]
        .endswith(": Remove-InboxRule -Mailbox 'ann@contoso.example' -Identity 'it''s' -Confirm:$false")
    )
    assert isinstance(unnamed[0].operations[0], Remove)
    assert unnamed[0].operations[0].wanted == ()


BOB, EVE, FRED = "bob@contoso.example", "eve@contoso.example", "fred@contoso.example"


def of_two_records(word: str, first: dict[str, str], second: dict[str, str], **kinds: str) -> list[Step]:
    """The steps of an alert of two records; `kinds` name the field of each kind of entity."""
    alert = replace(
        make_alert(word),
        count=2,
        entities=tuple((kind, one[field]) for kind, field in kinds.items() for one in (first, second)),
    )
    return list(plan_response(alert, [make_match(first), make_match(second, after_ms=1)]).steps)


def test_nobody_loses_what_only_another_record_gave() -> None:
    """Two administrators of two sites are two steps and not four; so are members, rights and roles."""
    site, lunch = "https://contoso.example/sites/a", "https://contoso.example/sites/lunch"
    admins = of_two_records(
        "remove_site_admin", {"s": site, "g": EVE}, {"s": lunch, "g": FRED}, site="s", grantee="g"
    )
    rights = of_two_records(
        "remove_mailbox_permission",
        {"m": BOB, "Parameters.User": EVE, **_granted("Add-MailboxPermission")},
        {"m": ANN, "Parameters.Trustee": FRED, **_granted("Add-RecipientPermission")},
        mailbox="m",
    )
    group = "ModifiedProperties.Group.DisplayName.new"
    members = of_two_records(
        "remove_group_member", {"u": EVE, group: "Admins"}, {"u": FRED, group: "Lunch"}, user="u"
    )

    assert [step.title for step in admins] == [
        f"Make {EVE} administrator of {site} no more",
        f"Make {FRED} administrator of {lunch} no more",
    ]
    assert [step.title for step in rights] == [
        f"Take FullAccess on {BOB} away from {EVE}",
        f"Let {FRED} send as {ANN} no more",
    ]
    assert [one.wanted for step in members for one in step.operations if isinstance(one, Remove)] == [
        (("displayName", "Admins"),),
        (("displayName", "Lunch"),),
    ]


def _granted(operation: str) -> dict[str, str]:
    return {"Operation": operation, "Parameters.AccessRights": "FullAccess"}


def test_each_record_says_its_rule_in_its_own_field() -> None:
    """One command names the transport rule by Name, the next by Identity: both go."""
    steps = of_two_records(
        "remove_transport_rule", {"Parameters.Name": "."}, {"Parameters.Identity": "Old rule"}
    )

    assert [step.title for step in steps] == [
        'See whose transport rule "." is, and what was done to it',
        'See whose transport rule "Old rule" is, and what was done to it',
    ]


def one_record(word: str, fields: dict[str, str], **kinds: str) -> list[Step]:
    """The steps of an alert of one record, about these entities."""
    return list(plan_response(make_alert(word, **kinds), [make_match(fields)]).steps)


EVIL = "help@evil.example"


def test_the_outsider_s_organisation_is_shut_out_and_never_one_s_own() -> None:
    """A guest's account is disabled besides; where nobody is known to be outside, nobody is shut out."""
    name = "eve_evil.example#EXT#@contoso.example"
    fields = {"Members.UPN": f"{name}, {ANN}"}
    [disabled, shut_out] = one_record("block_external_user", fields, guest=name, domain="evil.example")
    outside = {"m365.outside_members": EVIL, "m365.foreign_domains": "evil.example"}
    [stranger] = one_record("block_external_user", outside, guest=EVIL, domain="evil.example")
    [unknown] = one_record("block_external_user", {"Members.UPN": ANN}, user=ANN, guest=ANN)

    assert stranger.title == "Shut evil.example out of Teams"
    assert disabled.title == "Disable the guest eve_evil.example#EXT#@contoso.example"
    assert disabled.can_be_undone
    assert shut_out.title == "Shut evil.example out of Teams"
    assert unknown.powershell == ()


@pytest.mark.parametrize(
    "sender", ["help@contoso.onmicrosoft.com", "help@contoso.de", "eve_evil.example#EXT#@contoso.example"]
)
def test_a_domain_of_which_nothing_says_whose_it_is_is_looked_at_first(sender: str) -> None:
    """Neither the record nor a setting tells: it may be one's own first domain, or a second one."""
    steps = one_record("block_external_user", {"UserId": sender}, sender=sender)
    [step] = [one for one in steps if not one.title.startswith("Disable the guest")]

    assert step.title.startswith("See whether ")
    assert step.title.endswith(" is yours, before anything is done to it")
    assert step.is_by_hand
    assert not [line for line in step.powershell if "Block" in line]


def test_whoever_has_mail_from_a_provider_for_all_is_no_organisation() -> None:
    """Millions have nothing to do with it."""
    name = "eve_gmail.com#EXT#@contoso.example"

    assert [one.title for one in one_record("block_external_user", {}, guest=name, domain="gmail.com")] == [
        f"Disable the guest {name}"
    ]


def test_a_rule_in_another_s_mailbox_is_never_looked_for_in_one_s_own() -> None:
    """Named by an alias, which Graph does not know, it is removed by hand; a path is no part of its name."""
    [of_other] = one_record("remove_inbox_rule", {"Parameters.Name": "a"}, user=ANN, mailbox="ceo")
    [of_own] = one_record("remove_inbox_rule", {"Parameters.Identity": r"ann\Bills"}, user=ANN, mailbox="ann")

    assert of_other.is_by_hand
    assert of_other.powershell[-1].endswith(": Remove-InboxRule -Mailbox 'ceo' -Identity 'a' -Confirm:$false")
    [with_mark] = one_record("remove_inbox_rule", {"Parameters.Name": r"a\b"}, user=ANN)

    assert of_own.title == f'Remove the inbox rule "Bills" of {ANN}'
    assert with_mark.title == rf'Remove the inbox rule "a\b" of {ANN}'
    assert [one.wanted for one in of_own.operations if isinstance(one, Remove)] == [
        (("displayName", "Bills"),)
    ]


@pytest.mark.parametrize(
    ("operation", "title", "last"),
    [
        ("New-TransportRule", 'Disable the transport rule "x", then remove it', "# and then: Remove-"),
        ("Set-TransportRule", 'Put the transport rule "x" back as it was', "# if it is not yours: Disable-"),
        (
            "Disable-TransportRule",
            'See whose transport rule "x" is; enable it again if it is yours',
            "# if it is yours: Enable-",
        ),
        (
            "Remove-TransportRule",
            'See whose transport rule "x" was; make it again if it was yours',
            "Get-TransportRule",
        ),
    ],
)
def test_one_s_own_transport_rule_is_not_removed(operation: str, title: str, last: str) -> None:
    """Only what is new is removed; whose it was that somebody switched off, no record says."""
    [step] = one_record("remove_transport_rule", {"Operation": operation, "Parameters.Identity": "x"})

    assert step.title == title
    assert step.powershell[-1].startswith(last)


def test_a_connector_is_removed_only_where_it_is_new() -> None:
    """And by the commands of its kind alone, which may share a name with the other."""
    [new] = one_record("remove_connector", {"Operation": "New-InboundConnector", "Parameters.Name": "x"})
    [changed] = one_record(
        "remove_connector", {"Operation": "Set-OutboundConnector", "Parameters.Identity": "x"}
    )

    assert new.powershell == (
        "Get-InboundConnector -Identity 'x' | Format-List",
        "# if it does what the record tells: Set-InboundConnector -Identity 'x' -Enabled $false",
        "# and then: Remove-InboundConnector -Identity 'x' -Confirm:$false",
    )
    assert changed.powershell == (
        "Get-OutboundConnector -Identity 'x' | Format-List",
        "# if it is not yours: Set-OutboundConnector -Identity 'x' -Enabled $false",
    )


def test_microsoft_s_own_services_are_never_disabled() -> None:
    """An alert may name Exchange itself as what was signed in to."""
    [step] = plan("disable_application", app="00000002-0000-0ff1-ce00-000000000000").steps

    assert (step.operations, step.powershell) == ((), ())


def test_nobody_s_own_domain_is_shut_out() -> None:
    """A guest may have been a colleague once: the domain is that of whoever let them in."""
    name = "bob_contoso.example#EXT#@contoso.onmicrosoft.example"
    steps = one_record("block_external_user", {"Members.UPN": name}, guest=name, user=ANN)

    assert [step.title for step in steps] == [f"Disable the guest {name}"]


def test_each_owner_of_an_application_is_removed() -> None:
    """Two were added: each has a step with its name."""
    steps = of_two_records("remove_owner", {"o": EVE, "a": APP}, {"o": FRED, "a": APP}, owner="o", app="a")

    assert [step.title.partition(" of the")[0] for step in steps] == [
        f"Remove the owner {EVE}",
        f"Remove the owner {FRED}",
    ]


def test_no_link_is_taken_away_that_somebody_was_given_by_name() -> None:
    """PowerShell removes one link by its id; without one it would take all of the file's."""
    [step] = one_record("disable_anonymous_link", {"ObjectId": "https://contoso.example/sites/a/b.docx"})

    assert step.powershell[-1] == ("Remove-PnPFileSharingLink -FileUrl '/sites/a/b.docx' -Identity ID -Force")


def test_who_joined_a_role_group_leaves_it() -> None:
    """And not whoever let them in; a role that was assigned is taken away by its name."""
    joined_group = {"Parameters.Identity": "Organization Management", "Parameters.Member": "fred"}
    [left] = one_record("remove_role", joined_group, user=ANN, grantee="fred")
    [unassigned] = one_record("remove_role", {"Parameters.Role": "Import"}, user=ANN, grantee="fred")

    assert left.title == 'Take fred out of the role group "Organization Management"'
    assert left.powershell[-1].startswith("Remove-RoleGroupMember -Identity 'Organization Management'")
    assert unassigned.title == 'Take the Exchange role "Import" away from fred'


def test_a_folder_without_its_mailbox_or_path_has_commands_all_the_same() -> None:
    """What one cmdlet took the other takes; where no folder is named, each is looked at."""
    [by_name] = one_record(
        "remove_mailbox_permission", {"Parameters.Identity": "hal", "Parameters.User": "Anonymous"}, user=ANN
    )
    [no_path] = one_record(
        "remove_mailbox_permission", {"Item.ParentFolder.MemberUpn": "Everyone"}, mailbox=BOB
    )

    assert by_name.powershell[-1] == (
        "Set-MailboxFolderPermission -Identity 'hal' -User 'Anonymous' -AccessRights None"
    )
    assert no_path.title == f"Find the folders of {BOB} that are open to Everyone, and close them"
    assert f"('{BOB}' + ':' + $_.FolderPath.Replace('/', '\\'))" in no_path.powershell[0]
    assert no_path.powershell[-1].endswith("-User 'Default' -AccessRights None")


def test_a_folder_is_closed_to_those_whom_no_list_of_delegates_shows() -> None:
    """Remove-MailboxPermission would take nothing from Default."""
    [by_command] = one_record(
        "remove_mailbox_permission",
        {"Parameters.Identity": r"hal:\Inbox", "Parameters.User": "Default"},
        user=ANN,
    )
    [in_mailbox] = one_record(
        "remove_mailbox_permission",
        {"Item.ParentFolder.Path": r"\Inbox", "Item.ParentFolder.MemberUpn": "Everyone"},
        mailbox=BOB,
    )

    assert by_command.powershell[-1] == (
        r"Set-MailboxFolderPermission -Identity 'hal:\Inbox' -User 'Default' -AccessRights None"
    )
    assert in_mailbox.powershell[-1] == (
        rf"Set-MailboxFolderPermission -Identity '{BOB}:\Inbox' -User 'Default' -AccessRights None"
    )


def test_a_file_is_removed_by_its_path_on_the_server() -> None:
    """PnP takes no address; whether %20 is a blank, the file's own name tells."""
    address = "https://contoso.example/sites/a/b%20c.docx"
    [by_address] = one_record("remove_file", {"ObjectId": address, "SourceFileName": "b c.docx"})
    [really] = one_record("remove_file", {"ObjectId": address, "SourceFileName": "b%20c.docx"})
    [unknown] = one_record("remove_file", {"ObjectId": address})
    [by_path] = one_record("remove_file", {"ObjectId": "Shared Documents/b.docx"})
    [as_shown] = one_record("remove_file", {"ObjectId": "https://contoso.example/sites/a/x #1 50%20.docx"})

    assert by_address.powershell == ("Remove-PnPFile -ServerRelativeUrl '/sites/a/b c.docx' -Recycle",)
    assert really.powershell == ("Remove-PnPFile -ServerRelativeUrl '/sites/a/b%20c.docx' -Recycle",)
    assert (unknown.powershell, unknown.operations) == ((), ())
    assert as_shown.powershell == ("Remove-PnPFile -ServerRelativeUrl '/sites/a/x #1 50%20.docx' -Recycle",)
    assert by_path.powershell == ("Remove-PnPFile -SiteRelativeUrl 'Shared Documents/b.docx' -Recycle",)


def test_no_other_file_s_links_are_removed_for_one_with_a_mark_in_its_name() -> None:
    """Graph decodes an address: what is really called 50%20 off, or #1, has to be encoded first."""
    shown = "https://contoso.example/sites/a/#1 50%20 off.docx"
    [step] = one_record("disable_anonymous_link", {"ObjectId": shown})
    [unknown] = one_record("disable_anonymous_link", {"ObjectId": "https://contoso.example/a%20b.docx"})
    share = step.calls[0].path.removeprefix("/shares/u!").partition("/")[0]

    assert base64.urlsafe_b64decode(share + "==").decode() == (
        "https://contoso.example/sites/a/%231%2050%2520%20off.docx"
    )
    assert unknown.is_by_hand
    assert unknown.powershell == ()


def test_a_file_of_which_only_the_name_is_known_is_looked_for() -> None:
    """In the root of the site another may be called so."""
    [step] = one_record("remove_file", {}, file="plan.docx")

    assert step.powershell == ("Find-PnPFile -Match 'plan.docx'",)


def test_a_policy_is_named_as_people_know_it() -> None:
    """Where it has no new name, by the one that it has, and not by its id."""
    [step] = one_record(
        "restore_policy", {"m365.target_name": "Require MFA", "ObjectId": "pid"}, policy="pid"
    )

    assert step.title == 'Put the policy "Require MFA" back'


def begins(*numbers: int) -> BegunBy:
    """The parts of these numbers are those with which the story begins."""
    return lambda _rule: frozenset(f"part {number}" for number in numbers)


def of_nobody(*contain: str, users: tuple[str, ...]) -> Alert:
    """An alert over records of no group."""
    return replace(make_alert(*contain), group=(), entities=tuple(("user", one) for one in users))


def test_an_intruder_s_two_accounts_are_asked_about_and_never_done_unasked() -> None:
    """One weakened it, the other attacked, both from one address: an intruder, or an office."""
    matches = joined(
        make_match({"UserId": BOB, "m365.ip": "203.0.113.9"}),
        make_match({"UserId": EVE, "m365.ip": "203.0.113.9"}, after_ms=1),
        make_match({"UserId": ANN, "m365.ip": "198.51.100.7"}, after_ms=2),
        make_match({"UserId": FRED, "m365.ip": "10.0.0.1"}, after_ms=3),
    )
    alert = of_nobody("disable_account", "block_address", users=(BOB, EVE, ANN, FRED))
    steps = plan_response(alert, matches, begun_by=begins(0)).steps
    disabled = [one for one in steps if one.word == "disable_account"]

    assert [one.title.partition(" (")[0] for one in disabled] == [
        f"Disable the account {BOB}",
        f"Disable the account {EVE}",
        f"See whether {ANN} has a part in it, before anything is done to it",
        f"See whether {FRED} has a part in it, before anything is done to it",
    ]
    assert [one.asks_always for one in disabled] == [True, True, False, False]
    assert [one.title for one in steps if "Block" in one.title] == ["Block sign-ins from 203.0.113.9/32"]


@pytest.mark.parametrize("private", ["10.0.0.1", "", "fe80::1"])
def test_an_address_that_is_nobody_s_ties_nobody(private: str) -> None:
    """Records of Microsoft's own machines have one of theirs."""
    matches = joined(
        make_match({"UserId": BOB, "m365.ip": private}),
        make_match({"UserId": EVE, "m365.ip": private}, after_ms=1),
    )
    plan = plan_response(of_nobody("disable_account", users=(BOB, EVE)), matches, begun_by=begins(0))

    assert all(one.title.startswith("See whether") for one in plan.steps)


def test_who_is_tied_is_told_by_the_rule_and_by_nothing_else() -> None:
    """Of a rule that is gone nobody is; of one without an order who did two different things."""
    matches = joined(
        make_match({"UserId": EVE}), make_match({"UserId": EVE}, after_ms=1), make_match({"UserId": BOB})
    )
    alert = of_nobody("disable_account", users=(EVE, BOB))

    unknown = plan_response(alert, matches).steps
    unordered = plan_response(alert, matches, begun_by=begins()).steps
    assert all(one.is_by_hand for one in unknown)
    assert [one.title for one in unordered if not one.is_by_hand] == [f"Disable the account {EVE}"]


def test_the_beginning_of_c04_is_how_the_logging_was_weakened() -> None:
    """And none of the attacks that follow, whatever their rules have for containment."""
    library = load_packs(("core", "devo"))
    [rule] = library.find("C04")
    begun = beginnings_in(library.by_id())(rule.id)

    assert begun is not None
    assert {str(library.by_id()[one].extension.detection) for one in begun} == {
        "D01",
        "D02",
        "D03",
        "D04",
        "D05",
    }
    assert beginnings_in(library.by_id())("no such rule") is None


def test_only_who_both_began_and_went_on_is_locked_out() -> None:
    """An alert of no group joins what anybody did that day: a person looks at the others first."""
    matches = joined(
        make_match({"UserId": BOB}),
        make_match({"UserId": EVE}, after_ms=1),
        make_match({"UserId": EVE}, after_ms=2),
        make_match({"UserId": ANN}, after_ms=3),
    )
    weakened = [part(0, "restore_audit", user=BOB), part(1, "restore_audit", user=EVE)]
    attacked = [part(2, "remove_transport_rule", user=EVE), part(3, "remove_site_admin", user=ANN)]
    alert = replace(
        make_alert("restore_audit", "disable_account"),
        group=(),
        entities=(("user", BOB), ("user", EVE), ("user", ANN)),
    )
    steps = plan_response(alert, matches, [*weakened, *attacked], begun_by=begins(0, 1)).steps

    assert [step.title for step in steps if step.word == "disable_account"] == [
        f"Disable the account {EVE}",
        f"See whether {BOB} has a part in it, before anything is done to it",
        f"See whether {ANN} has a part in it, before anything is done to it",
    ]
    assert [step.title for step in steps if not step.is_by_hand] == [f"Disable the account {EVE}"]


def test_what_records_said_that_are_forgotten_is_not_guessed() -> None:
    """Which of two persons was given which of two sites only the records knew."""
    alert = replace(
        make_alert("remove_site_admin"),
        count=2,
        entities=(("site", "https://a.example"), ("site", "https://b.example"), ("grantee", EVE)),
    )
    [step] = plan_response(alert).steps

    assert step.powershell == ()
    assert "does not name" in step.notes[0]


def test_an_application_loses_its_role_and_has_no_account() -> None:
    """It has neither sessions nor devices; who gave it the role has."""
    fields = {"ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
    [role] = one_record("remove_role", fields, app=f"ServicePrincipal_{APP}", actor=EVE)
    [disabled] = one_record("disable_account", fields, app=f"ServicePrincipal_{APP}", actor=EVE)

    assert (
        role.title
        == f"Remove the role Global Administrator of the application whose service principal is {APP}"
    )
    assert role.calls[0] == GraphCall("GET", f"/servicePrincipals/{APP}?$select=id")
    assert disabled.title == f"Disable the account {EVE} (who did it)"


def test_a_service_is_no_account() -> None:
    """Nothing is done to a name that Graph does not know; the plan says so."""
    found = plan("revoke_sessions", user="NT AUTHORITY\\SYSTEM")

    assert found.steps == ()
    assert found.notes == ("neither the rule nor the alert names what could be contained",)


@pytest.mark.parametrize("word", sorted(BUILDERS))
def test_no_step_says_no_more_than_its_word(word: str) -> None:
    """Of whatever an alert lacks, the step says what to look for."""
    for step in plan(word, fields={"Operation": "Something else"}).steps:
        assert step.title.lower() != word.replace("_", " ")
        assert any(len(note) > len("By hand.") for note in step.notes)


@pytest.mark.parametrize("user", ["S-1-5-21-1000-2000-3000-1001", "Ann"])
def test_who_is_named_by_no_account_is_looked_for(user: str) -> None:
    """It may be one of yours all the same."""
    [step] = plan("revoke_sessions", user=user).steps

    assert step.title == "Find the account, and end its sessions"
    assert (step.calls, step.powershell) == ((), ())
    assert step.notes[0].startswith("By hand: the alert names no account")


def test_a_rule_of_one_s_own_may_name_a_word_of_its_own() -> None:
    """It is shown, and not taken for done."""
    step = plan("Call the police", user=ANN).steps[0]

    assert step.title == "Call the police"
    assert step.is_by_hand


def test_a_private_address_is_not_blocked() -> None:
    """It is the organisation's own, or nobody's."""
    [step] = plan("block_address", address="10.0.0.1").steps

    assert step.powershell == ()
    assert step.title == "See who is behind 10.0.0.1"


@pytest.mark.parametrize("address", ["203.0.113.241", "2001:db8::1", "8.8.8.8"])
def test_a_stranger_s_address_is_blocked(address: str) -> None:
    """Also one of those of the simulated tenant, of which 'whoever is behind it is near' was said."""
    [step] = plan("block_address", address=address).steps

    assert step.title.startswith(f"Block sign-ins from {address}/")


def test_an_alert_whose_rule_names_nothing_has_the_usual_steps() -> None:
    """Risk that adds up over rules, and rules that know nothing of us."""
    found = plan(user=ANN, app=APP)

    words = [
        "disable_account",
        "disable_application",
        "reset_password",
        "revoke_sessions",
        "remove_oauth_grant",
    ]
    assert [step.word for step in found.steps] == words
    assert "usual" in found.notes[0]
    assert plan().notes == ("neither the rule nor the alert names what could be contained",)


def test_of_roles_the_one_that_was_given_goes() -> None:
    """The others are the account's own."""
    fields = {"ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
    [step] = plan("remove_role", fields=fields, user=ANN).steps

    assert step.title == f"Remove the role Global Administrator of {ANN}"
    assert isinstance(step.operations[0], Remove)
    assert step.operations[0].wanted == (("roleDefinition.displayName", "Global Administrator"),)


def test_everybody_whom_an_alert_names_is_in_its_plan() -> None:
    """And whoever it has no room for is told of: half of a containment looks like the whole."""
    names = [f"u{number}@contoso.example" for number in range(30)]
    alert = replace(
        make_alert("reset_password"),
        entities=tuple(("user", name) for name in names),
        unnamed=(("user", 7),),
    )
    found = plan_response(alert)

    assert [step.title for step in found.steps] == [f"Give {name} a new password" for name in names]
    assert found.notes == ("not in this plan: 7 more users are not named here; its records name them.",)


def joined(*sources: Match) -> list[Match]:
    """Matches of an alert that joins these of other rules."""
    return [
        msgspec.structs.replace(one, source_id=f"part {n}", identity=f"{n:x}".rjust(32, "f"))
        for n, one in enumerate(sources)
    ]


def part(number: int, *words: str, fields: dict[str, str] | None = None, **entities: str) -> Told:
    """An alert that is joined, of the rule of that number."""
    alert = replace(make_alert(*words, **entities), id=AlertId(f"{number:032x}"), rule_id=f"part {number}")
    return Told(alert, [make_match(fields)] if fields else [])


FILE = "https://contoso.example/sites/a/Budget signed 21.xlsx"


def test_a_file_is_no_policy_where_an_alert_joins_both() -> None:
    """An object's name means another thing in each of the joined records: it names nothing then."""
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    alert = make_alert("restore_policy", user=ANN)

    [unnamed] = plan_response(alert, matches).steps
    [of_one_kind] = plan_response(alert, [make_match({"ObjectId": "Safe links"})]).steps

    assert unnamed.title == "Put the policy back that was changed"
    assert of_one_kind.title == 'Put the policy "Safe links" back'


def test_an_alert_that_joins_others_does_what_each_of_them_knows() -> None:
    """The policy is that of the alert on policies; what the others would do beside it is named."""
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    parts = [
        part(0, "restore_policy", policy="Safe links", user=ANN),
        part(1, "disable_anonymous_link", "restore_policy", fields={"ObjectId": FILE}),
    ]
    found = plan_response(make_alert("restore_policy", "revoke_sessions", user=ANN), matches, [parts[0]])

    assert [step.title for step in found.steps] == [
        f"End all sessions of {ANN}",
        'Put the policy "Safe links" back',
    ]
    assert found.parts == ()
    assert plan_response(make_alert("restore_policy"), matches, parts).parts == (
        PartOfIt(parts[1].alert.id, "Something happened", ("disable_anonymous_link",)),
    )


def test_nothing_is_put_back_that_none_of_the_joined_alerts_has_touched() -> None:
    """As long as each of them is known; a word of one's own stays."""
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    alert = make_alert("restore_policy", "Call the police", user=ANN)
    parts = [part(0, "revoke_sessions", user=ANN), part(1, "disable_anonymous_link")]

    assert [one.word for one in plan_response(alert, matches, parts).steps] == ["Call the police"]
    assert [one.word for one in plan_response(alert, matches, parts[:1]).steps] == list(alert.contain)


def test_joined_accounts_are_those_of_the_alert_itself() -> None:
    """Whom a joined alert names beside may have had nothing to do with it."""
    matches = joined(make_match({"UserId": ANN}), make_match({"UserId": "bob@contoso.example"}))
    parts = [part(0, "disable_account", user=ANN), part(1, "disable_account", user="eve@contoso.example")]

    assert [
        one.title for one in plan_response(make_alert("disable_account", user=ANN), matches, parts).steps
    ] == [f"Disable the account {ANN}"]


def test_what_two_joined_alerts_found_has_one_step() -> None:
    """Two rules of detection found the same inbox rule: it is removed once."""
    parts = [
        part(0, "remove_inbox_rule", fields={"Parameters.Name": "."}, user=ANN),
        part(1, "remove_inbox_rule", fields={"Parameters.Name": "."}, user=ANN),
        part(1, "remove_inbox_rule", fields={"Parameters.Name": ".."}, user=ANN),
        part(1, "remove_inbox_rule", fields={"Parameters.Name": "x"}, user="bob@contoso.example"),
    ]
    found = plan_response(make_alert("remove_inbox_rule", user=ANN), joined(*parts[0].matches), parts)

    assert [step.title for step in found.steps] == [
        f'Remove the inbox rule "." of {ANN}',
        f'Remove the inbox rule ".." of {ANN}',
        'Remove the inbox rule "x" of bob@contoso.example',
    ]


def test_a_mailbox_that_is_named_twice_has_one_step() -> None:
    """By its alias and by its address."""
    parts = [
        part(0, "remove_inbox_rule", mailbox="ann", user=ANN),
        part(0, "remove_inbox_rule", mailbox=ANN, user="eve@contoso.example"),
    ]

    [step] = plan_response(make_alert("remove_inbox_rule"), joined(make_match({"x": "y"})), parts).steps

    assert step.title == f"Remove bad inbox rules of {ANN}"


def test_whose_second_factor_was_changed_is_no_policy() -> None:
    """Rules on protection name a person or a policy as what was changed."""
    assert plan("restore_policy", target=ANN).steps == ()
    assert plan("restore_policy", target="Safe links").steps != ()


def test_an_alert_s_parts_are_read_with_it(tmp_path: Path) -> None:
    """Those of the rules that its matches come from, about the same records; no other alert."""
    alert = make_alert("restore_policy", user=ANN)
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    own = replace(part(0).alert, group=("ann", "1"))
    strange = replace(part(1).alert, evidence=("another record",))
    with closing(DetectionState(tmp_path / FILE_NAME)) as state, state.transaction():
        state.matches.add(matches)
        for one in (alert, own, strange):
            state.alerts.put(KeptAlert(one, shown=True))
    recalled = recall(tmp_path, KeptAlert(alert, shown=True))

    assert [one.identity for one in recalled.matches] == [one.identity for one in matches]
    assert [one.alert.id for one in recalled.parts] == [own.id]


def test_the_plan_is_bounded_and_says_so() -> None:
    """An alert over a thousand rules has a plan that can be read, and the account is in it."""
    fields = [make_match({"ObjectId": f"rule {n}"}, after_ms=n) for n in range(1000)]
    found = plan_response(make_alert("remove_transport_rule", "revoke_sessions", user=ANN), fields)

    assert [step.word for step in found.steps] == [
        "revoke_sessions",
        *["remove_transport_rule"] * WORD_STEPS_MAX,
    ]
    assert "950 more steps (remove transport rule) have no room here" in found.notes[0]


def test_the_page_lists_the_permissions_of_every_step() -> None:
    """Whoever consents reads them there."""
    page = (Path(__file__).parents[2] / "docs" / "respond.md").read_text(encoding="utf-8")
    section = page.partition("## What each step needs")[2].partition("\n### ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    told = {word: set(row[2].strip().split(", ")) for row in rows for word in re.findall("`(.+?)`", row[1])}
    no_exchange = {kind: value for kind, value in FULL.items() if kind != "grantee"}
    needed = {word: plan(word, fields=FIELDS, **no_exchange).permissions for word in BUILDERS}

    assert told == {word: set(names) for word, names in needed.items() if names} == NEEDED


def test_the_page_says_of_every_call_whether_it_is_documented() -> None:
    """A call that is new, or goes elsewhere, has to be looked up and written down."""
    page = (Path(__file__).parents[2] / "docs" / "respond.md").read_text(encoding="utf-8")
    told = page.partition("### What was compared")[2]
    no_exchange = {kind: value for kind, value in FULL.items() if kind != "grantee"}
    steps = [step for word in BUILDERS for step in plan(word, fields=FIELDS, **no_exchange).steps]
    calls = {call.path.partition("?")[0] for step in steps for one in step.operations for call in one.calls}

    rooms = {re.sub(r"\{.*?\}|\(.*?\)", "", path).strip("/").split("/")[-1] for path in calls}
    named = {room for room in rooms if re.fullmatch(r"[A-Za-z$.]+", room)} - {"users"}
    assert {"revokeSignInSessions", "messageRules", "$ref", "driveItem", "removePassword"} <= named
    assert [room for room in sorted(named) if room not in told] == []


def test_risk_of_one_application_says_nothing_of_another() -> None:
    """An alert that it adds up tells of all that an administrator did with applications that week."""
    other = "b71a20c9-0000-4c4f-bc3b-0000000000bb"
    summed = replace(make_alert("disable_application", app=APP), rule_id=RISK_RULE_ID, group=("app", APP))
    told = Told(
        replace(part(0, "disable_application").alert, entities=(("app", other), ("app", APP))),
        [make_match({"m365.app": other}), make_match({"m365.app": APP}, after_ms=1)],
    )
    found = plan_response(summed, joined(make_match({"entity": APP})), [told])

    assert [step.title for step in found.steps] == [f"Disable the application {APP}"]


def test_a_plan_says_of_how_many_records_it_is_made(tmp_path: Path) -> None:
    """What the others did, nobody undoes: a thousand are looked through, and matches are forgotten."""
    alert = replace(make_alert("remove_transport_rule"), count=3)
    with closing(DetectionState(tmp_path / FILE_NAME)) as state, state.transaction():
        state.matches.add([make_match({"ObjectId": "."})])
        state.alerts.put(KeptAlert(alert, shown=True))
    recalled = recall(tmp_path, KeptAlert(alert, shown=True))

    assert recalled.remarks == ("made of 1 of 3 records: what the others did is not in this plan",)
