"""`detections.notifications`: each target by its type, secrets kept, and every mistake named by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m365watch.config.loader import parse_settings
from m365watch.config.models.notifications import channel_sections
from m365watch.health.event_log import list_secrets
from m365watch.registry.channel_specs import Channel
from settings_documents import OTHER_TENANT, TENANT, Document, filled_in, mistakes_of, settings_of

URL = "https://hooks.example/services/made-up-secret?sig=made-up"
SIGNING = "0123456789abcdef"
LEAST: dict[str, Document] = {
    "webhook": {"webhook_url": URL, "signing_secret": SIGNING},
    "slack": {"webhook_url": URL},
    "teams": {"webhook_url": URL},
    "pagerduty": {"routing_key": "made-up-routing-key"},
    "email": {"host": "mail.example", "sender": "a@contoso.example", "recipients": "soc@contoso.example"},
    "syslog": {"address": "siem.example", "port": 6514, "transport": "tls"},
    "output": {"output": "files"},
}
"""The least that each type needs."""
OUTPUTS = {"files": {"type": "files"}, "lake": {"type": "lake"}}


def document(**targets: Any) -> Document:
    return filled_in() | {"outputs": OUTPUTS, "detections": {"notifications": targets}}


def target(kind: str, **keys: Any) -> Channel[Any]:
    [found] = settings_of(document(one={"type": kind} | LEAST[kind] | keys)).detections.channels
    return found


def test_every_type_has_its_least_and_its_defaults() -> None:
    """Medium and worse, of all rules and tenants, at a pace that the service takes."""
    targets = {kind: target(kind) for kind in LEAST}

    assert LEAST.keys() == channel_sections().keys()
    assert {one.section.min_severity for one in targets.values()} == {"medium"}
    assert {kind: one.section.rate_limit_per_minute for kind, one in targets.items()} == {
        "webhook": 300,
        "slack": 20,
        "teams": 10,
        "pagerduty": 60,
        "email": 6,
        "syslog": None,
        "output": None,
    }
    assert {kind for kind, one in targets.items() if one.section.tells_closed} == {
        "webhook",
        "syslog",
        "output",
    }


def test_what_a_target_wants_is_as_it_says() -> None:
    """One text stands for a list of one."""
    section = target(
        "slack",
        min_severity="high",
        rules="B08",
        tenants=TENANT.upper(),
        rate_limit_per_minute=5,
        digest_after=3,
        update_interval_secs=0,
        resolved=False,
    ).section

    assert (section.min_severity, section.rules, section.tenants) == ("high", ("b08",), frozenset({TENANT}))
    assert (section.rate_limit_per_minute, section.digest_after, section.update_interval_secs) == (5, 3, 0)
    assert section.resolved is False


def test_each_type_has_what_its_way_needs() -> None:
    """Ports by how the connection is secured, whole outputs by their names."""
    mail, line, output = (target(kind).section for kind in ("email", "syslog", "output"))

    assert (mail.server_port, mail.security, mail.recipients) == (587, "starttls", ("soc@contoso.example",))
    assert (line.format, line.facility, line.tls is not None) == ("rfc5424", 10, True)
    assert output.output == "files"


def test_secrets_come_from_the_environment_or_from_files(tmp_path: Path) -> None:
    """And are blotted out of whatever the collector says of itself."""
    secret = tmp_path / "url"
    secret.write_text(f"{URL}\n")
    secret.chmod(0o600)
    given = document(
        chat={"type": "slack", "webhook_url_file": "url"},
        pager={"type": "pagerduty", "routing_key": "${KEY}"},
        hook={"type": "webhook", "webhook_url": URL, "signing_secret": "${SIGNING}", "token": "${TOKEN}"},
    )
    environment = {"KEY": "key-of-the-service", "SIGNING": SIGNING, "TOKEN": "bearer-token"}
    settings = settings_of(given, path=tmp_path / "c.json", environment=environment)
    chat, pager, hook = settings.detections.channels

    assert [one.type for one in (chat, pager, hook)] == ["slack", "pagerduty", "webhook"]
    assert chat.section.webhook_url.get_secret_value() == URL
    assert list_secrets(settings) >= {URL, "key-of-the-service", SIGNING, "bearer-token"}
    assert URL not in repr(settings)


def test_a_command_that_only_reads_needs_no_secret() -> None:
    """`status` works where the environment lacks them."""
    given = document(chat={"type": "slack", "webhook_url": "${NOPE}"})
    settings = parse_settings(given, path=Path("/c.json"), environment={}, for_reading=True)

    assert [one.name for one in settings.detections.channels] == ["chat"]


def test_a_target_that_is_switched_off_is_not_read() -> None:
    """So that its secret need not be there; a warning says so."""
    settings = settings_of(document(chat={"type": "slack", "enabled": False, "webhook_url": "${NOPE}"}))

    assert settings.detections.channels == ()
    assert "detections.notifications.chat: is switched off and was not read" in settings.warnings


def test_a_webhook_without_a_signature_is_warned_of() -> None:
    """Its receiver could be told anything by anybody."""
    settings = settings_of(document(hook={"type": "webhook", "webhook_url": URL}))

    assert any("hook: is not signed; give signing_secret" in line for line in settings.warnings)


@pytest.mark.parametrize(
    ("kind", "keys", "line"),
    [
        ("slak", {}, '.type: "slak" (text) is no target of notifications; give webhook, email, output'),
        ("slack", {"webhook_url": None}, ".webhook_url: is missing; give the webhook's https URL in quotes"),
        (
            "slack",
            {"webhook_url": "http://hooks.example/x"},
            ".webhook_url: would send the secret unencrypted; http is for loopback hosts only",
        ),
        ("slack", {"webhook_url": "hooks.example"}, ".webhook_url: is not an https URL; give the URL as"),
        (
            "teams",
            {"webhook_url": "https://a b.example/"},
            ".webhook_url: has a space or a character that no URL has; give the URL",
        ),
        ("slack", {"webhook": URL}, '.webhook: unknown key; did you mean "webhook_url"?'),
        ("webhook", {"signing_secret": "short"}, ".signing_secret: has fewer than 16 characters; openssl"),
        ("slack", {"min_severity": "bad"}, '.min_severity: "bad" (text) is not supported by this version'),
        ("slack", {"rate_limit_per_minute": 0}, ".rate_limit_per_minute: 0 (whole number) is out of range"),
        ("slack", {"tenants": [OTHER_TENANT]}, f'.tenants[0]: "{OTHER_TENANT}" (text) is no tenant of any'),
        ("slack", {"rules": " "}, '.rules: " " (text) is no rule\'s number, id, or part of its title;'),
        ("pagerduty", {"routing_key": None}, ".routing_key: is missing; give the integration key"),
        ("email", {"sender": "Ann <a@b.example>"}, '.sender: "Ann <a@b.example>" (text) is a placeholder'),
        ("email", {"sender": "ann"}, '.sender: "ann" (text) is no mail address such as soc@contoso.com;'),
        ("email", {"recipients": []}, ".recipients: a list is empty; give a mail address"),
        ("email", {"username": "u"}, ".password: is missing; username needs it"),
        ("email", {"security": "none"}, ".security: would send alerts unencrypted; it is for a server on"),
        ("syslog", {"transport": "tcp", "key_password": "p"}, ".key_password: is for transport tls only"),
        ("output", {"output": "file"}, '.output: "file" (text) is no output that is switched on; did you'),
        ("output", {"output": "lake"}, '.output: "lake" (text) is a lake, which has the alerts in a table'),
    ],
)
def test_each_mistake_has_its_line(kind: str, keys: Document, line: str) -> None:
    """With the key, what is wrong and what would be right; no secret is in any."""
    lines = mistakes_of(document(one={"type": kind} | LEAST.get(kind, {}) | keys))

    assert any(told.startswith(f"detections.notifications.one{line}") for told in lines), lines
    assert "made-up" not in "".join(lines)


def test_a_target_that_is_no_object_has_its_line() -> None:
    """As an output has."""
    [told] = mistakes_of(document(one=5))

    assert told.startswith("detections.notifications.one: 5 (whole number) is of the wrong kind; give an")
