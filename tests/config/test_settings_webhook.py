"""`globals.webhook`: what goes together, safe defaults, and no secret in any text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import parse_settings
from m365watch.config.models.webhook import WebhookSection
from m365watch.health.event_log import list_secrets
from settings_documents import Document, filled_in, mistakes_of, settings_of

AUTH_ID = "an-auth-id-that-nobody-guesses"
USUAL = {"address": "https://hook.example/told/", "auth_id": AUTH_ID, "behind_proxy": True}


def document(**keys: Any) -> Document:
    made = filled_in()
    made["globals"] = {"webhook": {key: value for key, value in (USUAL | keys).items() if value is not None}}
    return made


def webhook_of(**keys: Any) -> WebhookSection:
    found = settings_of(document(**keys)).webhook
    assert found is not None
    return found


def test_without_it_nothing_listens() -> None:
    """Nor where it is switched off."""
    assert settings_of(filled_in()).webhook is None
    assert settings_of(document(enabled=False)).webhook is None


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    """The proxy before it is on this machine as a rule."""
    usual, open_ = webhook_of(), webhook_of(listen="[::]:8443")

    assert (usual.host, usual.port, usual.requests_per_minute) == ("127.0.0.1", 8080, 600)
    assert usual.address == "https://hook.example/told"
    assert (open_.host, open_.port) == ("::", 8443)


def test_the_auth_id_is_a_secret() -> None:
    """It is blotted out of what the collector says, and shown by nothing."""
    settings = settings_of(document())

    assert AUTH_ID in list_secrets(settings)
    assert AUTH_ID not in repr(settings)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"behind_proxy": None}, "certificate_file"),
        ({"behind_proxy": None, "certificate_file": "c.pem"}, "private_key_file"),
        ({"certificate_file": "c.pem", "private_key_file": "k.pem"}, "behind_proxy"),
        ({"address": "http://hook.example/told"}, "address"),
        ({"address": "https://hook.example/told?x=1"}, "address"),
        ({"address": None}, "address"),
        ({"auth_id": "short"}, "auth_id"),
        ({"auth_id": None}, "auth_id"),
        ({"listen": "8080"}, "listen"),
        ({"listen": "127.0.0.1:"}, "listen"),
        ({"listen": "127.0.0.1:99999"}, "listen"),
        ({"listen": ":8080"}, "listen"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"adress": "x"}, "adress"),
    ],
)
def test_what_does_not_go_together_is_named(keys: dict[str, Any], key: str) -> None:
    """One line, with the key; the AuthID stands in none."""
    lines = mistakes_of(document(**keys))

    assert any(line.startswith(f"globals.webhook.{key}:") for line in lines)
    assert not [line for line in lines if AUTH_ID in line or "short" in line]


def test_plain_http_is_for_loopback_alone() -> None:
    """For a simulator, which is reached without TLS."""
    assert webhook_of(address="http://127.0.0.1:9", behind_proxy=None).certificate_file is None


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As every secret in a file; the paths are absolute then."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_text("c")
    key.write_text("k")
    given = document(behind_proxy=None, certificate_file="c.pem", private_key_file="k.pem")

    key.chmod(0o644)
    with pytest.raises(SettingsRefused, match=r"private_key_file: .*chmod 600"):
        parse_settings(given, path=tmp_path / "m365watch.json", environment={})
    key.chmod(0o600)
    webhook = parse_settings(given, path=tmp_path / "m365watch.json", environment={}).webhook
    assert webhook is not None
    assert (webhook.certificate_file, webhook.private_key_file) == (certificate, key)
    key.unlink()
    with pytest.raises(SettingsRefused, match="private_key_file"):
        parse_settings(given, path=tmp_path / "m365watch.json", environment={})
    assert parse_settings(given, path=tmp_path / "m.json", environment={}, for_reading=True).webhook


def test_an_auth_id_whose_file_is_refused_is_one_mistake(tmp_path: Path) -> None:
    """Nothing is said of the length of what nobody read."""
    file = tmp_path / "auth-id"
    file.write_text(AUTH_ID)
    file.chmod(0o644)

    with pytest.raises(SettingsRefused) as refused:
        settings_of(document(auth_id=None, auth_id_file=str(file)))

    [mistake] = refused.value.mistakes
    assert mistake.startswith("globals.webhook.auth_id_file: ")
    assert mistake.endswith(f"can be read by others (mode 0644); run: chmod 600 {file}")
