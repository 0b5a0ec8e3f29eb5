"""What a notification says, and how little of it is believed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from m365watch.common.model import ContentType, TenantId
from m365watch.http.bounded_listener import Request
from m365watch.sources.management_api.webhook.payloads import Notified, parse_notifications, tenant_of

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
CREATED = "20260721121608709004422"
CONTENT = f"{CREATED}${CREATED}$audit_azureactivedirectory$Audit_AzureActiveDirectory"
PUBLISHED = {
    "contentType": "Audit.AzureActiveDirectory",
    "contentId": f"{CONTENT}$IsFromNotification",
    "notificationStatus": "Succeeded",
    "contentCreated": "2026-07-21T12:16:56.798Z",
    "notificationSent": "2026-07-21T12:16:56.798Z",
    "contentExpiration": "2026-07-28T12:16:08.709Z",
}


def read(*said: object) -> tuple[Notified, ...]:
    body = bytearray(json.dumps(list(said)).encode())
    return parse_notifications(Request(body=body), TENANT).notified


def test_the_id_loses_its_extra_segment_and_says_when_its_content_was_created() -> None:
    """To the millisecond, where the notification's own contentCreated is 48 s late (api-contract 2.6)."""
    [found] = read(PUBLISHED)

    created_at = datetime(2026, 7, 21, 12, 16, 8, 709_000, tzinfo=UTC)
    assert found == Notified(ContentType.AZURE_ACTIVE_DIRECTORY, CONTENT, created_at, is_exact=True)


def test_an_id_of_another_shape_is_looked_for_around_its_notification() -> None:
    """Content ids are opaque, and older ones said nothing of time."""
    [found] = read(PUBLISHED | {"contentId": "492638008028$492638008028$f28ab78a"})

    assert found.near == datetime(2026, 7, 21, 12, 16, 56, 798_000, tzinfo=UTC)
    assert not found.is_exact


@pytest.mark.parametrize(
    "change",
    [
        {"contentType": "Audit.New"},
        {"contentType": None},
        {"contentId": ""},
        {"contentId": "$IsFromNotification"},
        {"contentId": 7},
        {"contentId": "x" * 3_000},
        {"contentId": "a\nb"},
        {"contentId": "x", "contentCreated": "never"},
        {"contentId": "x", "contentCreated": None},
        {"contentId": "99999999999999999000000$x", "contentCreated": []},
        {"contentId": "x", "contentCreated": "9999-12-31T23:59:59-23:59"},
        {"contentId": "x", "contentCreated": "9999-12-31T23:59:59Z"},
        {"contentId": "x", "contentCreated": "0001-01-01T00:00:00Z"},
        {"contentId": "99991231235959000000001$x"},
    ],
)
def test_what_cannot_be_understood_is_counted_and_left(change: dict[str, Any]) -> None:
    """Its neighbours are looked for all the same."""
    body = bytearray(json.dumps([PUBLISHED | change, PUBLISHED]).encode())
    found = parse_notifications(Request(body=body), TENANT)

    assert (len(found.notified), found.odd) == (1, 1)


@pytest.mark.parametrize(
    "target", ["/told/ABC", "/told/abc/", "/abc?x=/y", "https://hook.example/a/b/abc", "abc"]
)
def test_the_tenant_is_the_last_segment_of_the_path(target: str) -> None:
    """Whatever a proxy puts before it or takes away."""
    assert tenant_of(target) == "abc"
