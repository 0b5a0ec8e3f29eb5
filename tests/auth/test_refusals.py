from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m365watch.auth.refusals import REFUSALS, Refusal, is_refusal, token_refusal
from m365watch.common.errors import (
    BadAnswer,
    CollectorError,
    CredentialsRefused,
    NeedsOperator,
    RetryLater,
    Throttled,
    Unavailable,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def refusal_of(said: dict[str, Any], *hide: str) -> CollectorError:
    return token_refusal(said, where="contoso/token", hide=hide)


def test_an_expired_secret_is_named_with_its_cure() -> None:
    """One line: where, what, and what to do."""
    error = refusal_of(
        {
            "error": "invalid_client",
            "error_description": "AADSTS7000222: The provided keys are expired.\r\nTrace ID: 8c95",
            "error_codes": [7000222],
        }
    )

    assert str(error) == (
        'contoso/token: AADSTS7000222: the client secret has expired ("AADSTS7000222: The provided keys are '
        'expired."); create a new client secret in Entra and put its value into credentials.client_secret'
    )


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: str(refusal.code))
def test_each_code_becomes_its_error(refusal: Refusal) -> None:
    """A person is asked only where a person can do something, and then told what."""
    error = refusal_of({"error": "invalid_client", "error_codes": [refusal.code]})

    assert type(error) is refusal.becomes
    assert isinstance(error, NeedsOperator) == bool(refusal.fix_for(""))
    assert f"AADSTS{refusal.code}: {refusal.cause}" in str(error)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"error": "invalid_client", "error_description": "AADSTS7000215: No."}, CredentialsRefused),
        ({"error": "x", "error_codes": ["90002"]}, CredentialsRefused),
        ({"error": "x", "error_codes": [50034, 90055]}, Throttled),
        ({"error": "invalid_client", "error_codes": [50034]}, CredentialsRefused),
        ({"error": "unauthorized_client"}, CredentialsRefused),
        ({"error": "temporarily_unavailable"}, Unavailable),
        ({"error": "server_error", "error_codes": [1234567]}, Unavailable),
        ({"error": "no such page"}, BadAnswer),
        ({}, BadAnswer),
    ],
)
def test_codes_come_before_kinds(said: dict[str, Any], kind: type[CollectorError]) -> None:
    """A known code decides; after it the kind of the error; the words never do."""
    assert type(refusal_of(said)) is kind


def test_an_unknown_code_is_shown_as_it_is() -> None:
    """Whoever reads it can look it up."""
    error = refusal_of({"error": "invalid_client", "error_description": "AADSTS50034: No such user."})

    assert "AADSTS50034" in str(error)


def test_a_secret_that_is_said_back_is_not_shown() -> None:
    """A proxy or an emulator may echo what it was sent."""
    error = refusal_of({"error": "invalid_client", "error_description": "client_secret=s3cr3t?"}, "s3cr3t")

    assert "s3cr3t" not in str(error) + repr(error)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"error": "invalid_request"}, True),
        ({"error": "x", "error_codes": [90002]}, True),
        ({"error": {"code": "AF20013"}}, False),
        ({"error": "Not Found"}, False),
        ([], False),
        (None, False),
    ],
)
def test_only_an_oauth_error_is_a_refusal(said: object, *, expected: bool) -> None:
    """Anything else comes from a server that has no token endpoint there."""
    assert is_refusal(said) is expected


@given(
    st.fixed_dictionaries(
        {}, optional={"error": JSON, "error_description": JSON, "error_codes": JSON, "other": JSON}
    )
)
def test_any_object_gives_one_error_of_the_tree(said: dict[str, Any]) -> None:
    """Whatever the server says."""
    error = refusal_of(said)
    is_refusal(said)

    assert isinstance(error, RetryLater | CredentialsRefused)
    with suppress(UnicodeEncodeError):
        assert len(str(error).encode()) < 2_000
