"""What no single field says: one address, outsiders, outcome, changes, scopes."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from promises import guarantee

from m365watch.detection.fields.email_addresses import bare_addresses
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.fields.field_catalog import CATALOGUE, needs_of
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.fields.record_view import View
from m365watch_simulator.organization.organization import Organisation
from rules import TENANT, view

OWN = Knowledge(accepted_domains=frozenset({"contoso.example"}))


@pytest.mark.parametrize(
    ("written", "bare"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("[192.0.2.1]:443", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
        ("[2001:DB8:0::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_bare_however_it_is_written(written: str, bare: str) -> None:
    """Ports, brackets and the mapped form are stripped."""
    assert view({"ClientIP": written}).values("m365.ip") == (bare,)


@pytest.mark.parametrize("written", ["", "unknown", "999.1.1.1", "x" * 10_000, "[", ":", "1.2.3"])
def test_what_is_no_address_is_passed_over(written: str) -> None:
    """The next field that may have one is asked."""
    assert view({"ClientIP": written}).values("m365.ip") == ()
    assert view({"ClientIP": written, "ActorIpAddress": "192.0.2.7"}).values("m365.ip") == ("192.0.2.7",)


def test_a_network_is_24_or_48_bits() -> None:
    """Neighbours of an address belong to it."""
    assert view({"ClientIP": "192.0.2.77"}).values("m365.network") == ("192.0.2.0/24",)
    assert view({"ClientIP": "2001:db8:1:2::3"}).values("m365.network") == ("2001:db8:1::/48",)


def test_an_ipv6_address_is_of_whoever_has_its_64_bits() -> None:
    """One computer has all of them; an address of IPv4 is somebody's by itself."""
    first, other, mapped = "2001:db8:1:2::3", "[2001:db8:1:2:ffff::9]:443", "::ffff:192.0.2.77"

    assert view({"ClientIP": first}).values("m365.origin") == ("2001:db8:1:2::/64",)
    assert view({"ClientIP": other}).values("m365.origin") == ("2001:db8:1:2::/64",)
    assert view({"ClientIP": "2001:db8:1:3::3"}).values("m365.origin") == ("2001:db8:1:3::/64",)
    assert view({"ClientIP": mapped}).values("m365.origin") == ("192.0.2.77",)
    assert view({}).values("m365.origin") == ()


def test_places_come_from_the_tables_of_the_user() -> None:
    """Without tables there is no country, and no error."""

    class Tables:
        def locate(self, address: str) -> Whereabouts:
            return Whereabouts(country="NL", asn="64500", latitude=52.37, longitude=4.9)

    fields = {"ClientIP": "192.0.2.1"}
    known = view(fields, knowledge=Knowledge(enrichment=Tables()))

    assert known.values("m365.country") == ("NL",)
    assert known.values("m365.asn") == ("64500",)
    assert known.values("m365.place") == ("52.3700,4.9000",)
    assert view(fields).values("m365.country") == ()


@pytest.mark.parametrize(
    ("kind", "human"),
    [(0, True), (2, True), (3, False), (4, False), ("4", False), ("System", False), (5, True), (None, True)],
)
def test_services_are_told_by_their_user_type(kind: Any, human: bool) -> None:
    """Never by name: names of Microsoft's services are spelled in several ways."""
    assert view({"UserType": kind, "UserId": "NT AUTHORITY\\SYSTEM"}).values("m365.human") == (human,)


@pytest.mark.parametrize(
    ("fields", "ok"),
    [
        ({"Workload": "Exchange", "ResultStatus": "True"}, True),
        ({"Workload": "Exchange", "ResultStatus": "PartiallySucceeded"}, True),
        ({"Workload": "Exchange", "ResultStatus": "False"}, False),
        ({"Workload": "AzureActiveDirectory", "ResultStatus": "Success"}, True),
        ({"Workload": "AzureActiveDirectory", "ResultStatus": "Failure"}, False),
        ({"Workload": "AzureActiveDirectory", "ResultStatus": "PartiallySucceeded"}, False),
        ({"Workload": "SharePoint"}, True),
        ({"Workload": "Exchange", "ResultStatus": ""}, True),
        ({"Operation": "UserLoginFailed", "ResultStatus": "Success"}, False),
        ({"Operation": "UserLoggedIn", "ResultStatus": "Success", "ErrorNumber": "50126"}, False),
        ({"Operation": "UserLoggedIn", "ResultStatus": "Success", "ErrorNumber": "0"}, True),
    ],
)
def test_the_outcome_is_told_per_workload(fields: dict[str, Any], ok: bool) -> None:
    """A failed sign-in says Success in its ResultStatus."""
    assert view(fields).values("m365.ok") == (ok,)


def test_operations_are_compared_in_one_form() -> None:
    """Trimmed, any case, any dash."""
    assert (
        normalise_operation("Update application \u2013 Certificates and secrets management ")
        == "update application - certificates and secrets management"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("smtp:Eve@Example.net", ["eve@example.net"]),
        ("Ev\u00e9@B\u00fccher.example", ["ev\u00e9@b\u00fccher.example"]),
        ("$1@example.net", ["$1@example.net"]),
        ("[SMTP:eve@example.net]", ["eve@example.net"]),
        ('"Eve" <eve@example.net>', ["eve@example.net"]),
        ("ann@contoso.example;eve@example.net", ["ann@contoso.example", "eve@example.net"]),
        ("eve_example.net#EXT#@contoso.example", ["eve@example.net"]),
        ("i:0#.f|membership|eve_example.net#ext#@contoso.example", ["eve@example.net"]),
        ("Conference Room", []),
        ("", []),
    ],
)
def test_addresses_are_found_in_what_cmdlets_have_for_recipients(text: str, found: list[str]) -> None:
    """Prefixes, brackets, display names, several in one value."""
    assert bare_addresses(text) == found


def test_outsiders_are_those_of_no_accepted_domain() -> None:
    """A domain below an accepted one is the organisation's own."""
    fields = {
        "UserId": "ann@contoso.example",
        "Parameters": [
            {"Name": "ForwardTo", "Value": "bob@mail.contoso.example;eve@example.net;x@notcontoso.example"}
        ],
    }

    assert view(fields, knowledge=OWN).values("m365.external_recipients") == (
        "eve@example.net",
        "x@notcontoso.example",
    )
    assert "bob@mail.contoso.example" in view(fields).values("m365.recipients")


def test_a_domain_in_letters_of_another_script_is_one_s_own_in_either_spelling() -> None:
    """The setting may have what the network has, or what people read."""
    fields = {"UserId": "ann@contoso.example", "Parameters": {"ForwardTo": "bob@b\u00fccher.example"}}

    for accepted in ("b\u00fccher.example", "xn--bcher-kva.example"):
        known = Knowledge(accepted_domains=frozenset({accepted}))
        assert view(fields, knowledge=known).values("m365.external_recipients") == ()
    assert view(fields, knowledge=OWN).values("m365.external_recipients") == ("bob@b\u00fccher.example",)


def test_without_accepted_domains_the_actors_own_is_inside() -> None:
    """Rules that ask for outsiders work before anybody has set anything."""
    fields = {
        "UserId": "ann@contoso.example",
        "Parameters": {"ForwardTo": "bob@contoso.example;eve@example.net"},
    }

    assert view(fields).values("m365.external_recipients") == ("eve@example.net",)


def test_a_rule_that_outlook_saved_has_recipients() -> None:
    """They stand in JSON in a string, and count only if the rule forwards."""
    rule = {"Actions": [{"ActionType": "ForwardToRecipientsAction", "Recipients": ["eve@example.net"]}]}
    bank = {"Conditions": [{"From": ["bank@example.net"]}]}
    moves = {"Actions": [{"ActionType": "MoveAction"}]} | bank

    def seen(rule: object) -> Any:
        pair = {"Name": "ServerRule", "Value": json.dumps(rule)}
        return view({"OperationProperties": [pair]}, knowledge=OWN).values("m365.external_recipients")

    assert seen(rule) == ("eve@example.net",)
    assert seen(moves) == ()
    # Whose mail it is for is none; where its actions name nobody, whoever it names may be one.
    assert seen(rule | bank) == ("eve@example.net",)
    forwards = {"Actions": [{"ActionType": "ForwardToRecipientsAction"}], "Recipients": ["eve@example.net"]}
    assert seen(forwards) == ("eve@example.net",)


def test_what_a_property_gained_is_told_from_what_it_had() -> None:
    """Elements of lists, values at any depth, parts of a text."""
    fields = {
        "ModifiedProperties": [
            {"Name": "KeyDescription", "NewValue": '["[Key=a]","[Key=b]"]', "OldValue": '["[Key=a]"]'},
            {
                "Name": "Method",
                "NewValue": '[{"MethodType":6},{"MethodType":7}]',
                "OldValue": '[{"MethodType":6}]',
            },
            {"Name": "Flags", "NewValue": "x;y", "OldValue": "y;z"},
        ]
    }
    seen = view(fields)

    assert seen.values("m365.gained.KeyDescription") == ("[Key=b]",)
    assert seen.values("m365.lost.KeyDescription") == ()
    assert seen.values("m365.gained.Method.MethodType") == ("7",)
    assert seen.values("m365.gained.Flags") == ("x",)
    assert seen.values("m365.lost.Flags") == ("z",)


def test_scopes_are_those_that_are_granted_now() -> None:
    """What stands before the arrow was granted before."""
    before = "[Id: a, ConsentType: Principal, Scope: User.Read]"
    after = "[Id: a, ConsentType: Principal, Scope: User.Read Mail.Read]"
    text = f"[{before}] => [{after}]; "
    fields = {"ModifiedProperties": [{"Name": "ConsentAction.Permissions", "NewValue": text, "OldValue": ""}]}

    assert view(fields).values("m365.scopes") == ("Mail.Read",)


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/90.0 Safari/537.36", "chrome"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/90.0 Safari/537.36 Edg/90.0", "edge"),
        ("Mozilla/5.0 (Macintosh) AppleWebKit/605 Version/16 Safari/605", "safari"),
        ("python-requests/2.31", "python-requests"),
        ("Client=REST;Client=RESTSystem;;", "rest"),
        ("BAV2ROPC", "bav2ropc"),
    ],
)
def test_agents_are_told_by_family(agent: str, family: str) -> None:
    """A new version of a browser is not another program."""
    assert view({"UserAgent": agent}).values("m365.user_agent_family") == (family,)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize(
    "junk", [None, 5, True, [], {}, "x" * 100_000, [None, {"ID": 5}], {"a": {"b": []}}, "[[[", -1.5]
)
def test_no_record_breaks_a_derived_field(name: str, junk: Any) -> None:
    """Whatever stands in the fields that it reads, a tuple comes back."""
    fields = dict.fromkeys((*needs_of(f"m365.{name}"), "Operation", "ClientIP"), junk)

    assert isinstance(view(fields, knowledge=OWN).values(f"m365.{name}"), tuple)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_derived_field_reads_only_what_it_says_it_needs(name: str) -> None:
    """What is not among its needs is not decoded, so it must not be asked for."""
    asked: set[str] = set()

    class Watched(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return default

    knowledge = Knowledge(
        accepted_domains=frozenset({"a.example"}),
        indicators=frozenset({"b"}),
        vips=frozenset({"c"}),
        admins=frozenset({"c"}),
    )
    view(Watched(), knowledge=knowledge).values(f"m365.{name}")

    assert asked <= set(needs_of(f"m365.{name}"))


@pytest.mark.slow
def test_what_is_derived_reads_no_field_beyond_those_it_names() -> None:
    """A record is decoded no further than these: another field would be missing, and remembered as such."""
    at = datetime(2026, 11, 3, 10, tzinfo=UTC)
    organisation = Organisation(2, TENANT, users=40, records_per_day=20_000)
    knowledge = Knowledge(
        accepted_domains=frozenset({organisation.domain}),
        vips=frozenset({organisation.people[0].upn}),
        indicators=frozenset({"203.0.113.241"}),
    )
    told: Counter[str] = Counter()
    for one in organisation.records_between(at, at + timedelta(hours=1)):
        record = json.loads(one.body)
        whole = View(record, knowledge=knowledge, tenant=TENANT)
        for name, derived in CATALOGUE.items():
            part = {field: record[field] for field in derived.needs if field in record}
            values = View(part, knowledge=knowledge, tenant=TENANT).values(f"m365.{name}")
            told[name] += bool(values)

            assert values == whole.values(f"m365.{name}"), (name, record)
    assert len([name for name, count in told.items() if count]) > 12


def test_members_of_a_chat_are_told_apart_from_outsiders() -> None:
    """By the accepted domains, whoever opened it; a guest's own address stands in its name."""
    chat = {
        "UserId": "help@evil.example",
        "Members": [{"UPN": "Help@evil.example"}, {"UPN": "ann@contoso.example"}],
    }
    guest = {"UserId": "ann@contoso.example", "Members": [{"UPN": "eve_evil.example#EXT#@contoso.example"}]}
    found = {"UserId": "ann@contoso.example"}

    assert view(chat, knowledge=OWN).values("m365.outside_members") == ("help@evil.example",)
    assert view(chat, knowledge=OWN).values("m365.inside_members") == ("ann@contoso.example",)
    assert view(guest, knowledge=OWN).values("m365.outside_members") == (
        "eve_evil.example#ext#@contoso.example",
    )
    assert view(found, knowledge=OWN).values("m365.outside_members") == ()
    assert view(found, knowledge=OWN).values("m365.inside_members") == ("ann@contoso.example",)


def test_nobody_is_called_an_outsider_while_no_domain_is_known() -> None:
    """But for a guest; and nobody is taken for one of the organisation's, who may be the stranger."""
    chat = {
        "UserId": "help@evil.example",
        "Members": [{"UPN": "help@evil.example"}, {"UPN": "ann@contoso.example"}],
    }
    guest = {"UserId": "ann@contoso.example", "Members": [{"UPN": "eve_evil.example#EXT#@contoso.example"}]}

    assert view(chat).values("m365.outside_members") == view(chat).values("m365.inside_members") == ()
    assert view(guest).values("m365.outside_members") == ("eve_evil.example#ext#@contoso.example",)


HOME, AWAY = "6f1d2c3b-0a4e-4d55-9d3b-2f6a1b7c8d90", "11111111-2222-4333-8444-555555555555"
DESK, FIRST = "help@evil.example", "help@contoso.onmicrosoft.com"


def chat_of(*members: dict[str, str], **more: object) -> dict[str, object]:
    """A chat of these, in a record of the tenant."""
    return {"UserId": "ann@contoso.example", "OrganizationId": HOME, "Members": list(members), **more}


@guarantee(38)
def test_the_record_itself_says_who_is_of_which_tenant() -> None:
    """By the tenant of each, or of each domain; an accepted domain is one's own in whichever tenant it is."""
    by_tenant = chat_of({"UPN": DESK, "OrganizationId": AWAY}, {"UPN": FIRST, "OrganizationId": HOME})
    domains = [
        {"DomainName": "evil.example", "TenantId": AWAY},
        {"DomainName": "contoso.onmicrosoft.com", "TenantId": HOME},
    ]
    by_domain = chat_of({"UPN": DESK}, {"UPN": FIRST}, ParticipantInfo={"ParticipatingSIPDomains": domains})
    sister = chat_of({"UPN": "bob@contoso.example", "OrganizationId": AWAY})

    for chat in (by_tenant, by_domain):
        assert view(chat).values("m365.outside_members") == (DESK,)
        assert view(chat).values("m365.inside_members") == (FIRST,)
        assert view(chat).values("m365.foreign_domains") == ("evil.example",)
    assert view(sister).values("m365.foreign_domains") == ("contoso.example",)
    assert view(sister, knowledge=OWN).values("m365.inside_members") == ("bob@contoso.example",)


@guarantee(38)
def test_a_first_domain_is_of_neither_side_while_nothing_tells_whose_it_is() -> None:
    """Nobody writes their own onmicrosoft.com down among the accepted domains."""
    chat = chat_of({"UPN": FIRST}, {"UPN": "ann@contoso.example"})

    assert view(chat, knowledge=OWN).values("m365.outside_members") == ()
    assert view(chat, knowledge=OWN).values("m365.foreign_domains") == ()


def test_a_guest_s_own_domain_is_foreign_unless_it_may_be_one_s_own() -> None:
    """The guests of contoso.onmicrosoft.com who come from contoso.example may be colleagues of a sister."""
    guests = {
        "bob_contoso.example#EXT#@contoso.onmicrosoft.com": ((), ()),
        "eve_evil.example#EXT#@contoso.onmicrosoft.com": (("evil.example",), ("evil.example",)),
    }
    for name, (unknown, known) in guests.items():
        assert view(chat_of({"UPN": name})).values("m365.foreign_domains") == unknown
        assert view(chat_of({"UPN": name}), knowledge=OWN).values("m365.foreign_domains") == known


def test_one_s_own_help_desk_is_no_stranger() -> None:
    """The record or a setting says that it is of the house; else its name counts."""
    desk = {"UPN": "desk@contoso.example", "DisplayName": "Contoso IT Support"}
    stranger = {"UPN": "x@partner.example", "DisplayName": "Max"}
    told = chat_of({**desk, "OrganizationId": HOME}, {**stranger, "OrganizationId": AWAY})

    assert view(told).values("m365.stranger_names") == ("Max",)
    assert view(chat_of(desk, stranger), knowledge=OWN).values("m365.stranger_names") == ("Max",)
    assert view(chat_of(desk, stranger)).values("m365.stranger_names") == ("Contoso IT Support", "Max")
    assert view(chat_of(desk), knowledge=OWN).values("m365.stranger_addresses") == ()


def test_of_those_who_join_only_guests_are_guests() -> None:
    """Whoever was added along with one is a colleague."""
    guest = "eve_evil.example#EXT#@contoso.example"

    assert view(chat_of({"UPN": "ann@contoso.example"}, {"UPN": guest})).values("m365.guest_members") == (
        guest,
    )


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        (
            {"ServerRule": '{"Actions":[{"ActionType":"MoveAction","Folder":"\\\\RSS Feeds"}]}'},
            ("Move: \\RSS Feeds",),
        ),
        ({"RuleActions": '[{"ActionType":"Delete"},{"ActionType":"MarkAsRead"}]'}, ("Delete", "MarkAsRead")),
        ({"RuleActions": "Delete; MarkAsRead"}, ("Delete; MarkAsRead",)),
        ({"RuleActions": "MoveAction", "ServerRule": "cut {"}, ("MoveAction",)),
        ({}, ()),
    ],
)
def test_what_a_rule_of_outlook_s_does_is_told_in_words(
    properties: dict[str, str], told: tuple[str, ...]
) -> None:
    """And not as the JSON in which it was saved."""
    fields = {"OperationProperties": [{"Name": name, "Value": one} for name, one in properties.items()]}

    assert view(fields).values("m365.rule_actions") == told


def test_a_subject_is_told_only_of_a_mail_that_is_alone_in_its_record() -> None:
    """What else was thrown away is the owner's own affair."""
    alone = {"AffectedItems": [{"Subject": "New device"}, {"Subject": "New device"}]}
    among = {"AffectedItems": [{"Subject": "New device"}, {"Subject": "The divorce"}]}

    assert view(alone).values("m365.only_subject") == ("New device",)
    assert view(among).values("m365.only_subject") == ()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"Data": '{"f3u":"ann@contoso.example"}', "AlertEntityId": "x"}, ("ann@contoso.example",)),
        ({"AlertEntityId": "ann@contoso.example", "EntityType": "User"}, ("ann@contoso.example",)),
        ({"Data": '{"etype":"User","eid":"ann@contoso.example"}'}, ("ann@contoso.example",)),
        ({"AlertEntityId": "<a@b.example>", "EntityType": "MailMessage"}, ()),
        ({"AlertEntityId": "Several", "EntityType": "User"}, ()),
    ],
)
def test_an_alert_of_microsoft_s_is_about_the_user_that_it_names(
    fields: dict[str, str], told: tuple[str, ...]
) -> None:
    """In its data, or as the entity of a row; a mail is nobody."""
    assert view(fields).values("m365.alerted_user") == told


def test_an_application_that_got_a_role_is_named_by_the_id_that_it_signs_in_with() -> None:
    """ObjectId may be all its names in one text; where only its object is known, that is said."""
    app, own = "a62919b8-0000-4b3f-ab2a-0000000000aa", "2383a669-0000-49c4-a7e6-0000000000bb"
    named = [{"ID": one, "Type": 2} for one in (f"ServicePrincipal_{own}", own, "ServicePrincipal")]
    names = f"{app}/x.example;{app};https://x.example"

    known = {
        "Target": [*named, {"ID": "Mail Insights", "Type": 1}, {"ID": app, "Type": 2}],
        "ObjectId": names,
    }
    assert view(known).values("m365.target_app") == (app,)
    assert view({"Target": named, "ObjectId": names}).values("m365.target_app") == (
        f"ServicePrincipal_{own}",
    )


@pytest.mark.parametrize(
    "named", ["99999999-aaaa-4bbb-8ccc-dddddddddddd", "ServicePrincipal_99999999-aaaa-4bbb-8ccc-dddddddddddd"]
)
def test_what_an_application_is_called_is_not_its_id(named: str) -> None:
    """Whoever makes it chooses its name, and may take another's id."""
    app, own = "a62919b8-0000-4b3f-ab2a-0000000000aa", "2383a669-0000-49c4-a7e6-0000000000bb"
    before = [{"ID": named, "Type": 1}]
    after = [{"ID": one, "Type": 2} for one in (f"ServicePrincipal_{own}", own, "ServicePrincipal")]

    told = [view({"Target": [*before, *after, *more]}) for more in ([{"ID": app, "Type": 2}], [])]
    assert [one.values("m365.target_app") for one in told] == [(app,), (f"ServicePrincipal_{own}",)]


def test_a_group_that_is_called_as_applications_are_is_none() -> None:
    """Its object was taken for the id that it signs in with."""
    own = "2383a669-0000-49c4-a7e6-0000000000bb"
    named = [{"ID": one, "Type": 2} for one in (f"Group_{own}", own, "Group")]

    target = {"Target": [*named, {"ID": "ServicePrincipal", "Type": 1}], "ObjectId": own}
    assert view(target).values("m365.target_app") == ()
