"""What a record calls a thing is what the plan acts on: a name that is told otherwise is in no command."""

from __future__ import annotations

import pytest

from alerts import ANN
from m365watch.response.plans.app_ids import acting_app, app_of
from m365watch.response.steps.step import Remove
from planning import cmdlet, steps_of

THIEF = "thief@mail.example.net"


@pytest.mark.parametrize(
    "name",
    [
        *("Newsletter\u200b", "Newsletter\u00a0", " Newsletter", "Newsletter ", "News\nletter"),
        *('["Newsletter"]', '"Newsletter"', "Newsletter" + " x" * 150),
    ],
)
def test_a_rule_is_never_taken_for_another_of_a_like_name(name: str) -> None:
    """An intruder calls a rule as the owner's is called, but for what nobody sees: the owner's stays."""
    [step] = steps_of(
        "remove_inbox_rule", "B01", cmdlet("New-InboxRule", by=ANN, of=r"ann\x", Name=name, ForwardTo=THIEF)
    )
    wanted = [value for one in step.operations if isinstance(one, Remove) for _, value in one.wanted]

    assert wanted == ([name] if name.startswith(("[", '"')) else [])
    assert not any(line.endswith("-Identity 'Newsletter' -Confirm:$false") for line in step.powershell)


@pytest.mark.parametrize(
    ("word", "detection", "noun", "told"),
    [
        ("remove_transport_rule", "B06", "TransportRule", {"BlindCopyTo": THIEF}),
        ("remove_connector", "B07", "InboundConnector", {"SenderDomains": "*"}),
    ],
)
@pytest.mark.parametrize("name", ["Archive\u200b", "Archive ", "x" * 400])
def test_a_name_of_another_s_likeness_is_in_no_command(
    word: str, detection: str, noun: str, told: dict[str, str], name: str
) -> None:
    """The step lists what is there, and a person picks."""
    [step] = steps_of(word, detection, cmdlet(f"New-{noun}", of=name, Name=name, **told))
    look, *others = step.powershell

    assert look.startswith(f"Get-{noun} | Format-Table Name,Guid,")
    assert len(others) == 2
    assert all(line.startswith("# ") and " -Identity GUID" in line for line in others)
    assert any(note.startswith("Its name has a character that is not shown") for note in step.notes)


def test_a_transport_rule_with_such_a_name_is_in_the_plan_beside_another() -> None:
    """The one with the plain name is there to be found."""
    made = [cmdlet("New-TransportRule", Name=name, BlindCopyTo=THIEF) for name in (".", ".\u200b")]

    assert [step.title for step in steps_of("remove_transport_rule", "B06", *made)] == [
        'Disable the transport rule ".", then remove it',
        'Disable the transport rule ".\ufffd", then remove it',
    ]


def file_record(operation: str, path: str, **more: object) -> dict[str, object]:
    """A record of a file of that path on the site."""
    return {
        "Operation": operation,
        "RecordType": 14,
        "Workload": "SharePoint",
        "UserType": 0,
        "UserId": ANN,
        "ObjectId": f"https://contoso.sharepoint.example/{path}",
        "ItemType": "File",
    } | more


@pytest.mark.parametrize(
    ("path", "site", "listed"),
    [
        ("sites/tender/Docs/A B/p\u200b.docx", "/sites/tender", " -FolderSiteRelativeUrl 'Docs/A B'"),
        ("sites/tender/Docs/A\u200b/p.docx", "/sites/tender", " -FolderSiteRelativeUrl 'Docs'"),
        ("personal/ann/p\u200b.docx", "/personal/ann", ""),
        ("Docs/p\u200b.docx", "", " -FolderSiteRelativeUrl 'Docs'"),
    ],
)
def test_of_a_file_with_such_a_name_its_folder_is_listed(path: str, site: str, listed: str) -> None:
    """Anyone can open it, and a step without a word of where it lies closes nothing."""
    [step] = steps_of("disable_anonymous_link", "S01", file_record("AnonymousLinkCreated", path))

    assert step.powershell[:2] == (
        f"Connect-PnPOnline -Url 'https://contoso.sharepoint.example{site}' -Interactive -ClientId CLIENT",
        f"Get-PnPFolderItem{listed}",
    )
    assert all(line.startswith("# ") for line in step.powershell[2:])
    assert "Remove-PnPFileSharingLink -FileUrl PATH" in step.powershell[-1]


def test_a_site_that_is_not_known_whole_is_in_no_command() -> None:
    """Nobody knows then where it lies."""
    record = file_record("AnonymousLinkCreated", "sites/ten\u200bder/Docs/p.docx")
    [step] = steps_of("disable_anonymous_link", "S01", record)

    assert (step.operations, step.powershell) == ((), ())


def test_a_bad_file_with_such_a_name_is_looked_for_where_it_lies() -> None:
    """Whoever puts it there chooses its name."""
    record = file_record("FileMalwareDetected", "sites/tender/Docs/p\u200b.exe", RecordType=6)
    [step] = steps_of("remove_file", "S05", record)

    assert step.powershell[1] == "Get-PnPFolderItem -FolderSiteRelativeUrl 'Docs'"
    assert step.powershell[-1].endswith(": Remove-PnPFile -ServerRelativeUrl PATH -Recycle")


def test_a_file_whose_name_cannot_be_written_gives_a_step_by_hand() -> None:
    """And no traceback: an intruder calls a file as it likes."""
    url = "https://contoso.sharepoint.example/personal/ada/Documents/a%20b%0A.exe"
    found = {
        "Operation": "FileMalwareDetected",
        "RecordType": 6,
        "Workload": "OneDrive",
        "UserType": 0,
        "UserId": ANN,
        "ObjectId": url,
        "SourceFileName": "a b\n.exe",
    }
    [step] = steps_of("remove_file", "S05", found)

    assert (step.operations, step.powershell) == ((), ())


def test_the_deepest_folder_is_closed() -> None:
    """Mailbox and path together are longer than any one value."""
    path = "\\" + "\\".join(["folder"] * 41)
    opened = {
        "Operation": "ModifyFolderPermissions",
        "RecordType": 2,
        "Workload": "Exchange",
        "ResultStatus": "Succeeded",
        "UserType": 0,
        "UserId": ANN,
        "MailboxOwnerUPN": ANN,
        "Item": {"ParentFolder": {"Path": path, "MemberUpn": "Default", "MemberRights": "ReadAny"}},
    }
    [step] = steps_of("remove_mailbox_permission", "B09", opened)

    assert step.powershell[0] == f"Get-MailboxFolderPermission -Identity '{ANN}:{path}'"


def test_an_account_is_never_taken_for_another_of_a_like_name() -> None:
    """A name with a character that is not shown is nobody whom Graph knows."""
    [step] = steps_of(
        "revoke_sessions",
        "B01",
        cmdlet("New-InboxRule", by="ann\u200b@contoso.example", of=r"ann\x", Name="x", ForwardTo=THIEF),
    )

    assert (step.operations, step.powershell) == ((), ())


@pytest.mark.parametrize("around", ["ServicePrincipal_{}@contoso.example", "Payroll {}", "Application_", ""])
def test_a_name_that_has_an_id_in_it_is_no_application(around: str) -> None:
    """Anybody may call an account or an application by another's id, and something beside it."""
    guid = "5a82c112-3307-4bee-a18b-6613fd0c7b4e"

    assert app_of(around.format(guid)) is acting_app(around.format(guid)) is None
    assert all(
        (app := app_of(one)) is not None and app.id == guid
        for one in (guid, f"Application_{guid}", f"ServicePrincipal_{guid.upper()}")
    )
