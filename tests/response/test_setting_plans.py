"""Plans on settings, domains, files and mail: what the record turned is turned back, and nothing else."""

from __future__ import annotations

import pytest

from planning import Record, cmdlet, lines_of, steps_of

SITE = "https://contoso.sharepoint.example/sites/tender"


def sharing(**properties: tuple[str, str]) -> Record:
    """The sharing policy of a site changes; each property with its value after and before."""
    return {
        "Operation": "SharingPolicyChanged",
        "RecordType": 14,
        "Workload": "SharePoint",
        "UserType": 0,
        "UserId": "adm@contoso.example",
        "ObjectId": SITE,
        "ModifiedProperties": [
            {"Name": name, "NewValue": new, "OldValue": old} for name, (new, old) in properties.items()
        ],
    }


@pytest.mark.parametrize(
    ("changed", "look", "back"),
    [
        ({"ShareWithGuests": ("Enabled", "Disabled")}, "Get-SPOSite", "-SharingCapability Disabled"),
        (
            {"ShareUsingAnonymousLinks": ("True", "False")},
            "Get-SPOSite",
            "-SharingCapability ExternalUserSharingOnly",
        ),
        (
            {"AllowDomainList": ("customer.example rival.example", "customer.example")},
            "Get-SPOSite",
            "-SharingAllowedDomainList 'customer.example'",
        ),
        ({"AllowGuestUser": ("True", "False")}, "Get-CsTeamsClientConfiguration", "-AllowGuestUser $false"),
        (
            {"AllowTeamsConsumer": ("True", "False")},
            "Get-CsTenantFederationConfiguration",
            "-AllowTeamsConsumer $false",
        ),
        ({"IsPublic": ("True", "False")}, "Get-UnifiedGroup", "-AccessType Private"),
    ],
)
def test_the_switch_that_was_turned_is_turned_back(
    changed: dict[str, tuple[str, str]], look: str, back: str
) -> None:
    """By a person, after a look; what the tenant may share no record of a site says."""
    [step] = steps_of("restore_sharing_policy", "S07", sharing(**changed))

    assert lines_of([step])[0].startswith(look)
    assert step.powershell[-1].startswith("#")
    assert step.powershell[-1].endswith(back)
    assert not any("Set-" in line for line in lines_of([step]))
    assert "SPOTenant" not in " ".join(step.powershell)


def directory(operation: str, of: str, **properties: tuple[str, str]) -> Record:
    """Something done to that in Entra."""
    return {**sharing(**properties), "Operation": operation, "RecordType": 8, "ResultStatus": "Success"} | {
        "Workload": "AzureActiveDirectory",
        "ObjectId": of,
    }


MANAGED = "Update-MgDomain -DomainId 'contoso.example' -AuthenticationType Managed"


def test_a_rightly_federated_domain_is_not_made_managed() -> None:
    """Nobody of it could sign in: the command stands as a remark, and only where it was managed before."""
    changed = directory(
        "Set domain authentication.", "contoso.example", LiveType=('["Federated"]', '["Managed"]')
    )
    [trusts] = steps_of("restore_federation", "I18", changed)
    [settings] = steps_of(
        "restore_federation", "I18", directory("Set federation settings on domain.", "contoso.example")
    )

    assert trusts.powershell[-1] == f"# if nobody of yours has federated it: {MANAGED}"
    assert not any("Managed" in line for line in settings.powershell)


@pytest.mark.parametrize(
    ("record", "removal"),
    [
        (directory("Add unverified domain.", "contos0.example"), "Remove-MgDomain -DomainId"),
        (
            cmdlet(
                "Add-FederatedDomain", of="Federation", Identity="Federation", DomainName="contos0.example"
            ),
            "Remove-FederatedDomain -DomainName",
        ),
        (
            cmdlet("New-AcceptedDomain", of="x", Name="x", DomainName="contos0.example"),
            "Remove-AcceptedDomain -Identity",
        ),
    ],
)
def test_a_domain_that_was_added_may_be_removed(record: Record, removal: str) -> None:
    """How people of another domain sign in has nothing to do with it."""
    [step] = steps_of("restore_federation", "I18", record)

    assert step.title == "See whose domain contos0.example is, and who asked for it"
    assert step.powershell[-1] == f"# if nobody of yours did: {removal} 'contos0.example'"


@pytest.mark.parametrize(
    ("detection", "record", "expected"),
    [
        (
            "D01",
            cmdlet("Set-AdminAuditLogConfig", UnifiedAuditLogIngestionEnabled="False"),
            "Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true",
        ),
        (
            "D02",
            cmdlet("Set-Mailbox", of="bea", Identity="bea", AuditEnabled="False"),
            "Set-Mailbox -Identity 'bea' -AuditEnabled $true",
        ),
        (
            "D02",
            cmdlet("Set-MailboxAuditBypassAssociation", of="svc", Identity="svc", AuditBypassEnabled="True"),
            "Set-MailboxAuditBypassAssociation -Identity 'svc' -AuditBypassEnabled $false",
        ),
        (
            "D02",
            cmdlet("Set-OrganizationConfig", of="contoso", AuditDisabled="True"),
            "Set-OrganizationConfig -AuditDisabled $false",
        ),
    ],
)
def test_the_log_that_was_switched_off_is_switched_on(detection: str, record: Record, expected: str) -> None:
    """That one, and which deeds a mailbox records stays its owner's choice."""
    changes = [line for line in lines_of(steps_of("restore_audit", detection, record)) if "Set-" in line]

    assert changes == [expected]


def test_a_switch_of_exchange_on_servers_is_turned_by_no_command() -> None:
    """Exchange Online has no such parameter, and the command failed at night."""
    record = cmdlet("Set-AdminAuditLogConfig", AdminAuditLogEnabled="False")
    [step] = steps_of("restore_audit", "D01", record)

    assert step.title == "See that the audit log of the organisation is on"
    assert step.powershell == ("Get-AdminAuditLogConfig | Format-List UnifiedAuditLogIngestionEnabled",)
    assert any("on servers of one's own" in note for note in step.notes)


def test_of_two_switches_of_one_setting_the_stricter_stays() -> None:
    """The second command allowed again the guests whom the first had shut out."""
    both = sharing(ShareWithGuests=("Enabled", "Disabled"), ShareUsingAnonymousLinks=("True", "False"))
    [step] = steps_of("restore_sharing_policy", "S07", both)

    turned = [line.rpartition(" ")[2] for line in step.powershell if "Set-SPOSite" in line]
    assert turned == ["Disabled"]
    assert "ShareUsingAnonymousLinks was False." in step.notes


def test_whose_licence_was_reduced_gets_it_back() -> None:
    """No policy was changed; the log of the organisation is only looked at."""
    details = '{"AssignedLicense":"[SkuName=SPE_E5, DisabledPlans=[M365_ADVANCED_AUDITING]]"}'
    record = directory("Change user license.", "bea@contoso.example")
    record["ExtendedProperties"] = [{"Name": "additionalDetails", "Value": details}]
    titles = [
        step.title for word in ("restore_policy", "restore_audit") for step in steps_of(word, "D03", record)
    ]

    assert titles == [
        "Give bea@contoso.example the part of the licence back that records more",
        "See that the audit log of the organisation is on",
    ]


@pytest.mark.parametrize(
    ("detection", "record", "title"),
    [
        (
            "D03",
            cmdlet(
                "New-UnifiedAuditLogRetentionPolicy",
                of="Short",
                Name="Short",
                RetentionDuration="ThreeMonths",
            ),
            'See who made the policy "Short"; remove it if nobody of yours did',
        ),
        (
            "D03",
            cmdlet("Remove-UnifiedAuditLogRetentionPolicy", of="Long", Identity="Long"),
            'Make the policy "Long" again, if it was yours',
        ),
        (
            "I19",
            directory("Add user.", "eve_rival.example#EXT#@contoso.example", UserType=('["Guest"]', "[]")),
            (
                "See who asked for eve_rival.example#EXT#@contoso.example;"
                " disable the account if nobody of yours did"
            ),
        ),
        (
            "T01",
            cmdlet("Set-CsTenantFederationConfiguration", AllowFederatedUsers="True"),
            "Put AllowFederatedUsers of Teams back",
        ),
    ],
)
def test_what_was_changed_is_named_for_what_it_is(detection: str, record: Record, title: str) -> None:
    """What was made is not put back, and a guest is no policy."""
    assert [step.title for step in steps_of("restore_policy", detection, record)] == [title]


def test_of_what_is_joined_only_the_policy_is_one() -> None:
    """A mailbox that was forwarded the same day has a name as well."""
    steps = steps_of(
        "restore_policy",
        "C04",
        cmdlet("Remove-DlpPolicy", of="Cards", Identity="Cards"),
        cmdlet("Set-Mailbox", of="bea", Identity="bea", ForwardingSmtpAddress="thief@mail.example.net"),
    )

    assert [step.title for step in steps] == ['Make the policy "Cards" again, if it was yours']


OFFER = "https://contoso.sharepoint.example/sites/a/Documents/offer.docx"
SALARIES = {"Name": "salaries.xlsx", "SiteUrl": "https://contoso.sharepoint.example/sites/a/salaries.xlsx"}


def copilot(*, asked: bool = False, resources: list[dict[str, object]]) -> Record:
    """A question to Copilot, and what it read."""
    return {
        "Operation": "CopilotInteraction",
        "RecordType": 261,
        "UserType": 0,
        "UserId": "ann@contoso.example",
        "CopilotEventData": {
            "AccessedResources": resources,
            "Messages": [{"Id": "1", "isPrompt": True, "JailbreakDetected": asked}],
        },
    }


def test_of_what_copilot_read_the_document_with_instructions_goes() -> None:
    """What else it read is people's work."""
    marked: dict[str, object] = {"Name": "offer.docx", "SiteUrl": OFFER, "XPIADetected": True}
    [step] = steps_of("remove_file", "E03", copilot(resources=[dict(SALARIES), marked]))

    assert step.title == f"Remove the file {OFFER}"
    assert step.powershell[1:] == (
        "Remove-PnPFile -ServerRelativeUrl '/sites/a/Documents/offer.docx' -Recycle",
    )


def test_a_question_of_bad_intent_costs_nobody_a_document() -> None:
    """Copilot had read one, as it does for every question."""
    [step] = steps_of("remove_file", "E03", copilot(asked=True, resources=[dict(SALARIES)]))

    assert (step.title, step.powershell) == ("Ask the person what they wanted of Copilot", ())


def mail(subject: str, sender: str) -> Record:
    """A mail that was taken for bad after it was delivered."""
    return {
        "Operation": "TIMailData",
        "RecordType": 28,
        "UserType": 4,
        "UserId": "ThreatIntel",
        "Subject": subject,
        "P2Sender": sender,
        "Recipients": ["ann@contoso.example"],
        "DeliveryAction": "Delivered",
        "LatestDeliveryLocation": "Inbox",
        "Verdict": "Phish",
    }


def test_another_search_s_mail_is_not_purged() -> None:
    """Each mail has a search of its own, over its days; the purge waits for a look."""
    first, second = (
        step
        for subject in ("Invoice", "Invoice 2")
        for step in steps_of("remove_mail", "A01", mail(subject, "ceo@contoso.example"))
    )

    assert first.powershell[0].endswith(
        '-ContentMatchQuery \'subject:"Invoice" AND from:"ceo@contoso.example"'
        " AND received>=2026-10-26 AND received<=2026-11-03'"
    )
    assert first.powershell[1] != second.powershell[1]
    assert not any("-Purge" in line for line in lines_of([first, second]))


@pytest.mark.parametrize(("subject", "sender"), [('Your "order"', "ceo@contoso.example"), ("Invoice", "")])
def test_with_a_sender_or_a_subject_alone_nothing_is_searched(subject: str, sender: str) -> None:
    """Anybody can write either, and the innocent do."""
    steps = steps_of("remove_mail", "A01", mail(subject, sender))

    assert lines_of(steps) == []
    assert "By hand" in steps[0].notes[0]


def test_the_longest_names_are_no_mistake_of_the_plan() -> None:
    """An intruder who writes much is answered all the same."""
    steps = steps_of("remove_mail", "A01", mail("x" * 255, f"{'y' * 200}@mail.example.net"))

    assert steps[0].powershell[0].startswith("New-ComplianceSearch")


@pytest.mark.parametrize(
    ("told", "title"),
    [
        ({"FileName": "x.exe"}, "Find the file x.exe, and remove it"),
        ({"FileName": "x.exe", "FilePath": OFFER}, f"Remove the file {OFFER}"),
    ],
)
def test_a_file_of_defender_s_is_named_by_what_its_record_has(told: dict[str, str], title: str) -> None:
    """And never by the record's object, which is Defender's own."""
    found: Record = {
        "Operation": "AtpDetection",
        "RecordType": 47,
        "UserType": 4,
        "UserId": "ThreatIntel",
        "ObjectId": "b4a1c9f0-0000-4000-8000-000000000001",
        "LastModifiedBy": "ann@contoso.example",
        "FileData": told,
    }

    assert [step.title for step in steps_of("remove_file", "s05_malware_found_by_defender", found)] == [title]
