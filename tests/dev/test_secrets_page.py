"""docs/secrets.md: its configurations load, and its keys are those that the schema has."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from m365watch.config.loader import parse_settings
from m365watch.config.models.credentials import Credentials
from m365watch_simulator.entra.federation import Issuer
from m365watch_testing.applications import ApplicationCertificate, write_private
from m365watch_testing.clock import START

PAGE = (Path(__file__).parents[2] / "docs" / "secrets.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "..." not in block]
OWN = ApplicationCertificate(START - timedelta(days=1))


@pytest.mark.parametrize("block", BLOCKS)
def test_every_configuration_of_the_page_loads(block: str, tmp_path: Path) -> None:
    """With the files and variables that it names."""
    write_private(tmp_path / "m365watch.pem", OWN.pem)
    write_private(tmp_path / "m365watch.key", OWN.key_pem())
    write_private(tmp_path / "token", Issuer("http://127.0.0.1").token(START))
    for year in ("this", "next"):
        write_private(tmp_path / f"secret-of-{year}-year", f"secret of {year} year")
    document = {"inputs": {"office365": yaml.safe_load(block)}}
    environment = {
        "M365_PASSWORD": "pass",
        "AZURE_TENANT_ID": "11111111-1111-4111-8111-111111111111",
        "AZURE_CLIENT_ID": "22222222-2222-4222-8222-222222222222",
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
    }
    settings = parse_settings(document, path=tmp_path / "c.yaml", environment=environment)

    assert settings.tenants[0].credentials
    assert settings.warnings == ()


def test_every_kind_of_credential_has_its_place_on_the_page() -> None:
    """And in the table that says which to use."""
    kinds = ("managed_identity", "federated_token_file", "certificate_file", "client_secret")

    assert len(BLOCKS) == 4
    assert [kind for kind in kinds if f"| `{kind}` |" not in PAGE] == []
    assert [key for key in Credentials.model_fields if key not in PAGE] == []
