"""`detections.response`: an application of its own, with every kind of credential that an input takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m365watch.auth.credentials.client_secret.spec import ClientSecretSettings
from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings

GUID = "22222222-2222-2222-2222-222222222222"
OTHER = "33333333-3333-3333-3333-333333333333"


def settings_with(folder: Path, response: object) -> Settings:
    """The settings of a file with that response."""
    credentials = {"tenant_id": GUID, "client_id": GUID, "client_secret": "not-a-real-one"}
    document: dict[str, Any] = {
        "inputs": {"office365": {"id": "1", "enabled": True, "credentials": credentials}},
        "detections": {"response": response},
    }
    return parse_settings(document, path=folder / "m365watch.json", environment={})


def test_the_application_that_responds_has_credentials_of_its_own(tmp_path: Path) -> None:
    """From a file, too, which only its owner may read."""
    file = tmp_path / "secret"
    file.write_text("another-one\n")
    file.chmod(0o600)
    given = {"credentials": {"client_id": OTHER, "client_secret_file": "secret"}}
    response = settings_with(tmp_path, given).detections.responder

    assert response is not None
    assert response.client_id == OTHER
    [secret] = response.credentials
    assert isinstance(secret, ClientSecretSettings)
    assert secret.client_secret.get_secret_value() == "another-one"
    assert settings_with(tmp_path, {}).detections.responder is None


@pytest.mark.parametrize(
    ("credentials", "mistake"),
    [
        ({"client_id": OTHER}, "detections.response.credentials: lacks a credential"),
        ({"client_secret": "x"}, "detections.response.credentials.client_id: is missing"),
        ({"client_id": "me", "client_secret": "x"}, "detections.response.credentials.client_id:"),
        ({"client_id": OTHER, "client_secret_file": "none"}, "client_secret_file:"),
        ({"client_id": OTHER, "client_secret": "x", "tenant": "x"}, "credentials.tenant:"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(
    tmp_path: Path, credentials: dict[str, str], mistake: str
) -> None:
    """As in an input."""
    with pytest.raises(SettingsRefused) as refused:
        settings_with(tmp_path, {"credentials": credentials})

    assert [line for line in refused.value.mistakes if mistake in line]
    assert len(refused.value.mistakes) == 1
