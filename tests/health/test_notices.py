"""A notice: Devo's keys and tags, the right names, and nothing that should not be told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from promises import guarantee

from m365watch import __version__
from m365watch.common.collector_events import (
    MSG_CHARACTERS_MAX,
    InputName,
    Notice,
    Speaker,
    collector_image,
    plain_msg,
)
from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.common.secret import Secret
from m365watch.config.credential_validation import IdentityEndpoint
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.settings import TenantSettings
from m365watch.health.event_log import TaggedNotices, list_secrets
from m365watch_testing.credentials import certificate, client_secret, managed_identity

TENANT = TenantId("3f0c1c52-0000-4000-8000-000000000001")
FEED = Feed(TENANT, ContentType.EXCHANGE)
SPEAKER = Speaker(
    collector_name="audit",
    collector_image=collector_image(None),
    job_id="12",
    inputs={
        str(FEED): InputName("office365", "exchange"),
        str(Feed(TENANT, ContentType.DLP)): InputName("office365", "dlp"),
    },
)
AT = datetime(2026, 11, 17, 9, 5, tzinfo=UTC)


def test_a_notice_has_devos_keys() -> None:
    """The keys of Devo's SDK and `job_id`; the time always has its microseconds."""
    notice = Notice("größer", AT, "info", SPEAKER, "app", "office365", "exchange")

    assert json.loads(notice.as_json()) == {
        "msg": "größer",
        "time": "2026-11-17T09:05:00.000000Z",
        "level": "info",
        "collector_name": "audit",
        "collector_version": __version__,
        "collector_image": f"m365watch/office365:{__version__}",
        "input_name": "office365",
        "service_name": "exchange",
        "module_name": "app",
        "job_id": "12",
    }


def test_the_tag_names_the_level() -> None:
    """Devo makes the column `level2` of it."""
    assert Notice("m", AT, "warning", SPEAKER, "app").tag == "devo.collectors.out.local.warning"


@pytest.mark.parametrize(
    ("named", "image"),
    [
        (None, f"m365watch/office365:{__version__}"),
        ("", f"m365watch/office365:{__version__}"),
        ("devo.com/collectors/office365:2", "devo.com/collectors/office365:2"),
        ("acme/audit:7", f"acme/audit:7 (m365watch/office365:{__version__})"),
    ],
)
def test_every_image_is_found_by_the_word_office365(named: str | None, image: str) -> None:
    """The query of Devo's product page looks for it as a whole word."""
    assert collector_image(named) == image


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"{FEED}: goes on", ("office365", "exchange")),
        (f"the page of {FEED} 2026-11-17T09:00:00Z..: HTTP 503", ("office365", "exchange")),
        (f"{TENANT}/DLP.All: goes on", ("office365", "dlp")),
        (f"{TENANT}/subscriptions: HTTP 503", ("office365", None)),
        (f"{TENANT}/Audit.SharePoint: goes on", ("office365", None)),
        ("output lake: goes on", (None, None)),
        ("22222222-2222-2222-2222-222222222222/Audit.Exchange: goes on", (None, None)),
    ],
)
def test_a_line_has_the_names_of_the_feed_that_it_names(
    text: str, names: tuple[str | None, str | None]
) -> None:
    """Input and service as the configuration has them; a tenant alone gives the input."""
    assert SPEAKER.input_of(text) == names


@guarantee(24)
def test_what_looks_like_a_secret_is_blotted_out() -> None:
    """A second fence behind the errors, which hold no secret to begin with."""
    token = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"
    secret = "Abc8Q~dEfGhIjKlMnOpQrStUvWxYz0123456789"

    assert plain_msg(
        f"got {token}, sent Bearer abc.def and {secret}; known: swordfish", hide=["swordfish"]
    ) == ("got ***, sent *** and ***; known: ***")


@pytest.mark.parametrize("text", ["x", "eyJ", "a.Q~", "Bearer ", "x "])
def test_no_text_takes_long_to_look_through(text: str) -> None:
    """Servers choose what they answer; each of these is read in one pass (a look back took minutes)."""
    assert len(plain_msg(text * 50_000)) <= MSG_CHARACTERS_MAX


def test_a_line_stays_a_line_and_short() -> None:
    """Servers answer with pages; the first of it is enough."""
    text = plain_msg("a\nb\r\n\tc " + "x" * 10_000)

    assert text.startswith("a b c xxx")
    assert len(text) == MSG_CHARACTERS_MAX


@guarantee(24)
def test_the_secrets_of_a_configuration_are_found_wherever_they_are() -> None:
    """Nested in sections and lists; a very short one would blot out half of every line."""
    tenant = TenantSettings(
        input_name="office365",
        input_id="1",
        tenant_id=TENANT,
        client_id="c",
        credentials=(client_secret("swordfish"),),
        cloud=Cloud("local", "", "", ""),
        publisher_id="p",
        services=(),
        requests_per_minute=None,
        lookback_s=1.0,
    )

    assert list_secrets((tenant, [Secret("passphrase")], Secret("abc"), "plain text")) == {
        "swordfish",
        "passphrase",
    }


@guarantee(24)
def test_a_line_of_a_key_is_a_secret_like_the_whole_of_it() -> None:
    """So are the password of a certificate, and what App Service tells its processes."""
    key = "-----BEGIN PRIVATE KEY-----\nAAAABBBB\nCCCCDDDD\n-----END PRIVATE KEY-----\n"
    credentials = (
        certificate(Path("c"), key_text=key, password="opensesame"),
        managed_identity(endpoint=IdentityEndpoint("http://localhost", Secret("headertext"))),
    )

    assert list_secrets(credentials) == {key, "AAAABBBB", "CCCCDDDD", "opensesame", "headertext"}


def test_an_output_of_devos_gets_tag_and_body() -> None:
    """What a wire needs and no more: the tag, and one JSON object in bytes."""
    taken: list[tuple[str, bytes]] = []

    class Wire:
        name = "wire"

        async def write_tagged(self, tagged: Sequence[tuple[str, bytes]], /) -> None:
            taken.extend(tagged)

    notice = Notice("m", AT, "error", SPEAKER, "app")
    asyncio.run(TaggedNotices(Wire()).write_notices([notice]))

    assert taken == [("devo.collectors.out.local.error", notice.as_json())]
