"""Plans on mailboxes and mail flow: of records as they come, and no innocent is harmed."""

from __future__ import annotations

import pytest

from alerts import ANN, make_alert
from m365watch.response.plans.planner import plan_response
from m365watch.response.plans.previous_values import OF_CMDLET
from m365watch.response.plans.record_timeline import History
from m365watch.response.steps.step import Remove, Step
from planning import Record, cmdlet, lines_of, steps_of

THIEF = "thief@mail.example.net"
ADA = "ada@fabrikam.example"


def test_a_rule_s_name_begins_behind_the_mailbox() -> None:
    """A name may have a backslash, a mailbox has none: no other rule goes that ends alike."""
    [step] = steps_of(
        "remove_inbox_rule",
        "B01",
        cmdlet(
            "Set-InboxRule", by=ANN, of=r"ann\x\Newsletters", Identity=r"ann\x\Newsletters", ForwardTo=THIEF
        ),
    )

    assert [one.wanted for one in step.operations if isinstance(one, Remove)] == [
        (("displayName", r"x\Newsletters"),)
    ]
    assert step.powershell[-1].endswith(r"-Identity 'ann\x\Newsletters' -Confirm:$false")


@pytest.mark.parametrize("identity", [r"ann\1234567890123456789", r"Ann Ames\x\Newsletters"])
def test_a_rule_that_has_no_certain_name_is_removed_by_hand(identity: str) -> None:
    """A number of Exchange's, and what begins with no name of the mailbox, are nothing to Graph."""
    [step] = steps_of(
        "remove_inbox_rule",
        "B01",
        cmdlet("Set-InboxRule", by=ANN, of=r"ann\1", Identity=identity, ForwardTo=THIEF),
    )

    assert step.operations == ()
    assert step.notes[0].startswith("By hand: the record has the rule by a name of Exchange's")
    assert step.powershell[-1].endswith(f"-Identity '{identity}' -Confirm:$false")


def test_forwarding_that_no_record_set_is_looked_at() -> None:
    """An inbox rule forwards; that of the mailbox may be its owner's own."""
    steps = steps_of("remove_forwarding", "B01", cmdlet("New-InboxRule", by=ANN, Name="x", ForwardTo=THIEF))

    assert [step.title for step in steps] == [f"See whether {ANN} forwards its mail besides, and to whom"]
    assert not any("Set-Mailbox" in line for line in lines_of(steps))


def test_a_second_rule_without_a_name_hides_no_step_of_the_first() -> None:
    """All steps on a mailbox's rules begin with the same look: that makes none of them needless."""
    steps = steps_of(
        "remove_inbox_rule",
        "B02",
        cmdlet("New-InboxRule", by=ANN, Name="Invoices", DeleteMessage="True"),
        cmdlet("New-InboxRule", by=ANN, Name="In\u200bvoices", DeleteMessage="True"),
    )

    assert len(steps) == 2
    assert any('"Invoices"' in step.title and step.operations for step in steps)


def test_forwarding_that_a_record_set_is_not_looked_for_as_well() -> None:
    """Of whom both are known it is stopped; of the others it is looked for still."""
    bea = "bea@contoso.example"
    steps = steps_of(
        "remove_forwarding",
        "B05",
        cmdlet("New-InboxRule", by=ANN, Name="x", ForwardTo=THIEF),
        cmdlet("Set-Mailbox", by=ANN, of=ANN, Identity=ANN, ForwardingSmtpAddress=THIEF),
        cmdlet("New-InboxRule", by=bea, Name="x", ForwardTo=THIEF),
    )

    assert [step.title for step in steps] == [
        f"Stop {ANN} from forwarding",
        f"See whether {bea} forwards its mail besides, and to whom",
    ]


def test_forwarding_ends_where_the_record_set_it() -> None:
    """By the address that the command named, and what it did not set stays."""
    steps = steps_of(
        "remove_forwarding",
        "B04",
        cmdlet("Set-Mailbox", by="ada@contoso.example", of="ada", Identity=ADA, ForwardingSmtpAddress=THIEF),
    )

    assert [step.title for step in steps] == [f"Stop {ADA} from forwarding"]
    assert lines_of(steps)[-1] == f"Set-Mailbox -Identity '{ADA}' -ForwardingSmtpAddress $null"


def test_an_alias_is_no_mailbox_of_whoever_acted() -> None:
    """Two domains may each have an ada."""
    [step] = steps_of(
        "remove_forwarding",
        "B04",
        cmdlet(
            "Set-Mailbox", by="ada@contoso.example", of="ada", Identity="ada", ForwardingSmtpAddress=THIEF
        ),
    )

    assert step.title == "Stop ada from forwarding"


def test_several_mailboxes_that_forward_are_each_named() -> None:
    """And never that of the administrator who set it; a transport rule has its own step."""
    set_two = [
        cmdlet("Set-Mailbox", of=name, Identity=f"{name}@contoso.example", ForwardingSmtpAddress=THIEF)
        for name in ("bea", "cyd")
    ]
    diverted = cmdlet("New-TransportRule", Name=".", BlindCopyTo=THIEF)

    assert [step.title for step in steps_of("remove_forwarding", "B05", *set_two, diverted)] == [
        "Stop bea@contoso.example from forwarding",
        "Stop cyd@contoso.example from forwarding",
    ]
    assert [step.title for step in steps_of("remove_transport_rule", "B05", *set_two, diverted)] == [
        'Disable the transport rule ".", then remove it'
    ]


def test_a_rule_s_name_is_told_on_one_line() -> None:
    """Whatever signs it has, and had."""
    assert History(names=("a\r\nb", "c\x1b[2J"), verbs=()).told == '"c [2J" (which was "a  b")'


MADE = cmdlet("New-TransportRule", Name=".", BlindCopyTo=THIEF)


def transport(operation: str) -> Record:
    """Something done to the rule of that name."""
    return cmdlet(operation, of=".", Identity=".")


@pytest.mark.parametrize(
    ("records", "title"),
    [
        (
            [MADE, transport("Remove-TransportRule")],
            'See that the transport rule "." is gone: it was made here, and removed again',
        ),
        ([MADE, transport("Disable-TransportRule")], 'Disable the transport rule ".", then remove it'),
        ([transport("Remove-TransportRule"), MADE], 'Disable the transport rule ".", then remove it'),
        (
            [transport("Disable\u2013TransportRule")],
            'See whose transport rule "." is; enable it again if it is yours',
        ),
        (
            [transport("Remove-TransportRule")],
            'See whose transport rule "." was; make it again if it was yours',
        ),
    ],
)
def test_the_intruder_s_transport_rule_is_never_made_again(records: list[Record], title: str) -> None:
    """Who tidies up behind themselves is not helped; nor is what was switched off switched on unseen."""
    steps = steps_of("remove_transport_rule", "B06", *records)

    assert [step.title for step in steps] == [title]
    assert not any("Enable-" in line or "New-" in line for line in lines_of(steps))


def titles_and_remarks(steps: list[Step]) -> list[tuple[str, tuple[str, ...]]]:
    """What each step is called, and what it remarks besides what all of them say, first and last."""
    return [(step.title, step.notes[1:-1]) for step in steps]


MACROS = {"of": "Block macros", "Identity": "Block macros"}
BEFORE = "One of that name was there before it: if that was yours, make it again."


def test_a_transport_rule_that_lives_is_not_told_to_be_gone() -> None:
    """Made, removed and made again: what was done last counts."""
    steps = steps_of("remove_transport_rule", "B06", MADE, transport("Remove-TransportRule"), MADE)

    assert titles_and_remarks(steps) == [('Disable the transport rule ".", then remove it', ())]


def test_the_owner_s_transport_rule_is_missed_also_where_the_intruder_s_is_gone() -> None:
    """Theirs went first; that the other's is gone as well makes nothing right."""
    removed = cmdlet("Remove-TransportRule", **MACROS)
    made = cmdlet("New-TransportRule", Name="Block macros", BlindCopyTo=THIEF)
    steps = steps_of("remove_transport_rule", "B06", removed, made, removed)

    assert titles_and_remarks(steps) == [
        (
            'See that the transport rule "Block macros" is gone: it was made here, and removed again',
            (BEFORE,),
        )
    ]


def test_a_transport_rule_is_found_by_the_name_that_it_has_now() -> None:
    """And is the intruder's under every name."""
    steps = steps_of(
        "remove_transport_rule",
        "B06",
        cmdlet("New-TransportRule", Name="tmp", BlindCopyTo=THIEF),
        cmdlet("Set-TransportRule", of="tmp", Identity="tmp", Name="Archive", BlindCopyTo=THIEF),
    )

    assert [step.title for step in steps] == [
        'Disable the transport rule "Archive" (which was "tmp"), then remove it'
    ]
    assert not any("'tmp'" in line for step in steps for line in step.powershell)


@pytest.mark.parametrize(
    ("word", "detection", "record"),
    [
        ("remove_transport_rule", "B06", MADE),
        ("remove_connector", "B07", cmdlet("New-InboundConnector", of="x", Name="x", SenderDomains="*")),
        ("remove_inbox_rule", "B01", cmdlet("New-InboxRule", by=ANN, Name="x", ForwardTo=THIEF)),
    ],
)
def test_what_may_be_called_otherwise_by_now_is_looked_at_first(
    word: str, detection: str, record: Record
) -> None:
    """What became of it after the alert no record tells; the owner's may have its name since."""
    [step] = steps_of(word, detection, record)

    assert step.powershell[0].startswith("Get-")
    assert [line for line in step.powershell[1:] if not line.startswith("# ")] == []
    assert any(note.startswith("No record tells what became of it since") for note in step.notes)


def test_what_got_the_name_of_a_removed_transport_rule_is_not_removed_with_it() -> None:
    """The intruder's "." is gone; the owner's rule is called so since, for whatever reason."""
    renamed = cmdlet("Set-TransportRule", of=".", Identity="Block macros", Name=".", SetSCL="-1")
    steps = steps_of("remove_transport_rule", "B06", MADE, transport("Remove-TransportRule"), renamed)

    assert [step.title for step in steps] == [
        'See that the transport rule "." is gone: it was made here, and removed again',
        'Put the transport rule "." (which was "Block macros") back as it was',
    ]


def test_a_transport_rule_of_which_nobody_saw_the_making_is_looked_at() -> None:
    """One of that name was made and removed; whose the next one is no record says."""
    changed = cmdlet("Set-TransportRule", of=".", Identity=".", SetSCL="-1")
    steps = steps_of("remove_transport_rule", "B06", MADE, transport("Remove-TransportRule"), changed)

    assert titles_and_remarks(steps) == [
        (
            'Put the transport rule "." back as it was',
            ("Another of that name was made here before, and removed.", OF_CMDLET),
        )
    ]


def test_a_transport_rule_that_is_changed_by_its_id_is_the_one_that_was_made() -> None:
    """Its object has the name."""
    by_id = cmdlet("Disable-TransportRule", of=".", Identity="5d3f1c6e-0000-4c4f-9a4e-0000000000f1")
    steps = steps_of("remove_transport_rule", "B06", MADE, by_id)

    assert [step.title for step in steps] == ['Disable the transport rule ".", then remove it']


def test_a_connector_that_took_the_place_of_one_s_own_is_told_with_it() -> None:
    """Who removes it and stops there has no gateway."""
    moved = cmdlet("Set-InboundConnector", of="Gateway", Identity="Gateway", Name="old", Enabled="False")
    made = cmdlet("New-InboundConnector", of="Gateway", Name="Gateway", SenderDomains="*")
    own, new = steps_of("remove_connector", "B07", moved, made)

    assert own.title == 'Put the mail connector "old" (which was "Gateway") back as it was'
    assert new.title == 'Switch the mail connector "Gateway" off, then remove it'
    assert new.notes[1] == 'What had that name before was called "old" after it.'
    assert "one of yours is missing" in new.notes[-1]


def test_a_connector_is_found_by_the_name_that_it_has_now() -> None:
    """And is the intruder's under every name."""
    made = cmdlet("New-InboundConnector", of="tmp", Name="tmp", SenderDomains="*")
    renamed = cmdlet("Set-InboundConnector", of="tmp", Identity="tmp", Name="Gateway")
    steps = steps_of("remove_connector", "B07", made, renamed)

    assert [step.powershell for step in steps] == [
        (
            "Get-InboundConnector -Identity 'Gateway' | Format-List",
            "# if it does what the record tells: Set-InboundConnector -Identity 'Gateway' -Enabled $false",
            "# and then: Remove-InboundConnector -Identity 'Gateway' -Confirm:$false",
        )
    ]


def test_one_s_own_connector_is_not_switched_off() -> None:
    """Mail stops then, and what an intruder switched off or opened stays so."""
    steps = steps_of(
        "remove_connector",
        "B07",
        cmdlet("Set-OutboundConnector", of="To relay", Identity="To relay", SmartHosts="relay.example.net"),
    )

    assert lines_of(steps) == ["Get-OutboundConnector -Identity 'To relay' | Format-List"]
    assert [step.title for step in steps] == ['Put the mail connector "To relay" back as it was']
    assert "The record set SmartHosts." in steps[0].notes[1]


def test_a_connector_that_the_alert_s_records_made_and_changed_goes() -> None:
    """By one step."""
    made = cmdlet("New-InboundConnector", of="x", Name="x", SenderDomains="*")
    changed = cmdlet("Set-InboundConnector", of="x", Identity="x", RequireTls="False")

    assert [step.title for step in steps_of("remove_connector", "B07", made, changed)] == [
        'Switch the mail connector "x" off, then remove it'
    ]


ANOTHER_S = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    "name", [ANOTHER_S, f"{{{ANOTHER_S}}}", ANOTHER_S.replace("-", "").upper(), "Block*", "CN=Block macros"]
)
@pytest.mark.parametrize(
    ("word", "detection", "noun", "told"),
    [
        ("remove_transport_rule", "B06", "TransportRule", {"BlindCopyTo": THIEF}),
        ("remove_connector", "B07", "InboundConnector", {"SenderDomains": "*"}),
    ],
)
def test_no_command_acts_on_the_one_whose_guid_another_is_called_by(
    word: str, detection: str, noun: str, told: dict[str, str], name: str
) -> None:
    """Block macros went, and the intruder's stayed: names are the intruder's to choose."""
    [step] = steps_of(word, detection, cmdlet(f"New-{noun}", of=name, Name=name, **told))
    look, *others = step.powershell

    assert look.startswith(f"Get-{noun} | Where-Object {{ $_.Name -eq '{name}'")
    assert len(others) == 2
    assert all(line.startswith("# ") and " -Identity GUID" in line for line in others)
    assert any("GUID stands for that of the one that you mean" in note for note in step.notes)


@pytest.mark.parametrize("verb", ["Set", "Disable", "Remove"])
def test_nor_does_a_command_where_such_a_one_was_only_changed(verb: str) -> None:
    """The record may mean either: both are shown."""
    record = cmdlet(f"{verb}-TransportRule", of=ANOTHER_S, Identity=ANOTHER_S, SetSCL="-1")
    [step] = steps_of("remove_transport_rule", "B06", record)

    assert not any(f"-Identity '{ANOTHER_S}'" in line for line in step.powershell)


@pytest.mark.parametrize("name", ["17634012", "+17634012", r"ann\Newsletters"])
def test_an_inbox_rule_called_by_another_s_number_is_removed_by_its_name(name: str) -> None:
    """Graph has the name beside the id; Exchange takes both in one place."""
    [step] = steps_of("remove_inbox_rule", "B01", cmdlet("New-InboxRule", by=ANN, Name=name, ForwardTo=THIEF))

    assert [one.wanted for one in step.operations if isinstance(one, Remove)] == [(("displayName", name),)]
    assert step.powershell[-1].endswith("-Identity IDENTITY -Confirm:$false")
    assert any("IDENTITY stands for what the list shows" in note for note in step.notes)


def test_an_assignment_called_by_another_s_guid_is_looked_for() -> None:
    """By its name Exchange may find the other."""
    record = cmdlet(
        "New-ManagementRoleAssignment", of="x", Name=ANOTHER_S, Role="Mailbox Import Export", User="cyd"
    )
    [step] = steps_of("remove_role", "B10", record)

    assert not any(ANOTHER_S in line for line in step.powershell)
    assert step.powershell[-1].endswith("-Identity GUID -Confirm:$false")


def granted(operation: str = "Add-MailboxPermission", **parameters: str) -> Record:
    """Somebody is let into bea's mailbox."""
    return cmdlet(operation, of="bea", Identity="bea", **parameters)


@pytest.mark.parametrize(
    ("record", "title", "removal"),
    [
        (
            granted(User="cyd", AccessRights="ReadPermission, ChangeOwner"),
            "Take ReadPermission and ChangeOwner on bea away from cyd",
            (
                "Remove-MailboxPermission -Identity 'bea' -User 'cyd'"
                " -AccessRights ReadPermission,ChangeOwner -Confirm:$false"
            ),
        ),
        (
            granted("Add-RecipientPermission", Trustee="cyd", AccessRights="SendAs"),
            "Let cyd send as bea no more",
            "Remove-RecipientPermission -Identity 'bea' -Trustee 'cyd' -AccessRights SendAs -Confirm:$false",
        ),
        (
            granted("Set-Mailbox", GrantSendOnBehalfTo="cyd"),
            "Let cyd send on behalf of bea no more",
            "Set-Mailbox -Identity 'bea' -GrantSendOnBehalfTo @{Remove = 'cyd'}",
        ),
    ],
)
def test_the_right_that_was_given_is_taken_and_no_other(record: Record, title: str, removal: str) -> None:
    """Who sends for somebody keeps what they read by right."""
    steps = steps_of("remove_mailbox_permission", "B08", record)

    assert [step.title for step in steps] == [title]
    assert [line for line in lines_of(steps) if not line.startswith("Get-")] == [removal]


@pytest.mark.parametrize(
    "given",
    [
        "x" * 400,
        '["cyd","dora"]',
        "cyd@contoso.example,dan@contoso.example",
        "@{Add=cyd@contoso.example}",
        "{cyd@contoso.example",
        "(cyd)",
        ";".join(f"u{n}@contoso.example" for n in range(40)),
    ],
)
def test_nobody_else_loses_rights_where_it_is_not_told_who_got_them(given: str) -> None:
    """Least of all the administrator who gave them."""
    steps = steps_of("remove_mailbox_permission", "B08", granted("Set-Mailbox", GrantSendOnBehalfTo=given))

    assert steps[-1].title == "See who else was let into bea"
    assert not any("adm@" in step.title for step in steps)
    assert not any("Set-Mailbox" in line for line in lines_of(steps))


@pytest.mark.parametrize("everybody", ["Default", "Everyone", "Anonymous"])
def test_a_mailbox_that_is_open_to_all_is_closed_and_no_folder(everybody: str) -> None:
    """The right on the mailbox would stay, and the step look done."""
    opened = granted(User=everybody, AccessRights="FullAccess")
    sends = granted("Add-RecipientPermission", Trustee=everybody, AccessRights="SendAs")

    steps = steps_of("remove_mailbox_permission", "B08", opened, sends)

    assert [
        line.partition(" -AccessRights")[0] for line in lines_of(steps) if not line.startswith("Get-")
    ] == [
        f"Remove-MailboxPermission -Identity 'bea' -User '{everybody}'",
        f"Remove-RecipientPermission -Identity 'bea' -Trustee '{everybody}'",
    ]


@pytest.mark.parametrize("owner", [r"NT AUTHORITY\SELF", r"nt authority\self", "S-1-5-10"])
def test_nobody_is_locked_out_of_their_own_mailbox(owner: str) -> None:
    """Exchange has whoever a mailbox belongs to by this name on the list of its rights."""
    steps = steps_of("remove_mailbox_permission", "B08", granted(User=owner, AccessRights="FullAccess"))

    assert [step.title for step in steps] == [
        f"Leave {owner} on bea alone: it is whoever the mailbox belongs to"
    ]
    assert lines_of(steps) == ["Get-MailboxPermission -Identity 'bea'"]


@pytest.mark.parametrize("everybody", ["Default", "anonymous", "Everyone"])
def test_where_no_record_is_kept_every_right_of_everybody_is_looked_at(everybody: str) -> None:
    """It may have been one on the mailbox or on a folder: to close folders leaves the other."""
    alert = make_alert("remove_mailbox_permission", mailbox="ceo@contoso.example", grantee=everybody)
    steps = plan_response(alert).steps

    assert [step.title for step in steps] == [
        f"See what {everybody} may do in ceo@contoso.example, and take away what is not theirs by right",
        f"Find the folders of ceo@contoso.example that are open to {everybody}, and close them",
    ]


def test_a_transport_rule_that_is_told_to_be_gone_can_be_ended_where_it_is_not() -> None:
    """Records of one second have no order."""
    [step] = steps_of("remove_transport_rule", "B06", MADE, transport("Remove-TransportRule"))

    assert step.powershell[1:] == (
        "# if it is still there and not yours: Disable-TransportRule -Identity '.' -Confirm:$false",
        "# Remove-TransportRule -Identity '.' -Confirm:$false",
    )
