"""A recipient outside is one however the address is written, and however many stand before it."""

from __future__ import annotations

import time

import pytest

from m365watch.detection.fields.email_addresses import bare_addresses
from m365watch.detection.fields.enrichment_context import Knowledge
from rules import view

OWN = Knowledge(accepted_domains=frozenset({"contoso.example"}))


def outsiders(value: str) -> tuple[object, ...]:
    """The external recipients of a rule that forwards there."""
    fields = {"UserId": "ann@contoso.example", "Parameters": [{"Name": "ForwardTo", "Value": value}]}
    return view(fields, knowledge=OWN).values("m365.external_recipients")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"ab"@evil.example', ["ab@evil.example"]),
        ('smtp:"a b"@evil.example', ['"a b"@evil.example']),
        ('[SMTP:"A;B"@evil.example]', ['"a;b"@evil.example']),
        ('Bob "x" <"a b"@evil.example>', ['"a b"@evil.example']),
        ('"bob@contoso.example"@evil.example', ['"bob@contoso.example"@evil.example']),
        (r'"a\"b"@evil.example', [r'"a\"b"@evil.example']),
        ("a@[203.0.113.9]", ["a@[203.0.113.9]"]),
        ('"a b"@[IPv6:2001:db8::9]', ['"a b"@[ipv6:2001:db8::9]']),
    ],
)
def test_an_odd_address_is_one(text: str, found: list[str]) -> None:
    """A name in quotation marks, and an address of the network for a domain, as the standard has them."""
    assert bare_addresses(text) == found
    assert outsiders(f"bea@contoso.example;{text}") == tuple(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            '"Ann" <ann@contoso.example>; "Bob" [SMTP:x@evil.example]',
            ["ann@contoso.example", "x@evil.example"],
        ),
        ('"@evil.example', []),
        ('"Ann"', []),
    ],
)
def test_a_display_name_is_no_address(text: str, found: list[str]) -> None:
    """What stands in quotation marks is one only where a domain follows."""
    assert bare_addresses(text) == found


@pytest.mark.parametrize("before", [199, 200, 5_000])
def test_colleagues_hide_no_outsider(before: int) -> None:
    """They are left out before it is counted how many there are."""
    many = ";".join(f"u{number}@contoso.example" for number in range(before))

    assert outsiders(f"{many};x@evil.example") == ("x@evil.example",)


def test_an_outsider_behind_a_crowd_is_shared_with() -> None:
    """The same of whom something is shared with."""
    many = ";".join(f"u{number}@contoso.example" for number in range(300))
    fields = {"UserId": "ann@contoso.example", "TargetUserOrGroupName": f"{many};x@evil.example"}

    assert view(fields, knowledge=OWN).values("m365.external_target") == ("x@evil.example",)


@pytest.mark.parametrize("part", ['"', '"a', "a@[", '"a"@[', "a;", "a@b;", '\\"'])
def test_hostile_texts_take_little_time(part: str) -> None:
    """A text as long as any that is looked at."""
    began = time.process_time()
    outsiders(part * 200_000)

    assert time.process_time() - began < 2
