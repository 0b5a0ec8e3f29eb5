"""Where the calls of a plan go: the same on the command line and on the board."""

from __future__ import annotations

from pathlib import Path

import pytest

from m365watch.config.loader import parse_settings
from m365watch.response.steps.step import GraphCall, cloud_of

TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
OWN = {"login_url": "https://login.example", "management_url": "https://manage.example"}
DOD = "https://dod-graph.microsoft.us"


@pytest.mark.parametrize(
    ("cloud", "tenant", "url"),
    [
        ("gcc-high", TENANT, "https://graph.microsoft.us"),
        (OWN | {"graph_url": "https://graph.example"}, TENANT, "https://graph.example"),
        (OWN, TENANT, "https://graph.microsoft.com"),
        (OWN | {"management_url": "https://manage.protection.apps.mil"}, TENANT, DOD),
        (OWN | {"login_url": "https://login.microsoftonline.us"}, TENANT, "https://graph.microsoft.us"),
        ("gcc-high", "0a1b2c3d-0000-4000-8000-00000000000b", "https://graph.microsoft.com"),
    ],
    ids=[
        "a cloud of Microsoft's",
        "one's own",
        "one's own without Graph",
        "without Graph, of DoD",
        "without Graph, signing in in US",
        "a tenant that has left",
    ],
)
def test_a_call_names_a_whole_address(cloud: object, tenant: str, url: str) -> None:
    """Found by following an alert: the board named an address without a host where a cloud has no Graph."""
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made~up.secret-value"}
    document = {"inputs": {"office365": {"credentials": credentials, "cloud": cloud}}}
    settings = parse_settings(document, path=Path("/somewhere/m365watch.json"), environment={})

    line = GraphCall("POST", "/users/ann/revokeSignInSessions").line(cloud_of(settings, tenant).graph_url)

    assert line == f"POST {url}/v1.0/users/ann/revokeSignInSessions"
