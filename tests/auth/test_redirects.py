"""What a browser brings back is checked before any of it is used."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.auth.consent.authorization_request import (
    ConsentAttempt,
    ConsentForm,
    ForeignAnswer,
    Redirect,
    read_redirect,
)
from m365watch.common.errors import ConsentRefused
from m365watch.config.models.clouds import CLOUDS

TENANT = "0A1B2C3D-0000-4000-8000-00000000000A"
ADMIN = ConsentAttempt(ConsentForm.ADMIN, CLOUDS["worldwide"], "x", state="right")
CODE = ConsentAttempt(ConsentForm.CODE, CLOUDS["worldwide"], "x", state="right", verifier="verify-me")
YES = {"tenant": TENANT, "admin_consent": "True", "state": "right"}


def read(said: dict[str, str], attempt: ConsentAttempt = ADMIN) -> Redirect:
    return read_redirect(urlencode({"state": "right"} | said), attempt)


def test_a_yes_names_the_tenant() -> None:
    """In lower case, as everywhere here."""
    assert read(YES) == Redirect(TENANT.lower())
    assert read({"code": "1.abc", "session_state": "y"}, CODE) == Redirect("", "1.abc")
    assert "1.abc" not in repr(Redirect("", "1.abc"))


@guarantee(25)
@pytest.mark.parametrize("state", ["", "wrong", "right ", "RIGHT", "rightright", "ü"])
def test_another_state_is_nobody_s_answer(state: str) -> None:
    """Neither a yes nor a no is believed without it."""
    for said in ({"tenant": TENANT, "admin_consent": "True"}, {"error": "access_denied"}):
        with pytest.raises(ForeignAnswer):
            read(said | {"state": state})
    with pytest.raises(ForeignAnswer):
        read_redirect(f"tenant={TENANT}&admin_consent=True", ADMIN)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"tenant": "contoso.example"}, "not a GUID"),
        ({"tenant": f"{TENANT}\n"}, "not a GUID"),
        ({"tenant": "../x"}, "not a GUID"),
        ({"tenant": ""}, "does not say"),
        ({"admin_consent": "False"}, "does not say"),
        ({"admin_consent": ""}, "does not say"),
    ],
)
def test_a_yes_that_says_too_little_is_none(said: dict[str, str], words: str) -> None:
    """Tenant and consent, both or nothing."""
    with pytest.raises(ConsentRefused, match=words):
        read(YES | said)


@pytest.mark.parametrize("code", ["", "a b", "a\r\nb", "ü", "x" * 8_193])
def test_a_code_that_is_none_is_refused(code: str) -> None:
    """Nothing goes to the token endpoint."""
    with pytest.raises(ConsentRefused, match="code"):
        read({"code": code}, CODE)


def test_what_is_said_twice_is_refused() -> None:
    """Two readers of one address must not read two things."""
    with pytest.raises(ConsentRefused, match="twice"):
        read_redirect(f"{urlencode(YES)}&tenant=00000000-0000-4000-8000-000000000000", ADMIN)


@pytest.mark.parametrize(
    ("error", "description", "cure"),
    [
        ("permission_denied", "The admin canceled the request", "let an administrator"),
        ("access_denied", "AADSTS65004: User declined to consent.", "let an administrator"),
        ("access_denied", "AADSTS90094: Admin consent is required.", "let an administrator"),
        ("unauthorized_client", "AADSTS700016: Application was not found", "multi-tenant"),
        ("invalid_request", "AADSTS50194: not a multi-tenant application", "--tenant"),
        ("invalid_client", "AADSTS650056: Misconfigured application", "ActivityFeed.Read"),
        ("temporarily_unavailable", "", "wait a few minutes"),
        ("whatever", "", "look the code up"),
    ],
)
def test_a_no_comes_with_its_cure(error: str, description: str, cure: str) -> None:
    """The AADSTS code decides, else the kind of error."""
    with pytest.raises(ConsentRefused) as refused:
        read({"error": error, "error_description": description})

    assert cure in refused.value.fix
    assert error in refused.value.what


def test_a_no_tells_neither_state_nor_verifier_nor_anything_unprintable() -> None:
    """Its words go to a terminal and to a page."""
    said = "right \x1b[2Jverify-me <script>\r\nTrace ID: 1"
    with pytest.raises(ConsentRefused) as refused:
        read({"error": "access_denied\x1b", "error_description": said}, CODE)

    assert str(refused.value).isprintable()
    assert "right" not in refused.value.what
    assert "verify-me" not in refused.value.what
    assert "Trace" not in refused.value.what


@given(
    st.text(alphabet=st.characters(codec="utf-8"))
    | st.lists(st.sampled_from(["state=right", "code=1", "error=x", "%ff", "=", "a" * 99])).map("&".join)
)
def test_any_query_is_read_or_refused(query: str) -> None:
    """Nothing else ever comes of it."""
    for attempt in (ADMIN, CODE):
        with suppress(ForeignAnswer, ConsentRefused):
            assert isinstance(read_redirect(query, attempt), Redirect)
