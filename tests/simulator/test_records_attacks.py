from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from m365watch_simulator.organization.attacks.attack import Attack
from m365watch_simulator.organization.attacks.campaign import STORIES
from m365watch_simulator.organization.network import STRANGERS
from m365watch_simulator.organization.organization import Organisation
from places import place_of

TENANT = "2c4b1f60-0a3e-4f0b-b6a9-6f6f2f9a1d07"
NOW = datetime(2026, 11, 18, 13, 30, tzinfo=UTC)
DAY = timedelta(days=1)
TITLES = {
    "password_spray",
    "inbox_rule_forwarding",
    "consent_phishing",
    "mfa_removal",
    "admin_role_granted",
    "audit_disabled",
    "mail_transport_rule",
    "mailbox_delegation",
    "mass_download",
    "anonymous_links",
}
Body = dict[str, Any]
Played = Callable[[str], tuple[Attack, list[Body]]]


@pytest.fixture(scope="module")
def organisation() -> Organisation:
    return Organisation(11, TENANT, records_per_day=500)


@pytest.fixture(scope="module")
def played(organisation: Organisation) -> Played:
    """A story's truth and the records that it names, as they come among all others."""
    records = organisation.records_between(NOW - 6 * DAY, NOW)
    bodies = {body["Id"]: body for body in (json.loads(record.body) for record in records)}
    attacks = {attack.story: attack for attack in organisation.attacks(NOW - 6 * DAY, NOW)}

    def find(story: str) -> tuple[Attack, list[Body]]:
        attack = attacks[story]
        return attack, [bodies[record_id] for record_id in attack.record_ids]

    return find


def _pairs(record: Body, field: str = "Parameters", value: str = "Value") -> dict[str, str]:
    return {pair["Name"]: pair[value] for pair in record[field]}


def _only(records: list[Body], *operations: str) -> list[Body]:
    return [record for record in records if record["Operation"] in operations]


def _address(record: Body) -> str:
    spelled = str(record.get("ClientIP") or record["ClientIPAddress"])
    return spelled.removeprefix("::ffff:").lstrip("[").partition("]")[0].partition(":")[0]


def _seconds(records: list[Body]) -> float:
    moments = [datetime.fromisoformat(record["CreationTime"]) for record in records]
    return (max(moments) - min(moments)).total_seconds()


@pytest.mark.parametrize("seed", range(6))
def test_any_six_days_hold_every_story_whole(seed: int) -> None:
    """Whenever a week of history is looked at, each attack is to be found in it."""
    organisation = Organisation(seed, TENANT, records_per_day=100)
    for hours in range(0, 240, 7):
        end = NOW + timedelta(hours=hours)
        assert {attack.story for attack in organisation.attacks(end - 6 * DAY, end)} >= TITLES


def test_every_story_of_the_list_is_played() -> None:
    """The names are stable, one for each story."""
    assert len(STORIES) == len(TITLES)


def test_no_attack_lies_in_the_future(organisation: Organisation) -> None:
    """The truth names only what ended before the span did, in order of time."""
    attacks = organisation.attacks(NOW - 30 * DAY, NOW)

    assert all(NOW - 30 * DAY <= attack.started_at <= attack.ended_at < NOW for attack in attacks)
    assert attacks == sorted(attacks, key=lambda attack: attack.started_at)


def test_attacks_do_not_depend_on_how_they_are_asked_for(organisation: Organisation) -> None:
    """A campaign is a function of the seed and its number."""
    again = Organisation(11, TENANT, records_per_day=500)
    again.attacks(NOW + 90 * DAY, NOW + 99 * DAY)

    assert organisation.attacks(NOW - 9 * DAY, NOW) == again.attacks(NOW - 9 * DAY, NOW)


@pytest.mark.parametrize("story", sorted(TITLES))
def test_the_truth_names_records_that_are_served(played: Played, story: str) -> None:
    """Every Id is there, within the attack's time, and the account names its user."""
    attack, records = played(story)
    moments = [datetime.fromisoformat(record["CreationTime"]).replace(tzinfo=UTC) for record in records]

    assert moments == sorted(moments)
    assert moments[0] == attack.started_at.replace(microsecond=0)
    assert moments[-1] == attack.ended_at.replace(microsecond=0)
    assert attack.entities["user"][0] in attack.account
    assert attack.title


@pytest.mark.parametrize("story", sorted(TITLES))
def test_intruders_come_from_where_nobody_works(played: Played, story: str) -> None:
    """The address of the truth is in its records, and its country is a strange one."""
    attack, records = played(story)
    (address,) = attack.entities["address"]
    place = place_of(address)
    seen = {_address(record) for record in records if record.get("ClientIP") or "ClientIPAddress" in record}

    assert place in STRANGERS
    assert attack.entities["country"] == (place.country,)
    assert address in seen


def test_a_spray_tries_many_accounts_from_one_address_within_minutes(played: Played) -> None:
    """Failures 50126 of more than 10 users from one address in 5 minutes, then a success."""
    attack, records = played("password_spray")
    failed = _only(records, "UserLoginFailed")
    first_round = failed[: len(failed) // 2 - 3]
    (success,) = _only(records, "UserLoggedIn")
    on_victim = [record for record in failed if record["UserId"] == success["UserId"]]

    assert {record["ErrorNumber"] for record in failed} == {"50126"}
    assert {record["LogonError"] for record in failed} == {"InvalidUserNameOrPassword"}
    assert {record["ClientIP"] for record in records} == set(attack.entities["address"])
    assert len({record["UserId"] for record in first_round}) > 10
    assert _seconds(first_round) < 300
    assert len(on_victim) >= 5
    assert _seconds([*on_victim[-5:], success]) < 1_800
    assert success["UserId"] == attack.entities["user"][0]


def test_a_takeover_ends_in_hidden_and_forwarded_mail(played: Played) -> None:
    """Rules with throw-away names forward outside and hide; the mailbox forwards as a whole."""
    attack, records = played("inbox_rule_forwarding")
    (recipient,) = attack.entities["recipient"]
    rules = [_pairs(record) for record in _only(records, "New-InboxRule")]
    (mailbox,) = [_pairs(record) for record in _only(records, "Set-Mailbox")]
    (updated,) = _only(records, "UpdateInboxRules")
    (deleted,) = _only(records, "HardDelete")

    assert rules[0]["ForwardTo"] == recipient
    assert rules[0]["DeleteMessage"] == "True"
    assert rules[1]["MoveToFolder"].startswith("RSS")
    assert {rule["Name"] for rule in rules} == {".", ".."}
    assert mailbox["ForwardingSmtpAddress"] == f"smtp:{recipient}"
    assert mailbox["DeliverToMailboxAndForward"] == "False"
    assert _pairs(updated, "OperationProperties")["RuleActions"] == "ForwardToRecipientsAction"
    assert recipient in _pairs(updated, "OperationProperties")["ServerRule"]
    assert "Security alert" in deleted["AffectedItems"][0]["Subject"]
    assert {record["UserType"] for record in _only(records, "Set-Mailbox", "New-InboxRule")} <= {0, 2}


def test_consent_phishing_grants_scopes_and_the_application_reads(played: Played) -> None:
    """A user's consent to mail scopes, then mail read by that application."""
    attack, records = played("consent_phishing")
    (consent,) = _only(records, "Consent to application.")
    changes = _pairs(consent, "ModifiedProperties", "NewValue")
    read = _only(records, "MailItemsAccessed")

    assert consent["ResultStatus"] == "Success"
    assert changes["ConsentContext.IsAdminConsent"] == "False"
    assert "Mail.Read" in changes["ConsentAction.Permissions"]
    assert consent["ObjectId"] == attack.entities["app"][0]
    assert {record["ClientAppId"] for record in read} == {attack.entities["app"][0]}
    assert len(_only(records, "Add delegated permission grant.", "Add service principal.")) == 2


def test_prompts_wear_an_administrator_down_and_factors_go(played: Played) -> None:
    """More than 9 refusals 500121 in 10 minutes; then all three ways to lose a second factor."""
    _, records = played("mfa_removal")
    prompts = _only(records, "UserLoginFailed")
    (disabled,) = _only(records, "Disable Strong Authentication.")
    updates = _only(records, "Update user.")
    old = [_pairs(record, "ModifiedProperties", "OldValue") for record in updates]
    new = [_pairs(record, "ModifiedProperties", "NewValue") for record in updates]

    assert len(prompts) > 9
    assert {record["ErrorNumber"] for record in prompts} == {"500121"}
    assert _seconds(prompts) < 600
    assert disabled["UserType"] == 0
    assert json.loads(old[0]["StrongAuthenticationRequirement"])[0]["State"] == 1
    assert json.loads(new[0]["StrongAuthenticationRequirement"])[0]["State"] == 0
    assert json.loads(old[1]["StrongAuthenticationMethod"])
    assert new[1]["StrongAuthenticationMethod"] == "[]"


def test_a_new_account_becomes_global_administrator(played: Played) -> None:
    """The role's template id says which role it is; the account is younger than 90 minutes."""
    attack, records = played("admin_role_granted")
    (added,) = _only(records, "Add user.")
    (granted,) = _only(records, "Add member to role.")
    changes = _pairs(granted, "ModifiedProperties", "NewValue")

    assert changes["Role.TemplateId"] == "62e90394-69f5-4237-9190-012177145e10"
    assert added["ObjectId"] == granted["ObjectId"] == attack.entities["user"][1]
    assert _seconds([added, granted]) < 5_400


def test_the_audit_is_switched_off_by_a_person(played: Played) -> None:
    """Both switches, by name, and not by the service, whose cmdlets look alike."""
    _, records = played("audit_disabled")
    (bypassed,) = _only(records, "Set-MailboxAuditBypassAssociation")
    off, on = _only(records, "Set-AdminAuditLogConfig")

    assert _pairs(bypassed)["AuditBypassEnabled"] == "True"
    assert _pairs(off)["UnifiedAuditLogIngestionEnabled"] == "False"
    assert _pairs(on)["UnifiedAuditLogIngestionEnabled"] == "True"
    assert {record["UserType"] for record in records} == {2}
    assert off["UserId"] != on["UserId"]


def test_a_transport_rule_copies_mail_to_an_outsider(played: Played) -> None:
    """A blind copy outside, and a sender that no filter stops."""
    attack, records = played("mail_transport_rule")
    copying, passing = (_pairs(record) for record in _only(records, "New-TransportRule"))

    assert copying["BlindCopyTo"] == attack.entities["recipient"][0]
    assert passing["SetSCL"] == "-1"


def test_a_delegate_reads_and_sends_as_somebody_else(played: Played) -> None:
    """Full access given by a person, then access by somebody who is not the owner."""
    attack, records = played("mailbox_delegation")
    (given,) = _only(records, "Add-MailboxPermission")
    read = _only(records, "MailItemsAccessed", "SendAs")

    assert _pairs(given)["AccessRights"] == "FullAccess"
    assert given["UserType"] == 2
    assert {record["MailboxOwnerUPN"] for record in read} == set(attack.entities["mailbox"])
    assert {record["LogonType"] for record in read} == {2}
    assert all(record["LogonUserSid"] != record["MailboxOwnerSid"] for record in read)
    assert read[-1]["Operation"] == "SendAs"


def test_a_mass_download_takes_many_files_in_one_session(played: Played) -> None:
    """At least 25 distinct files of one user, session and application in any three minutes of it."""
    _, records = played("mass_download")
    fetched = _only(records, "FileDownloaded")
    keys = {(r["UserId"], r["AppAccessContext"]["AADSessionId"], r["ApplicationId"]) for r in fetched}

    assert len(keys) == 1
    assert len({record["ObjectId"] for record in fetched[:40]}) == 40
    assert _seconds(fetched[:40]) < 180


def test_anonymous_links_are_made_and_used(played: Played) -> None:
    """Links that let anyone edit, their twin records, a guest, and strangers who come."""
    attack, records = played("anonymous_links")
    made = _only(records, "AnonymousLinkCreated")
    twins = _only(records, "SharingSet")
    used = _only(records, "AnonymousLinkUsed")
    (invited,) = _only(records, "AddedToSecureLink")

    assert all("<Type>Edit</Type>" in record["EventData"] for record in made)
    assert all("SharingLinks." in record["TargetUserOrGroupName"] for record in twins)
    assert all(".Anonymous" in record["TargetUserOrGroupName"] for record in twins)
    assert invited["TargetUserOrGroupType"] == "Guest"
    assert {record["ClientIP"] for record in used} == set(attack.entities["address"])
    assert {record["ObjectId"] for record in made} == set(attack.entities["file"])
