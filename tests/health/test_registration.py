"""Which of the credentials that Entra keeps is ours: by its first characters, or by its thumbprint."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from expiry_ward import DAY, SECRET
from m365watch.auth.app_registration import Registration, parse_application
from m365watch.common.errors import BadAnswer
from m365watch_testing.clock import START

THUMBPRINT = "52ED9B5038A47B9E2E2190715CC238359D4F8F73"
SOON, LATE = START + 10 * DAY, START + 200 * DAY


def password(
    ends_at: datetime | None, *, hint: str | None = SECRET[:3], starts_at: datetime = START
) -> object:
    return {
        "endDateTime": None if ends_at is None else f"{ends_at:%Y-%m-%dT%H:%M:%S.1234567Z}",
        "startDateTime": f"{starts_at:%Y-%m-%dT%H:%M:%SZ}",
        "hint": hint,
        "secretText": None,
    }


def parse(*passwords: object, keys: object = ()) -> Registration:
    body = json.dumps({"passwordCredentials": passwords, "keyCredentials": list(keys)})  # type: ignore[call-overload]  # a list
    return parse_application(b"\xef\xbb\xbf" + body.encode(), where="a test")


def days(ends: tuple[datetime, ...]) -> list[int]:
    """Days from the start."""
    return [(end - START).days for end in ends]


@pytest.mark.parametrize(
    ("passwords", "expected"),
    [
        # The one that begins like ours, whatever else there is.
        ([password(SOON, hint="aaa"), password(LATE), password(SOON, hint=None)], [200]),
        # Two begin alike: either may be it.
        ([password(LATE), password(SOON), password(START + 300 * DAY, hint="aaa")], [10, 200]),
        # One of them has expired, and ours has given us a token.
        ([password(START - DAY), password(LATE)], [200]),
        # All have expired: ours did so by the last of these.
        ([password(START - 9 * DAY), password(START - 2 * DAY)], [-2]),
        # Entra keeps no first characters of secrets that are old enough.
        ([password(SOON, hint=None), password(LATE, hint="aaa")], [10]),
        # One that is not in force yet is not in use.
        ([password(SOON, starts_at=START + DAY), password(LATE)], [200]),
        ([password(LATE, hint="aaa")], []),
        ([password(None)], []),
        ([], []),
    ],
)
def test_the_secret_is_found_by_its_first_characters(passwords: list[object], expected: list[int]) -> None:
    """In force, since it gave a token; where several are meant, all their ends are possible."""
    assert days(parse(*passwords).ends_of_secret(SECRET, START)) == expected


@pytest.mark.parametrize(
    "spelt",
    [
        base64.b64encode(bytes.fromhex(THUMBPRINT)).decode(),
        base64.b64encode(THUMBPRINT.encode()).decode(),
        THUMBPRINT.lower(),
    ],
)
def test_a_certificate_is_found_by_its_thumbprint(spelt: str) -> None:
    """In each spelling that is met."""
    registration = parse(
        keys=[
            {"customKeyIdentifier": spelt, "endDateTime": "2027-01-31T00:00:00Z"},
            {"customKeyIdentifier": None, "endDateTime": "2026-12-01T00:00:00Z"},
            {"customKeyIdentifier": "%%%", "endDateTime": "2026-12-01T00:00:00Z"},
        ]
    )

    assert registration.end_of_certificate(THUMBPRINT) == datetime(2027, 1, 31, tzinfo=UTC)
    assert registration.end_of_certificate("0" * 40) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"passwordCredentials":7}', b"\xff"])
def test_what_is_no_application_is_no_answer(body: bytes) -> None:
    """It is asked again another day."""
    with pytest.raises(BadAnswer):
        parse_application(body, where="a test")
