"""The addresses at which an administrator consents, pinned letter by letter."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest
from promises import guarantee

from m365watch.auth.consent.authorization_request import (
    ConsentAttempt,
    ConsentForm,
    challenge_of,
    parse_redirect_uri,
    read_attempt,
    write_attempt,
)
from m365watch.config.models.clouds import CLOUDS, Cloud

APPLICATION = "99999999-8888-4777-8666-555555555555"
BACK = "http://localhost:8400/consent"
REST = f"client_id={APPLICATION}&redirect_uri=http%3A%2F%2Flocalhost%3A8400%2Fconsent"
OWN = Cloud("custom", "https://login.own.example", "https://api.own.example", "https://api.own.example/")

MODERN = {
    "worldwide": ("https://login.microsoftonline.com", "https%3A%2F%2Fmanage.office.com"),
    "gcc": ("https://login.microsoftonline.com", "https%3A%2F%2Fmanage-gcc.office.com"),
    "gcc-high": ("https://login.microsoftonline.us", "https%3A%2F%2Fmanage.office365.us"),
    "dod": ("https://login.microsoftonline.us", "https%3A%2F%2Fmanage.protection.apps.mil"),
    "china": ("https://login.partner.microsoftonline.cn", "https%3A%2F%2Fmanage.office365.cn"),
    "custom": ("https://login.own.example", "https%3A%2F%2Fapi.own.example%2F"),
}
V1_HOSTS = {name: login for name, (login, _) in MODERN.items()} | dict.fromkeys(
    ("worldwide", "gcc"), "https://login.windows.net"
)
ALL = {**CLOUDS, "custom": OWN}


def attempt(form: str, cloud: str = "worldwide", **changes: str) -> ConsentAttempt:
    return ConsentAttempt(ConsentForm(form), ALL[cloud], APPLICATION, **changes)


def test_the_product_page_s_address_is_made_as_it_is_printed_there() -> None:
    """Source: api-contract 1.8."""
    assert attempt("v1").url == (
        "https://login.windows.net/common/oauth2/authorize?response_type=code"
        f"&resource=https%3A%2F%2Fmanage.office.com&{REST}"
    )


@pytest.mark.parametrize("cloud", MODERN)
def test_each_cloud_has_its_own_addresses(cloud: str) -> None:
    """Login host and audience of the cloud, and of no other."""
    login, audience = MODERN[cloud]

    assert [attempt(form, cloud).url for form in ("admin", "code", "v1")] == [
        f"{login}/common/adminconsent?{REST}",
        (
            f"{login}/common/oauth2/v2.0/authorize?response_type=code&response_mode=query"
            f"&scope=openid%20{audience}%2F.default&{REST}&prompt=consent"
        ),
        f"{V1_HOSTS[cloud]}/common/oauth2/authorize?response_type=code&resource={audience}&{REST}",
    ]


@guarantee(25)
@pytest.mark.parametrize("cloud", MODERN)
def test_a_code_goes_to_the_configured_host_only(cloud: str) -> None:
    """With it goes the application's proof, which no other host gets."""
    login, _ = MODERN[cloud]

    assert [attempt(form, cloud).token_url for form in ("code", "v1")] == [
        f"{login}/common/oauth2/v2.0/token",
        f"{login}/common/oauth2/token",
    ]


def test_a_guarded_question_cannot_be_guessed_and_is_never_the_same() -> None:
    """State in each, PKCE where a code is asked for; the verifier itself never goes along."""
    first, second = (attempt("code").guarded() for _ in range(2))
    query = {key: value[0] for key, value in parse_qs(urlsplit(first.url).query).items()}

    assert query["state"] == first.state
    assert query["code_challenge"] == challenge_of(first.verifier)
    assert query["code_challenge_method"] == "S256"
    assert first.verifier not in first.url
    assert not {first.state, first.verifier} & {second.state, second.verifier}
    assert (len(first.state), len(first.verifier)) == (43, 64)
    assert attempt("admin").guarded().verifier == ""
    assert first.state not in repr(first)
    assert first.verifier not in repr(first)


def test_the_challenge_is_the_verifier_s_hash() -> None:
    """Source: RFC 7636, appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert (
        base64.urlsafe_b64decode(f"{challenge_of(verifier)}=") == hashlib.sha256(verifier.encode()).digest()
    )


def test_a_named_tenant_stands_in_the_path() -> None:
    """Whatever its name, it stays one part of the path."""
    assert urlsplit(attempt("admin", tenant="contoso.example").url).path == "/contoso.example/adminconsent"
    assert urlsplit(attempt("admin", tenant="a/../b?c").url).path == "/a%2F..%2Fb%3Fc/adminconsent"


def test_an_attempt_can_be_kept() -> None:
    """What comes back is what was written."""
    kept = attempt("code", "custom").guarded()

    assert read_attempt(write_attempt(kept), cloud=OWN, client_id=APPLICATION) == kept
    for cloud, client_id in ((CLOUDS["china"], APPLICATION), (OWN, "x")):
        with pytest.raises(ValueError, match="belongs to another"):
            read_attempt(write_attempt(kept), cloud=cloud, client_id=client_id)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"form": "x"}', '{"form": "code", "cloud": {}}', "[" * 9_999]
)
def test_what_is_no_attempt_is_refused(text: str) -> None:
    """In a sentence, whatever it is."""
    with pytest.raises(ValueError, match="is not what `m365watch consent url --keep` writes"):
        read_attempt(text, cloud=OWN, client_id=APPLICATION)


@pytest.mark.parametrize("uri", [BACK, "http://127.0.0.1/", "https://soc.example/m365/consent"])
def test_a_redirect_uri_that_entra_takes_is_taken(uri: str) -> None:
    """Https anywhere, http on loopback."""
    assert parse_redirect_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "localhost:8400",
        "http://soc.example/",
        "https://a@b.example/",
        f"{BACK}?x=1",
        f"{BACK}#x",
        "https://[/",
        "http://localhost:port/",
        "https://b.example/\n",
        "ftp://localhost/",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_a_redirect_uri_that_entra_refuses_is_refused(uri: str) -> None:
    """Before anybody has opened anything."""
    with pytest.raises(ValueError, match=r"is not|has a|is http"):
        parse_redirect_uri(uri)
