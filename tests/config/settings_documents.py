"""Documents that tests start from, and the two ways to read one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from m365watch.auth.credentials.client_secret.spec import ClientSecretSettings
from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings, TenantSettings

TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
OTHER_TENANT = "0a1b2c3d-0000-4000-8000-00000000000b"
APPLICATION = "99999999-8888-4777-8666-555555555555"
SECRET = "made~up.secret-value"
PLACE = Path("/somewhere/collector.json")

Document = dict[str, Any]


def filled_in(**changes: object) -> Document:
    """The smallest document that loads; `changes` go into its one input."""
    credentials = {"tenant_id": TENANT, "client_id": APPLICATION, "client_secret": SECRET}
    return {"inputs": {"office365": {"credentials": credentials} | changes}}


def secret_of(tenant: TenantSettings) -> str:
    """The client secret, which is the tenant's only credential."""
    (credential,) = tenant.credentials
    assert isinstance(credential, ClientSecretSettings)
    return credential.client_secret.get_secret_value()


def settings_of(
    document: object, *, path: Path = PLACE, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings that the document stands for."""
    return parse_settings(document, path=path, environment=environment or {})


def mistakes_of(
    document: object, *, path: Path = PLACE, environment: Mapping[str, str] | None = None
) -> list[str]:
    """The lines with which the document is refused."""
    with pytest.raises(SettingsRefused) as refused:
        parse_settings(document, path=path, environment=environment or {})
    assert refused.value.__cause__ is None
    return refused.value.mistakes
