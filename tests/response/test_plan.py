"""The plan for an alert: each word of the packs has its steps, on the right things."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest
from promises import guarantee
from verdicts import packs

from alerts import ANN, APP, make_alert, make_match
from m365watch.detection.rules.containment import WORDS
from m365watch.response.plans.planner import BUILDERS, _each_once, plan_response
from m365watch.response.steps.step import GraphCall, Remove, Revise, Step
from plan_scene import BOB, EVE, FIELDS, FRED, FULL, one_record, plan
from test_quoting import HOSTILE


@guarantee(38)
def test_every_word_of_the_packs_has_a_step() -> None:
    """A rule that names a way to contain is not left alone with it."""
    words = {word for rule in packs().rules for word in rule.extension.contain}

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


@guarantee(38)
@pytest.mark.parametrize("word", sorted(BUILDERS))
def test_no_word_is_dropped_in_silence_where_nothing_is_known(word: str) -> None:
    """An alert without a name gives a step that says so, and no command with a hole in it."""
    steps = plan(word).steps

    assert steps
    assert all("''" not in line for step in steps for line in step.powershell)
    assert all(step.operations == () for step in steps)


@guarantee(38)
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


@guarantee(26)
@pytest.mark.parametrize(
    "url", ["https://[x/personal/a/Documents/b.docx", "https://a]b/", "https://a.\u2100/b"]
)
def test_an_address_that_is_none_keeps_no_plan_from_being_shown(url: str) -> None:
    """The step is there, for a person, and so are the others."""
    fields = {"ObjectId": url, "Operation": "AnonymousLinkCreated", "SourceFileName": "b.docx"}
    titles = {
        step.word for step in plan("disable_anonymous_link", "revoke_sessions", fields=fields, user=ANN).steps
    }

    assert titles == {"disable_anonymous_link", "revoke_sessions"}


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


@guarantee(38)
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

    assert by_address.powershell[1:] == ("Remove-PnPFile -ServerRelativeUrl '/sites/a/b c.docx' -Recycle",)
    assert really.powershell[1:] == ("Remove-PnPFile -ServerRelativeUrl '/sites/a/b%20c.docx' -Recycle",)
    assert (unknown.powershell, unknown.operations) == ((), ())
    assert as_shown.powershell[1:] == (
        "Remove-PnPFile -ServerRelativeUrl '/sites/a/x #1 50%20.docx' -Recycle",
    )
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


def test_what_one_of_two_alerts_doubts_is_asked_for() -> None:
    """One step is made of both: the other alert's certainty takes no doubt away."""
    sure = Step("remove_inbox_rule", "Remove it", powershell=("x",))
    unsure = replace(sure, asks_always=True)

    assert [one.asks_always for one in _each_once([sure, unsure])] == [True]
    assert [one.asks_always for one in _each_once([unsure, sure])] == [True]
    assert [one.asks_always for one in _each_once([sure, sure])] == [False]
